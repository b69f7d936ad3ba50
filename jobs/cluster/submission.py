"""Commands as jobs of a Ray cluster: the name, files and environment with which a command is sent,
and the run that a further attempt at it resumes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import intertitle.training
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage import allowed_hosts, web
from intertitle.training.tracking.environment import project_files

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from intertitle.training.tracking.store.client import RunRef

# Variable with the job's name, which is the same in every attempt.
JOB_VARIABLE = "INTERTITLE_JOB"
# Variables that are sent: locations of services. Passwords must be set on the cluster itself.
SETTINGS = (
    *("MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_REGION"),
    *(allowed_hosts.VARIABLE, web.USER_AGENT_VARIABLE),
)
# Time in seconds after which Ray kills a stopped job; a training saves a checkpoint first.
STOP_WAIT_S = 30
_SLOT = re.compile(r"[\w.:+-]{1,64}", re.ASCII)
_URL_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]+@")
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN(?!_PATH)|CREDENTIAL|API_KEY")
# Minimum length: a shorter secret would be found in unrelated words.
_SECRET_LENGTH = 6


@dataclass(frozen=True, slots=True)
class Submission:
    """Command as it is sent to a cluster.

    Attributes:
        name: name of the job; the same command, settings and slot have the same name.
        entrypoint: shell command of the job.
        environment: environment variables of the job.
        files: TOML files that the command names, by their path in the uploaded package.
    """

    name: str
    entrypoint: str
    environment: Mapping[str, str]
    files: Mapping[str, Path]


def describe(command: Sequence[str], slot: str = "") -> Submission:
    """Describe a command as a job.

    The job runs in the current folder if that exists on the cluster. It uses the uploaded project
    instead of an installed one. TOML files that the command names are uploaded; all other paths
    refer to the cluster.

    Args:
        command: program and its arguments.
        slot: time of a schedule's slot; another slot makes another job.

    Raises:
        UserError: the slot is invalid, or the command contains a password, which every user of the
            cluster could read.
    """
    if slot and not _SLOT.fullmatch(slot):
        raise UserError(f"--slot: {slot!r}, allowed: letters, digits and . _ : + -, up to 64")
    settings = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    for where, text in [*(("COMMAND", word) for word in command), *settings.items()]:
        _check_no_secret(where, text)
    arguments: list[str] = []
    files: dict[str, Path] = {}
    recipes: dict[str, str] = {}
    for index, word in enumerate(command):
        arguments.append(shlex.quote(word))
        if word.endswith(".toml") and Path(word).is_file():
            place = f"settings/{index}/{Path(word).name}"
            arguments[-1] = f'"$PACKED"/{shlex.quote(place)}'
            files[place] = Path(word)
            recipes[word] = Path(word).read_text("utf-8")
        elif word.isidentifier():
            recipe = resources.files(intertitle.training) / "recipes" / f"{word}.toml"
            recipes |= {word: recipe.read_text("utf-8")} if recipe.is_file() else {}
    if command[0] == "intertitle":
        # Run the uploaded package, whether or not one is installed there or lies in the folder.
        arguments[0] = "python -P -m intertitle.jobs"
    folder = Path.cwd()
    identity = json.dumps([list(command), slot, str(folder), settings, recipes], sort_keys=True)
    name_parts = [_title(command), slot, hashlib.sha256(identity.encode()).hexdigest()[:10]]
    name = "-".join(part for part in name_parts if part)
    # Ray's page shows the beginning of the entrypoint: the name, after a command without effect.
    start = f": {name}; PACKED=$PWD; cd {shlex.quote(str(folder))} 2>/dev/null"
    return Submission(
        name,
        f"{start}; exec {' '.join(arguments)}",
        {**settings, JOB_VARIABLE: name, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
        files,
    )


def send(client: JobSubmissionClient, submission: Submission, attempt_id: str) -> None:
    """Upload the project and start a job; a package that the cluster already has is not sent again.

    Args:
        client: client of the cluster.
        submission: job to run.
        attempt_id: Ray's id of the job, which must be unique.

    Raises:
        RuntimeError: the cluster has a job of this name, or refuses it.
    """
    with tempfile.TemporaryDirectory(prefix="intertitle-") as folder:
        packed = Path(folder)
        for place, file in project_files().items():
            (packed / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, packed / place)
        for name, file in submission.files.items():
            (packed / name).parent.mkdir(parents=True)
            shutil.copyfile(file, packed / name)
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=attempt_id,
            runtime_env={"working_dir": folder, "env_vars": dict(submission.environment)},
        )


def recording_run(
    checkpoints: Path, on_start: Callable[[RunRef], None]
) -> Callable[[RunRef], None]:
    """Wrap `on_start` so that, inside a job, the run is also recorded in the checkpoint folder.

    Args:
        checkpoints: folder of the checkpoints.
        on_start: callback that is called afterwards with the run.
    """

    def note(run: RunRef) -> None:
        if (file := _note(checkpoints)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(f".{run.run_id}")
            unfinished.write_text(run.run_id)
            unfinished.replace(file)
        on_start(run)

    return note


def earlier_run(checkpoints: Path) -> str | None:
    """Return the id of the run that an earlier attempt started, if it has a checkpoint."""
    note = _note(checkpoints)
    if note is None or not note.exists():
        return None
    run_id = note.read_text()
    return run_id if any((checkpoints / run_id).glob("checkpoint_*")) else None


def _title(command: Sequence[str]) -> str:
    """Return a short name of a command, such as "train-s2vt" or "python"."""
    words = command[1:3] if command[0] == "intertitle" else command[:1]
    plain = [Path(word).stem for word in words if not word.startswith("-")]
    return re.sub(r"[^a-zA-Z0-9_]+", "-", "-".join(plain))[:40].strip("-")


def _check_no_secret(where: str, text: str) -> None:
    """Refuse a secret, which the list of jobs, logs and the process list would show.

    Raises:
        UserError: the text contains a secret.
    """
    elsewhere = "allowed: in the environment of the cluster's nodes alone"
    if _URL_PASSWORD.search(text):
        raise UserError(f"{where}: a URL with a password, {elsewhere}")
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SECRET_LENGTH and value in text:
            raise UserError(f"{where}: the value of {name} is in it, {elsewhere}")


def _note(checkpoints: Path) -> Path | None:
    if (job := os.environ.get(JOB_VARIABLE)) is None:
        return None
    # The command is part of the name, because a job may be a script that runs several trainings.
    command = hashlib.sha256(json.dumps(sys.argv[1:]).encode()).hexdigest()[:10]
    return checkpoints / f"{job}-{command}.run"
