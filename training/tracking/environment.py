"""Environment of a job: installed packages, Python, platform and git commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path


def packages() -> list[str]:
    """Return every installed distribution as `name==version`, sorted."""
    pinned = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}
    return sorted(pinned, key=str.lower)


def describe() -> dict[str, str]:
    """Return tags for a run; the commit uses the tag that MLflow's page displays."""
    tags = {"python": platform.python_version(), "platform": platform.platform()}
    if commit := git_commit(Path(__file__)):
        tags["mlflow.source.git.commit"] = commit
    return tags


def git_commit(file: Path) -> str | None:
    """Return the commit of the checkout that tracks `file`, with `-dirty` if it has changes."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(file.parent), *words]
        completed = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=20
        )
        return completed.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # an installed copy has no commit of its own
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
