"""What all pods of this project have in common."""

from __future__ import annotations

from typing import Any

from jobs.deploying.settings import (
    DATA,
    GRACE_S,
    JOB_VARIABLES,
    OPTIONAL_JOB_VARIABLES,
    USER_ID,
    Settings,
    Size,
)

Tree = dict[str, Any]

# Of every pod; what the network policy holds for.
PART_OF = "app.kubernetes.io/part-of"
# Where a spot machine says what it is; clouds differ, and this is Karpenter's.
SPOT = ("karpenter.sh/capacity-type", "spot")
# Set by NVIDIA's operator on nodes that have one.
_HAS_GPU = ("nvidia.com/gpu.present", "true")
_GPU = "nvidia.com/gpu"


def labels(settings: Settings) -> Tree:
    """Of every object and pod."""
    return {PART_OF: settings.name}


def template(
    settings: Settings,
    container: Tree,
    size: Size,
    on_spot: bool,
    runs_jobs: bool = True,
    **spec: Any,
) -> Tree:
    """A pod of one container.

    Args:
        settings: of where it runs.
        container: its name, and what only this one has.
        size: what it may use; it is placed where there is as much.
        on_spot: whether on a machine that may be taken away.
        runs_jobs: whether it needs what a job reads.
        spec: more of the pod.
    """
    return {
        "metadata": {"labels": labels(settings)},
        "spec": {
            **spec,
            **_placement(size, on_spot),
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(settings, container, size, runs_jobs)],
            "volumes": [
                {
                    "name": "data",
                    "persistentVolumeClaim": {"claimName": f"{settings.name}-data"},
                },
                *spec.get("volumes", ()),
            ],
        },
    }


def resources(size: Size) -> Tree:
    """As many are asked for as may be used: whoever takes more memory is ended, nobody else."""
    amount: Tree = {"cpu": str(size.cpus), "memory": f"{size.memory_gib}Gi"}
    if size.gpus:
        amount[_GPU] = str(size.gpus)
    return {"requests": amount, "limits": dict(amount)}


def _variables(settings: Settings) -> list[Tree]:
    """By name: a Secret may have more in it, such as the admin's password."""
    return [
        {
            "name": name,
            "valueFrom": {
                "secretKeyRef": {
                    "name": settings.name,
                    "key": name,
                    **({"optional": True} if name in OPTIONAL_JOB_VARIABLES else {}),
                }
            },
        }
        for name in (*JOB_VARIABLES, *OPTIONAL_JOB_VARIABLES)
    ]


def _container(settings: Settings, container: Tree, size: Size, runs_jobs: bool) -> Tree:
    return {
        **container,
        "image": settings.image,
        "workingDir": DATA,
        # Where things are, and who may reach them; see README.md.
        **({"env": _variables(settings)} if runs_jobs else {}),
        "resources": resources(size),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            *container.get("volumeMounts", ()),
        ],
    }


def _placement(size: Size, on_spot: bool) -> Tree:
    selector: Tree = {}
    tolerations: list[Tree] = []
    if size.gpus:
        selector |= dict([_HAS_GPU])
        tolerations.append({"key": _GPU, "operator": "Exists", "effect": "NoSchedule"})
    if on_spot:
        key, value = SPOT
        selector[key] = value
        tolerations.append(
            {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
        )
    return {
        **({"nodeSelector": selector} if selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
    }
