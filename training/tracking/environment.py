"""Environment of a job: packages, Python, platform, git commit, and the project's own files."""

import importlib.metadata
import platform
import subprocess
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

# Data files of the project's packages, which may be in different folders, as pyproject.toml
# declares them.
PACKAGES: dict[str, tuple[str, ...]] = {
    "intertitle": ("py.typed",),
    "intertitle.pipeline": (),
    "intertitle.training": ("recipes/*.toml", "reports/**/*.jinja", "reports/*.css"),
    "intertitle.jobs": ("reproduce/tables/*.toml", "retraining/*.yaml", "serving/page/*.css"),
}


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


def project_files() -> dict[PurePosixPath, Path]:
    """Return the modules and the declared data files of the project by the place they install to.

    Other files in its folders are left out.
    """
    files = {}
    for package, patterns in PACKAGES.items():
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0])
        for pattern in ("**/*.py", *patterns):
            for file in folder.glob(pattern):
                if file.is_file() and not file.is_symlink():
                    place = PurePosixPath(*package.split("."), *file.relative_to(folder).parts)
                    files[place] = file
    return dict(sorted(files.items()))
