"""Rendering of the deployment settings to the text of each file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from intertitle.jobs.deploying.compose import compose
from intertitle.jobs.deploying.image import dockerfile, dockerignore
from intertitle.jobs.deploying.kuberay import MAX_NAME, ray_cluster, ray_cron_job, ray_job
from intertitle.jobs.deploying.kubernetes import cron_job, network_policy
from intertitle.jobs.deploying.launcher import launcher
from intertitle.jobs.deploying.settings import DATA, Settings

_TITLE = "# Written by `make infra` from jobs/deploying: changed there, not here.\n"
_CONFIG = Path(DATA) / "retrain.toml"
_TIMES = ("0 3 * * *", "UTC")


def files(settings: Settings | None = None) -> dict[str, str]:
    """Return the text of each file, by its path in `infra/`."""
    settings = settings or Settings()
    schedule = ("retrain", *_TIMES, retrain_command(_CONFIG, *_TIMES, ["--if-new"]))
    trees = {
        "compose.yaml": compose(settings),
        "ray-cluster.yaml": launcher(settings),
        "kubernetes/cron-job.yaml": cron_job(settings, *schedule),
        "kubernetes/network-policy.yaml": network_policy(settings),
        "kubernetes/ray-cluster.yaml": ray_cluster(settings),
        "kubernetes/ray-cron-job.yaml": ray_cron_job(settings, *schedule),
        "kubernetes/ray-job.yaml": ray_job(settings),
    }
    return {
        "Dockerfile": _TITLE + dockerfile(),
        "Dockerfile.dockerignore": _TITLE + dockerignore(),
        **{path: _TITLE + as_yaml(tree) for path, tree in trees.items()},
    }


def write(texts: dict[str, str], folder: Path) -> None:
    """Write texts to files below a folder.

    Args:
        texts: text of each file, by its path in the folder.
        folder: folder to write to.
    """
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def retrain_command(config: Path, cron: str, timezone: str, options: list[str]) -> list[str]:
    """Return the command of a retraining that computes its slot's time itself."""
    times = ["--cron", cron, "--timezone", timezone]
    return ["intertitle", "retrain", str(config), *times, *options]


def retrain_name(model: str) -> str:
    """Return a valid Kubernetes name for the schedule of a model."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in model.lower())
    return f"retrain-{plain}"[:MAX_NAME].strip("-")


def as_yaml(tree: dict[str, Any]) -> str:
    """Return a tree as YAML; keys keep their order, and long commands stay on one line."""
    text: str = yaml.safe_dump(tree, sort_keys=False, width=1000, allow_unicode=True)
    return text
