"""Pod templates that all Kubernetes objects of the project share."""

from __future__ import annotations

from typing import Any

from intertitle.jobs.deploying.settings import (
    DATA,
    GRACE_S,
    JOB_VARIABLES,
    OPTIONAL_JOB_VARIABLES,
    USER_ID,
    Settings,
    Size,
)

Tree = dict[str, Any]

# Label of every pod, which the network policy selects.
PART_OF = "app.kubernetes.io/part-of"
# Node label of a spot machine; clouds differ, and this is the label of Karpenter.
SPOT = ("karpenter.sh/capacity-type", "spot")
# Node label that NVIDIA's GPU operator sets.
_HAS_GPU = ("nvidia.com/gpu.present", "true")
_GPU = "nvidia.com/gpu"


def labels(settings: Settings) -> Tree:
    """Return the labels of every object and pod."""
    return {PART_OF: settings.name}


def template(
    settings: Settings,
    container: Tree,
    size: Size,
    on_spot: bool,
    runs_jobs: bool = True,
    **spec: Any,
) -> Tree:
    """Return the template of a pod with one container.

    Args:
        settings: deployment settings.
        container: name and further fields of the container.
        size: resources of the pod, both its requests and its limits.
        on_spot: whether the pod runs on a spot machine, which may be taken away.
        runs_jobs: whether the container gets the environment variables of a job.
        spec: further fields of the pod's spec.
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
    """Return requests equal to limits, so that only a pod that exceeds its own memory is killed."""
    amount: Tree = {"cpu": str(size.cpus), "memory": f"{size.memory_gib}Gi"}
    if size.gpus:
        amount[_GPU] = str(size.gpus)
    return {"requests": amount, "limits": dict(amount)}


def _variables(settings: Settings) -> list[Tree]:
    """Return the job's variables one by one: the Secret may also contain the admin's password."""
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
        # Addresses and credentials of services; see README.md.
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
