"""The same schedule for other clocks."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from intertitle.jobs.retraining.cron import Clock
from intertitle.jobs.retraining.export import FORMATS, MAX_NAME, export
from intertitle.pipeline.errors import UserError
from tests.jobs.program import PROGRAM

ROOT = Path(__file__).parents[3]
CLOCK = Clock("0 3 * * 1-5", "Europe/Berlin")


def exported(format: str, clock: Clock = CLOCK, model: str = "Clips_2") -> str:
    return export(format, Path("/etc/clips 5%.toml"), model, clock, ["--if-new"], "image:1")


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
    images = re.findall(r"\bimage: (.+)", exported("kuberay"))
    # The head, two groups of workers, and the submitter.
    assert images == ["image:1"] * 4


@pytest.mark.parametrize("format", ["kubernetes", "kuberay"])
@pytest.mark.parametrize("model", ["clips", "Clips_2", "a model with a very long name " * 3, "ß"])
def test_a_name_is_one_that_kuberay_takes(model: str, format: str) -> None:
    name = yaml.safe_load(exported(format, model=model))["metadata"]["name"]
    assert name.startswith("retrain") and len(name) <= MAX_NAME
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in name) and name[-1].isalnum()


@pytest.mark.parametrize("file", ["cron-job.yaml", "ray-cron-job.yaml"])
def test_a_manifest_without_changes_is_the_file_of_infra(file: str) -> None:
    format = {"cron-job.yaml": "kubernetes", "ray-cron-job.yaml": "kuberay"}[file]
    clock = Clock("0 3 * * *", "UTC")
    text = export(format, Path("/data/retrain.toml"), "clips", clock, ["--if-new"])
    expected = yaml.safe_load((ROOT / "infra" / "kubernetes" / file).read_text("utf-8"))
    expected["metadata"]["name"] = "retrain-clips"
    assert yaml.safe_load(text) == expected
    # Parts with a YAML anchor are written out.
    assert "&" not in text and "*id" not in text


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
def test_systemd_runs_at_the_same_times(cron: str, calendars: list[str]) -> None:
    text = exported("systemd", Clock(cron, "Europe/Berlin"))
    assert [line for line in text.splitlines() if line.startswith("OnCalendar=")] == [
        f"OnCalendar={calendar}" for calendar in calendars
    ]
    assert f"ExecStart={PROGRAM} retrain '/etc/clips 5%%.toml' --cron" in text
    if shutil.which("systemd-analyze"):
        for calendar in calendars:
            subprocess.run(["systemd-analyze", "calendar", calendar], check=True)


def test_cron_is_told_the_time_zone_and_no_line_ends_at_a_percent_sign() -> None:
    zone, line = exported("cron").splitlines()[1:]
    assert zone == "CRON_TZ=Europe/Berlin"
    start = f"cd {Path.cwd()} && {PROGRAM} retrain '/etc/clips 5\\%.toml' --cron '0 3"
    assert line.startswith(f"0 3 * * 1-5 {start}")


@pytest.mark.parametrize("format", ["systemd", "cron"])
def test_a_unit_names_the_folder_and_the_store(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def made(uri: str) -> str:
        return export(format, Path("retrain.toml"), "clips", CLOCK, [], None, uri)

    store = "sqlite:////a b/100%.db"
    expected = {
        "systemd": [
            f"WorkingDirectory={folder}",
            'Environment="MLFLOW_TRACKING_URI=sqlite:////a b/100%%.db"',
            f"ExecStart={PROGRAM} retrain '{folder}/retrain.toml'",
        ],
        "cron": [
            "export MLFLOW_TRACKING_URI='sqlite:////a b/100\\%.db'; ",
            f"cd '{folder}' && {PROGRAM} retrain '{folder}/retrain.toml'",
        ],
    }
    for text in expected[format]:
        assert text in made(store)
    # Everybody may read these files.
    assert "secret" not in made("postgresql://user:secret@host/runs")


def test_what_can_not_be_said_is_refused() -> None:
    with pytest.raises(UserError, match="systemd has no word"):
        exported("systemd", Clock("0 3 L * *", "UTC"))
    with pytest.raises(UserError, match=", ".join(FORMATS)):
        exported("fcron")
