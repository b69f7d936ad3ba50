"""Commands as jobs of a Ray cluster: what is sent there, under which name, and how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jobs
import pipeline
import training
from jobs.attempt import JOB_VARIABLE
from pipeline import hosts
from pipeline.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# What is sent of this environment: where things are. Passwords are the cluster's own business.
SETTINGS = ("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_REGION", hosts.VARIABLE)
# Ray kills a job so long after it was told to stop; a training keeps a checkpoint first.
STOP_WAIT_S = 30
_PACKAGES = (pipeline, training, jobs)
# Files beside the modules that belong to the project, as pyproject.toml declares them.
PACKAGE_DATA = {
    "training": ("recipes/*.toml", "tracking/*.jinja", "tracking/*.css"),
    "jobs": ("tables/*.toml",),
}
_SLOT = re.compile(r"[\w.:+-]{1,64}", re.ASCII)
_URL_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]+@")
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN(?!_PATH)|CREDENTIAL|API_KEY")
# A shorter one is found in words that have nothing to do with it.
_SECRET_LENGTH = 6


@dataclass(frozen=True, slots=True)
class Submission:
    """A command as it is sent to a cluster.

    Attributes:
        name: of the job; the same command, settings and slot have the same name.
        entrypoint: for the shell.
        environment: variables of the job.
        files: settings that the command names: where each is in the package, and here.
    """

    name: str
    entrypoint: str
    environment: Mapping[str, str]
    files: Mapping[str, Path]


def describe(command: Sequence[str], slot: str = "") -> Submission:
    """What a command is as a job.

    It runs in this folder where the cluster has it, with this project before any that is installed
    there. A recipe's file that it names goes along; all other paths are the cluster's.

    Raises:
        UserError: a password in the command, which every user of the cluster could read.
    """
    if slot and not _SLOT.fullmatch(slot):
        raise UserError(f"--slot: {slot!r}, allowed: letters, digits and . _ : + -, up to 64")
    settings = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    for where, text in [*(("COMMAND", word) for word in command), *settings.items()]:
        _check_no_secret(where, text)
    words: list[str] = []
    files: dict[str, Path] = {}
    recipes: dict[str, str] = {}
    for index, word in enumerate(command):
        words.append(shlex.quote(word))
        if word.endswith(".toml") and Path(word).is_file():
            place = f"settings/{index}/{Path(word).name}"
            words[-1] = f'"$PACKED"/{shlex.quote(place)}'
            files[place] = Path(word)
            recipes[word] = Path(word).read_text("utf-8")
        elif word.isidentifier():
            recipe = resources.files(training) / "recipes" / f"{word}.toml"
            recipes |= {word: recipe.read_text("utf-8")} if recipe.is_file() else {}
    if command[0] == "intertitle":
        # The packed one, whatever is installed there or lies in this folder.
        words[0] = "python -P -m jobs"
    here = Path.cwd()
    made_of = json.dumps([list(command), slot, str(here), settings, recipes], sort_keys=True)
    named = [_title(command), slot, hashlib.sha256(made_of.encode()).hexdigest()[:10]]
    name = "-".join(part for part in named if part)
    return Submission(
        name,
        f"PACKED=$PWD; cd {shlex.quote(str(here))} 2>/dev/null; exec {' '.join(words)}",
        {**settings, JOB_VARIABLE: name, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
        files,
    )


def send(client: JobSubmissionClient, submission: Submission, attempt_id: str) -> None:
    """Pack the project and start a job; a package that the cluster has is not sent again.

    Args:
        client: of the cluster.
        submission: what to run.
        attempt_id: Ray's name of the job, which no other may have.

    Raises:
        RuntimeError: the cluster has a job of this name, or refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="intertitle-") as folder:
        packed = Path(folder)
        for package in _PACKAGES:
            home = Path(next(iter(package.__path__)))
            for file in _files_of(home):
                target = packed / home.name / file.relative_to(home)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        for place, file in submission.files.items():
            (packed / place).parent.mkdir(parents=True)
            shutil.copyfile(file, packed / place)
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=attempt_id,
            runtime_env={"working_dir": folder, "env_vars": dict(submission.environment)},
        )


def _files_of(package: Path) -> list[Path]:
    """The modules of a package and its declared data; whatever else lies there stays here."""
    patterns = ("**/*.py", *PACKAGE_DATA.get(package.name, ()))
    found = {path for pattern in patterns for path in package.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _title(command: Sequence[str]) -> str:
    """What a person calls a command: "train-s2vt", "python"."""
    words = command[1:3] if command[0] == "intertitle" else command[:1]
    plain = [Path(word).stem for word in words if not word.startswith("-")]
    return re.sub(r"[^a-zA-Z0-9_]+", "-", "-".join(plain))[:40].strip("-")


def _check_no_secret(where: str, text: str) -> None:
    """Refuse what a list of jobs, a log and a list of processes would show."""
    elsewhere = "allowed: in the environment of the cluster's nodes alone"
    if _URL_PASSWORD.search(text):
        raise UserError(f"{where}: a URL with a password, {elsewhere}")
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SECRET_LENGTH and value in text:
            raise UserError(f"{where}: the value of {name} is in it, {elsewhere}")
