"""Kubernetes without Ray's operator: a schedule, and who may speak to whom."""

from __future__ import annotations

from typing import Any

from jobs.cluster import JOB_SERVER_PORT
from jobs.deploying.pods import labels, template
from jobs.deploying.settings import RETRIES, START_WITHIN_S, Settings, Size
from training.tracking.server import ServerSettings

Tree = dict[str, Any]

# A slot on a machine of its own, with a Ray of its own.
_SIZE = Size(4, 16, "")
# Ray's object store; Kubernetes alone gives 64 MiB.
_SHARED_MEMORY = "4Gi"
# Of a pod that may start jobs and look at Ray's page.
CLIENT = "intertitle-client"
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def cron_job(
    settings: Settings, name: str, schedule: str, timezone: str, command: list[str]
) -> Tree:
    """A command at every time of a cron expression, one at a time."""
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
                # A machine that was taken away is no failure; the next attempt goes on.
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                },
                # A user's mistake fails every time.
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
    """Ray's nodes speak to one another, to what they need, and to nobody else.

    A token says who may give orders, but what Ray says is not encrypted, so nobody may listen.
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
                # Names.
                {"ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]},
                # The object store, hooks, Kubernetes itself, which the autoscaler asks; MLflow.
                {"ports": [_tcp(443), _tcp(6443), _tcp(ServerSettings.port)]},
            ],
        },
    }


def _ours(settings: Settings) -> Tree:
    return {"podSelector": {"matchLabels": labels(settings)}}


def _tcp(port: int) -> Tree:
    return {"protocol": "TCP", "port": port}
