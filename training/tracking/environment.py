"""What a job ran on: the installed packages, Python, the platform, the commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path


def packages() -> list[str]:
    """Every installed distribution as `name==version`, sorted."""
    found = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}
    return sorted(found, key=str.lower)


def describe() -> dict[str, str]:
    """Tags of a run; the commit goes by the name under which MLflow's page shows it."""
    tags = {"python": platform.python_version(), "platform": platform.platform()}
    if commit := git_commit(Path(__file__)):
        tags["mlflow.source.git.commit"] = commit
    return tags


def git_commit(file: Path) -> str | None:
    """The commit of the checkout that tracks `file`, with `-dirty` where something is changed."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(file.parent), *words]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=20
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # an installed copy has no commit of its own
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
