"""Ray on Kubernetes, as KubeRay 1.7 reads it: a cluster, a job with one of its own, and a schedule.

KubeRay itself adds each node's health checks, its ports and the token to the pods.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import yaml

from jobs.attempt import JOB_VARIABLE
from jobs.deploying.pods import labels, resources, template
from jobs.deploying.settings import (
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
# A job that is not done by then hangs, or would meet the next slot: KubeRay starts that anyway.
_LONGEST_S = 20 * 3600
# How long what ended can still be looked at.
_KEEP_S = 600
# KubeRay adds a slot's and a cluster's suffix, and Kubernetes those of services.
MAX_NAME = 36


def ray_cluster(settings: Settings) -> Tree:
    """A cluster that stays, for `intertitle submit`."""
    return {**_head("RayCluster", settings.name, settings), "spec": _cluster(settings)}


def ray_job(settings: Settings) -> Tree:
    """One training, on a cluster that is made for it and removed when it ends."""
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
            # An attempt goes on with the run that the one before it began.
            "runtimeEnvYAML": yaml.safe_dump({"env_vars": {JOB_VARIABLE: name}}),
        },
    }


def ray_cron_job(
    settings: Settings, name: str, schedule: str, timezone: str, command: list[str]
) -> Tree:
    """A command at every time of a cron expression, on a cluster of its own."""
    return {
        **_head("RayCronJob", name, settings),
        "spec": {
            "schedule": schedule,
            "timeZone": timezone,
            "jobTemplate": _job(settings, command),
        },
    }


def _job(settings: Settings, command: list[str]) -> Tree:
    # A job begins when these are there; see `Group.least`.
    workers = tuple(
        replace(group, least=_NUM_TRAINERS) if group.size.gpus else group
        for group in settings.workers
    )
    return {
        "entrypoint": shlex.join(command),
        "backoffLimit": RETRIES,
        "activeDeadlineSeconds": _LONGEST_S,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEEP_S,
        "rayClusterSpec": _cluster(replace(settings, workers=workers)),
        # Hands the job in and follows it; one of our pods, so that the network lets it.
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
        # The Secret has the token as its key auth_token.
        "authOptions": {"mode": "token", "secretName": f"{settings.name}-ray"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": IDLE_S,
            "resources": resources(_SMALL),
        },
        "headGroupSpec": {
            # It keeps the cluster's state, so that no work runs on it and no spot machine has it.
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
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
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
