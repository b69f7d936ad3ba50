"""Configuration of Ray's cluster launcher, `ray up`: AWS machines with one container each."""

from __future__ import annotations

from typing import Any

from intertitle.jobs.cluster.session import HEAD_PORT, JOB_SERVER_PORT
from intertitle.jobs.deploying.settings import DATA, IDLE_S, Group, Settings

Tree = dict[str, Any]

# Paths on every machine, from its image: variables (see README.md), and the shared folder.
_SECRETS = "/etc/intertitle/env"
_SHARED = "/mnt/intertitle"
_DISK_GB = 200


def launcher(settings: Settings) -> Tree:
    """Return the configuration for `ray up infra/ray-cluster.yaml`."""
    max_workers = sum(group.max_workers for group in settings.workers)
    return {
        "cluster_name": settings.name,
        "max_workers": max_workers,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": IDLE_S // 60,
        "provider": {"type": "aws", "region": "eu-central-1", "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": settings.image,
            "container_name": settings.name,
            "pull_before_run": True,
            "run_options": [f"--env-file={_SECRETS}", f"--volume={_SHARED}:{DATA}"],
        },
        "initialization_commands": [
            _must(f"test -r {_SECRETS}", f"{_SECRETS} can not be read"),
            _must(f"mountpoint -q {_SHARED}", f"{_SHARED} is not mounted"),
        ],
        "head_node_type": "head",
        "available_node_types": {
            "head": {
                # The head has the cluster's state, so no work runs on it.
                "resources": {"CPU": 0},
                "min_workers": 0,
                "max_workers": 0,
                "node_config": _machine(settings.head.instance_type),
            },
            **{group.name: _workers(group) for group in settings.workers},
        },
        "head_start_ray_commands": [
            "ray stop",
            f"ray start --head --port={HEAD_PORT} --dashboard-port={JOB_SERVER_PORT} "
            "--dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"ray start --address=$RAY_HEAD_IP:{HEAD_PORT}",
        ],
    }


def _workers(group: Group) -> Tree:
    machine = _machine(group.size.instance_type)
    if group.on_spot:
        machine["InstanceMarketOptions"] = {"MarketType": "spot"}
    return {
        "resources": {"CPU": group.size.cpus, **({"GPU": n} if (n := group.size.gpus) else {})},
        "min_workers": group.min_workers,
        "max_workers": group.max_workers,
        "node_config": machine,
    }


def _machine(instance_type: str) -> Tree:
    disk = {"VolumeSize": _DISK_GB, "VolumeType": "gp3", "Encrypted": True}
    return {
        "InstanceType": instance_type,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
    }


def _must(test: str, complaint: str) -> str:
    return f"{test} || {{ echo '{complaint}, see README.md' >&2; exit 1; }}"
