"""Export of a schedule to other schedulers: Kubernetes, KubeRay, systemd, cron."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from intertitle.jobs.retraining.cron import Clock
from intertitle.pipeline.errors import UserError

FORMATS = ("kubernetes", "kuberay", "systemd", "cron")
# Maximum length of a name: KubeRay adds suffixes for slot and cluster, Kubernetes for services.
MAX_NAME = 36

# Manifests in this package, of a retraining named `retrain`.
_MANIFESTS = {"kubernetes": "cron-job.yaml", "kuberay": "ray-cron-job.yaml"}
_STORE_VARIABLE = "MLFLOW_TRACKING_URI"
_URL_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]+@")
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def export(
    format: str,
    config: Path,
    model: str,
    clock: Clock,
    options: list[str],
    image: str | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Return a manifest that runs a retraining's slots; each run computes its slot's time itself.

    For this machine, systemd and cron, it names the program's path, the current folder and the
    store of runs.

    Args:
        format: one of `FORMATS`.
        config: path of the retraining's TOML file, on the machine that runs it.
        model: name of the model.
        clock: times of the slots.
        options: further arguments of the command.
        image: container image, for Kubernetes and KubeRay; default: that of the project's version.
        tracking_uri: tracking URI of the runs; one with a password is not written.

    Raises:
        UserError: the format is unknown, or it can't represent the cron expression.
    """
    if format in _MANIFESTS:
        # The path is kept as given, because a container has its own file system.
        command = _command(config, clock, options)
        return _manifest(_MANIFESTS[format], _name(model), clock, command, image)
    command = _command(config.absolute(), clock, options)
    command[0] = str(Path(sys.executable).with_name(command[0]))
    store = tracking_uri if tracking_uri and not _URL_PASSWORD.search(tracking_uri) else None
    if format == "systemd":
        return _systemd(model, clock, command, store)
    if format == "cron":
        return _cron(clock, command, store)
    raise UserError(f"--export {format!r}: allowed: {', '.join(FORMATS)}")


def _command(config: Path, clock: Clock, options: list[str]) -> list[str]:
    times = ["--cron", clock.cron, "--timezone", clock.timezone]
    return ["intertitle", "retrain", str(config), *times, *options]


def _name(model: str) -> str:
    """Return a valid Kubernetes name for the schedule of a model."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in model.lower())
    return f"retrain-{plain}"[:MAX_NAME].strip("-")


def _manifest(file: str, name: str, clock: Clock, command: list[str], image: str | None) -> str:
    """Return a manifest of this package with a schedule's name, times, command and image."""
    text = (resources.files("intertitle.jobs.retraining") / file).read_text("utf-8")
    # Through JSON, so that parts with a YAML anchor become separate.
    tree: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(text)))
    tree["metadata"]["name"] = name
    tree["spec"] |= {"schedule": clock.cron, "timeZone": clock.timezone}
    job = tree["spec"]["jobTemplate"]
    if "entrypoint" in job:
        job["entrypoint"] = shlex.join(command)
    else:
        (container,) = _containers(job)
        container["command"] = command
    if image is not None:
        for container in _containers(job):
            container["image"] = image
    # Keys keep their order, and long commands stay on one line.
    manifest: str = yaml.safe_dump(tree, sort_keys=False, width=1000, allow_unicode=True)
    return manifest


def _containers(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield the containers of all pods in an object, at any depth."""
    if isinstance(tree, list):
        for item in tree:
            yield from _containers(item)
    elif isinstance(tree, dict):
        yield from tree.get("containers", ())
        for value in tree.values():
            yield from _containers(value)


def _systemd(model: str, clock: Clock, command: list[str], store: str | None) -> str:
    """Return a service and its timer; slots missed while the machine was off are run once."""
    # systemd expands specifiers that begin with %.
    start, folder = (text.replace("%", "%%") for text in (shlex.join(command), str(Path.cwd())))
    variable = f"{_STORE_VARIABLE}={store}".replace("%", "%%")
    # A JSON string is quoted like one of systemd.
    environment = f"\nEnvironment={json.dumps(variable, ensure_ascii=False)}" if store else ""
    calendars = "\n".join(f"OnCalendar={line}" for line in _calendars(clock))
    return f"""# /etc/systemd/system/retrain-{model}.service
[Unit]
Description=Retrain {model}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={folder}{environment}
ExecStart={start}
EnvironmentFile=-/etc/intertitle.env

# /etc/systemd/system/retrain-{model}.timer
[Unit]
Description=Retrain {model}: {clock.cron} ({clock.timezone})

[Timer]
{calendars}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _calendars(clock: Clock) -> list[str]:
    """Return the expression as systemd calendar events: two if either of two fields may match."""
    fields = clock.fields
    if any(isinstance(day, tuple) for day in fields.weekdays) or min(fields.days) < 0:
        raise UserError(f"--cron {clock.cron!r}: systemd has no word for 'L' and '#'")
    minutes, hours = _list(fields.minutes), _list(fields.hours)
    months, days = _list(fields.months, 12), _list(fields.days, 31)
    names = dict.fromkeys(_DAYS[int(day)] for day in sorted(fields.weekdays))  # type: ignore[arg-type]
    weekdays = "" if len(names) == 7 else f"{','.join(names)} "
    time = f"{hours}:{minutes}:00 {clock.timezone}"
    if fields.day_and or not weekdays:
        return [f"{weekdays}*-{months}-{days} {time}"]
    return [f"*-{months}-{days} {time}", f"{weekdays}*-{months}-* {time}"]


def _cron(clock: Clock, command: list[str], store: str | None) -> str:
    start = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join(command)}"
    if store:
        start = f"export {_STORE_VARIABLE}={shlex.quote(store)}; {start}"
    # cron treats % as the end of a line.
    line = start.replace("%", "\\%")
    return (
        "# cronie knows CRON_TZ; Debian's cron has the machine's time zone alone.\n"
        f"CRON_TZ={clock.timezone}\n{clock.cron} {line}\n"
    )


def _list(numbers: Iterable[int], all_of: int | None = None) -> str:
    values = sorted(numbers)
    return "*" if len(values) == all_of else ",".join(f"{number:02}" for number in values)
