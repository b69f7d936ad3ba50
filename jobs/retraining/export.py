"""Export of a schedule to other schedulers: Kubernetes, KubeRay, systemd, cron."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from intertitle.jobs.deploying.kuberay import ray_cron_job
from intertitle.jobs.deploying.kubernetes import cron_job
from intertitle.jobs.deploying.render import as_yaml, retrain_command, retrain_name
from intertitle.jobs.deploying.settings import Settings
from intertitle.jobs.retraining.cron import Clock
from intertitle.pipeline.errors import UserError

FORMATS = ("kubernetes", "kuberay", "systemd", "cron")

_OBJECTS = {"kubernetes": cron_job, "kuberay": ray_cron_job}
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def export(
    format: str, config: Path, model: str, clock: Clock, options: list[str], settings: Settings
) -> str:
    """Return a manifest that runs a retraining's slots; each run computes its slot's time itself.

    Args:
        format: one of `FORMATS`.
        config: path of the retraining's TOML file, on the machine that runs it.
        model: name of the model.
        clock: times of the slots.
        options: further arguments of the command.
        settings: deployment settings, for Kubernetes and KubeRay.

    Raises:
        UserError: the format is unknown, or it can't represent the cron expression.
    """
    times = (clock.cron, clock.timezone)
    if format in _OBJECTS:
        # The path is kept as given, because a container has its own file system.
        command = retrain_command(config, *times, options)
        return as_yaml(_OBJECTS[format](settings, retrain_name(model), *times, command))
    command = retrain_command(config.absolute(), *times, options)
    if format == "systemd":
        return _systemd(model, clock, command)
    if format == "cron":
        return _cron(clock, command)
    raise UserError(f"--export {format!r}: allowed: {', '.join(FORMATS)}")


def _systemd(model: str, clock: Clock, command: list[str]) -> str:
    """Return a service and its timer; slots missed while the machine was off are run once."""
    # systemd expands specifiers that begin with %.
    start = shlex.join(command).replace("%", "%%")
    calendars = "\n".join(f"OnCalendar={line}" for line in _calendars(clock))
    return f"""# /etc/systemd/system/retrain-{model}.service
[Unit]
Description=Retrain {model}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/bin/env {start}
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


def _cron(clock: Clock, command: list[str]) -> str:
    # cron treats % as the end of a line.
    line = shlex.join(command).replace("%", "\\%")
    return (
        "# cronie knows CRON_TZ; Debian's cron has the machine's time zone alone.\n"
        f"CRON_TZ={clock.timezone}\n{clock.cron} {line}\n"
    )


def _list(numbers: Iterable[int], all_of: int | None = None) -> str:
    values = sorted(numbers)
    return "*" if len(values) == all_of else ",".join(f"{number:02}" for number in values)
