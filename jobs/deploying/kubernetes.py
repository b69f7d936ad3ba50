"""Objects of Kubernetes that need no KubeRay: a schedule and a network policy."""

from __future__ import annotations

from typing import Any

from intertitle.jobs.cluster.session import JOB_SERVER_PORT
from intertitle.jobs.deploying.pods import labels, template
from intertitle.jobs.deploying.settings import RETRIES, START_WITHIN_S, Settings, Size
from intertitle.training.tracking.server.serve import ServerSettings

Tree = dict[str, Any]

# Size of the pod of a slot, which starts its own Ray.
_SIZE = Size(4, 16, "")
# Shared memory for Ray's object store; the default of Kubernetes is 64 MiB.
_SHARED_MEMORY = "4Gi"
# Label of a pod that may start jobs and open Ray's dashboard.
CLIENT = "intertitle-client"
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def cron_job(
    settings: Settings, name: str, schedule: str, timezone: str, command: list[str]
) -> Tree:
    """Return a CronJob that runs a command at the times of a cron expression, one at a time."""
    container = {
        "name": "retrain",
        "command": command,
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    memory = {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}
    job = {
        "backoffLimit": RETRIES,
        "podFailurePolicy": {
            "rules": [
                # A machine that is taken away does not count as a failure; the next try resumes.
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                # Invalid input (exit code 2) would fail every time.
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}},
            ]
        },
        "template": template(
            settings,
            container,
            _SIZE,
            on_spot=True,
            restartPolicy="Never",
            volumes=[{"name": "shared-memory", "emptyDir": memory}],
        ),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "labels": labels(settings)},
        "spec": {
            "schedule": schedule,
            "timeZone": timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": START_WITHIN_S,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }


def network_policy(settings: Settings) -> Tree:
    """Return a policy that lets Ray's nodes connect only to each other and to required services.

    The token protects a cluster against foreign commands. But Ray's traffic is not encrypted, so
    the policy also keeps other pods from reaching it.
    """
    clients = {"podSelector": {"matchLabels": {CLIENT: "true"}}}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": dict(_OPERATOR)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": settings.name, "labels": labels(settings)},
        "spec": {
            "podSelector": {"matchLabels": labels(settings)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [_ours(settings)]},
                {"from": [clients, operator], "ports": [_tcp(JOB_SERVER_PORT)]},
            ],
            "egress": [
                {"to": [_ours(settings)]},
                # DNS.
                {"ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]},
                # The object store, hooks, the Kubernetes API (for the autoscaler), and MLflow.
                {"ports": [_tcp(443), _tcp(6443), _tcp(ServerSettings.port)]},
            ],
        },
    }


def _ours(settings: Settings) -> Tree:
    return {"podSelector": {"matchLabels": labels(settings)}}


def _tcp(port: int) -> Tree:
    return {"protocol": "TCP", "port": port}
