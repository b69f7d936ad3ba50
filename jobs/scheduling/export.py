"""The same schedule for clocks that are there already: Kubernetes, systemd, cron."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from jobs.scheduling.clock import Clock
from pipeline.errors import UserError

FORMATS = ("kubernetes", "systemd", "cron")

# So late may a slot still be begun.
_START_WITHIN_S = 3600
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def export(
    format: str, config: Path, model: str, clock: Clock, options: list[str], image: str
) -> str:
    """A manifest that runs a retraining's slots; each finds its slot's time itself.

    Args:
        format: one of `FORMATS`.
        config: of the retraining, where it will be run.
        model: its model's name.
        clock: when.
        options: more words of the command.
        image: of the container, for Kubernetes.

    Raises:
        UserError: there is no such format, or it can't say this expression.
    """
    times = ["--cron", clock.cron, "--timezone", clock.timezone]
    # A container has a file system of its own.
    place = config if format == "kubernetes" else config.absolute()
    command = ["intertitle", "retrain", str(place), *times, *options]
    if format == "kubernetes":
        return _kubernetes(_plain(model), clock, command, image)
    if format == "systemd":
        return _systemd(model, clock, command)
    if format == "cron":
        return _cron(clock, command)
    raise UserError(f"--export {format!r}: allowed: {', '.join(FORMATS)}")


def _kubernetes(name: str, clock: Clock, command: list[str], image: str) -> str:
    """A CronJob; JSON is YAML."""
    container = {
        "name": "retrain",
        "image": image,
        "command": command,
        "envFrom": [{"secretRef": {"name": "intertitle"}}],
        "resources": {
            "requests": {"cpu": "2", "memory": "4Gi"},
            "limits": {"memory": "8Gi"},
        },
    }
    job = {
        "backoffLimit": 3,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }
    return _as_json(
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": f"retrain-{name}"},
            "spec": {
                "schedule": clock.cron,
                "timeZone": clock.timezone,
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": _START_WITHIN_S,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {"spec": job},
            },
        }
    )


def _systemd(model: str, clock: Clock, command: list[str]) -> str:
    """A service and its timer; a slot that was missed while the machine was off is run once."""
    # systemd knows % as its own.
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
    """The expression in systemd's words; two lines where either of two fields may match."""
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
    # cron ends a line at a %.
    line = shlex.join(command).replace("%", "\\%")
    return (
        "# cronie knows CRON_TZ; Debian's cron has the machine's time zone alone.\n"
        f"CRON_TZ={clock.timezone}\n{clock.cron} {line}\n"
    )


def _list(numbers: Iterable[int], all_of: int | None = None) -> str:
    found = sorted(numbers)
    return "*" if len(found) == all_of else ",".join(f"{number:02}" for number in found)


def _plain(name: str) -> str:
    """As Kubernetes writes names."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:40]


def _as_json(tree: object) -> str:
    return json.dumps(tree, indent=2) + "\n"
