"""The same schedule for other clocks."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from intertitle.jobs.deploying.settings import Settings
from intertitle.jobs.retraining.cron import Clock
from intertitle.jobs.retraining.export import FORMATS, export
from intertitle.pipeline.errors import UserError

CLOCK = Clock("0 3 * * 1-5", "Europe/Berlin")


def exported(format: str, clock: Clock = CLOCK) -> str:
    return export(
        format, Path("/etc/clips 5%.toml"), "Clips_2", clock, ["--if-new"], Settings("image:1")
    )


def test_kubernetes_runs_one_at_a_time_at_the_same_times() -> None:
    cron_job = yaml.safe_load(exported("kubernetes"))
    spec = cron_job["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("0 3 * * 1-5", "Europe/Berlin")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert cron_job["metadata"]["name"] == "retrain-clips-2"
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "image:1"
    assert container["command"] == [
        "intertitle",
        "retrain",
        "/etc/clips 5%.toml",
        "--cron",
        "0 3 * * 1-5",
        "--timezone",
        "Europe/Berlin",
        "--if-new",
    ]


def test_kuberay_runs_the_same_command_at_the_same_times() -> None:
    exports = [yaml.safe_load(exported(format)) for format in ("kubernetes", "kuberay")]
    (container,) = exports[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    ray = exports[1]["spec"]
    assert shlex.split(ray["jobTemplate"]["entrypoint"]) == container["command"]
    assert exports[1]["metadata"]["name"] == exports[0]["metadata"]["name"]
    for field in ("schedule", "timeZone"):
        assert ray[field] == exports[0]["spec"][field]
    cluster = ray["jobTemplate"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["containers"][0]["image"] == "image:1"


@pytest.mark.parametrize(
    ("cron", "calendars"),
    [
        ("0 3 * * *", ["*-*-* 03:00:00 Europe/Berlin"]),
        ("*/20 3,15 * * 1-5", ["Mon,Tue,Wed,Thu,Fri *-*-* 03,15:00,20,40:00 Europe/Berlin"]),
        # Of two that are given cron takes either.
        ("0 3 1 * 0", ["*-*-01 03:00:00 Europe/Berlin", "Sun *-*-* 03:00:00 Europe/Berlin"]),
        ("5 0 1,15 6 *", ["*-06-01,15 00:05:00 Europe/Berlin"]),
    ],
)
def test_systemd_is_told_the_same_times(cron: str, calendars: list[str]) -> None:
    text = exported("systemd", Clock(cron, "Europe/Berlin"))
    assert [line for line in text.splitlines() if line.startswith("OnCalendar=")] == [
        f"OnCalendar={calendar}" for calendar in calendars
    ]
    assert "ExecStart=/usr/bin/env intertitle retrain '/etc/clips 5%%.toml' --cron" in text
    if shutil.which("systemd-analyze"):
        for calendar in calendars:
            subprocess.run(["systemd-analyze", "calendar", calendar], check=True)


def test_cron_is_told_the_time_zone_and_no_line_ends_at_a_percent_sign() -> None:
    zone, line = exported("cron").splitlines()[1:]
    assert zone == "CRON_TZ=Europe/Berlin"
    assert line.startswith("0 3 * * 1-5 intertitle retrain '/etc/clips 5\\%.toml' --cron '0 3")


def test_what_can_not_be_said_is_refused() -> None:
    with pytest.raises(UserError, match="systemd has no word"):
        exported("systemd", Clock("0 3 L * *", "UTC"))
    with pytest.raises(UserError, match=", ".join(FORMATS)):
        exported("fcron")
