"""Objects for KubeRay 1.7: a Ray cluster, a job with a cluster of its own, and a schedule.

KubeRay adds the health checks, the ports and the token of each node to the pods.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import yaml

from intertitle.jobs.cluster.job_resume import JOB_VARIABLE
from intertitle.jobs.deploying.pods import labels, resources, template
from intertitle.jobs.deploying.settings import (
    DATA,
    IDLE_S,
    RAY_VERSION,
    RETRIES,
    Group,
    Settings,
    Size,
)

Tree = dict[str, Any]

_API = "ray.io/v1"
_NUM_TRAINERS = 2
_SMALL = Size(1, 1, "")
# Maximum duration of a job: a longer one hangs, or would overlap with the next slot, which KubeRay
# starts anyway.
_LONGEST_S = 20 * 3600
# Time in seconds for which a finished job can still be inspected.
_KEEP_S = 600
# Maximum length of a name: KubeRay adds suffixes for slot and cluster, Kubernetes for services.
MAX_NAME = 36


def ray_cluster(settings: Settings) -> Tree:
    """Return a permanent Ray cluster, for `intertitle submit`."""
    return {**_head("RayCluster", settings.name, settings), "spec": _cluster(settings)}


def ray_job(settings: Settings) -> Tree:
    """Return a training job with a Ray cluster that is removed when the job ends."""
    command = [
        *("intertitle", "train", "show_and_tell"),
        *("--corpus", f"{DATA}/corpus", "--features", f"{DATA}/features"),
        *("--checkpoints", f"{DATA}/checkpoints", "--workers", str(_NUM_TRAINERS)),
    ]
    name = "train-show-and-tell"
    return {
        **_head("RayJob", name, settings),
        "spec": {
            **_job(settings, command),
            # Lets an attempt resume the run that an earlier attempt started.
            "runtimeEnvYAML": yaml.safe_dump({"env_vars": {JOB_VARIABLE: name}}),
        },
    }


def ray_cron_job(
    settings: Settings, name: str, schedule: str, timezone: str, command: list[str]
) -> Tree:
    """Return a schedule: a command at the times of a cron expression, on a cluster of its own."""
    return {
        **_head("RayCronJob", name, settings),
        "spec": {
            "schedule": schedule,
            "timeZone": timezone,
            "jobTemplate": _job(settings, command),
        },
    }


def _job(settings: Settings, command: list[str]) -> Tree:
    # A training uses the nodes that exist when it starts, so GPU workers are there from the start.
    workers = tuple(
        replace(group, min_workers=_NUM_TRAINERS) if group.size.gpus else group
        for group in settings.workers
    )
    return {
        "entrypoint": shlex.join(command),
        "backoffLimit": RETRIES,
        "activeDeadlineSeconds": _LONGEST_S,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEEP_S,
        "rayClusterSpec": _cluster(replace(settings, workers=workers)),
        # Submits the job and follows it; has our labels, so that the network policy admits it.
        "submitterPodTemplate": template(
            settings,
            {"name": "submitter"},
            _SMALL,
            on_spot=False,
            runs_jobs=False,
            restartPolicy="Never",
        ),
    }


def _cluster(settings: Settings) -> Tree:
    return {
        "rayVersion": RAY_VERSION,
        # The Secret contains the token under the key auth_token.
        "authOptions": {"mode": "token", "secretName": f"{settings.name}-ray"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": IDLE_S,
            "resources": resources(_SMALL),
        },
        "headGroupSpec": {
            # The head has the cluster's state: it runs no work and is not on a spot machine.
            "rayStartParams": {"num-cpus": "0"},
            "template": template(
                settings, {"name": "ray-head"}, settings.head, on_spot=False, restartPolicy="Never"
            ),
        },
        "workerGroupSpecs": [_workers(settings, group) for group in settings.workers],
    }


def _workers(settings: Settings, group: Group) -> Tree:
    container = {"name": "ray-worker"}
    return {
        "groupName": group.name,
        "replicas": group.min_workers,
        "minReplicas": group.min_workers,
        "maxReplicas": group.max_workers,
        "rayStartParams": {},
        "template": template(
            settings, container, group.size, on_spot=group.on_spot, restartPolicy="Never"
        ),
    }


def _head(kind: str, name: str, settings: Settings) -> Tree:
    return {
        "apiVersion": _API,
        "kind": kind,
        "metadata": {"name": name, "labels": labels(settings)},
    }
