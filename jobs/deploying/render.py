"""From the settings to the text of each file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.deploying.compose import compose
from jobs.deploying.image import dockerfile, dockerignore
from jobs.deploying.kuberay import MAX_NAME, ray_cluster, ray_cron_job, ray_job
from jobs.deploying.kubernetes import cron_job, network_policy
from jobs.deploying.launcher import launcher
from jobs.deploying.settings import DATA, Settings

_TITLE = "# Written by `make infra` from jobs/deploying: changed there, not here.\n"
_CONFIG = Path(DATA) / "retrain.toml"
_TIMES = ("0 3 * * *", "UTC")


def files(settings: Settings | None = None) -> dict[str, str]:
    """The text of each file by its path in `infra/`."""
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
    """Write them below a folder."""
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def retrain_command(config: Path, cron: str, timezone: str, options: list[str]) -> list[str]:
    """A retraining that finds its slot's time itself."""
    times = ["--cron", cron, "--timezone", timezone]
    return ["intertitle", "retrain", str(config), *times, *options]


def retrain_name(model: str) -> str:
    """Of a model's schedule, as Kubernetes writes names."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in model.lower())
    return f"retrain-{plain}"[:MAX_NAME].strip("-")


def as_yaml(tree: dict[str, Any]) -> str:
    """In the order that it was put together in; commands are not folded."""
    text: str = yaml.safe_dump(tree, sort_keys=False, width=1000, allow_unicode=True)
    return text
