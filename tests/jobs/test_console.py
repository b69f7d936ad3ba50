"""What is printed, wherever it is printed to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.progress import Progress

from intertitle.jobs import console
from tests.jobs.program import PROGRAM

TEXT = "狗 – naïve → ε"
PRINTS = f"""
from pathlib import Path
from intertitle.jobs import console
console.use_utf8()
console.echo({TEXT!r})
console.table("t", ("c",), [({TEXT!r},)])
console.result({{"text": {TEXT!r}}})
console.warn({TEXT!r})
Path("file").write_text({TEXT!r})
print([path.name for path in Path().glob("*.txt")])
"""


def run(command: list[str | Path], folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run a program with only some variables, in bytes that have to be UTF-8."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    ours |= {"PYTHONPATH": str(Path(console.__file__).parents[1])}
    done = subprocess.run(
        command, capture_output=True, cwd=folder, env=ours | environment, timeout=120
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a locale whose encoding is ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locale")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not here")
    name = folder / "de_DE.ISO-8859-1"
    made = subprocess.run(
        ["localedef", "--no-archive", "-i", "de_DE", "-f", "ISO-8859-1", name], capture_output=True
    )
    if made.returncode:
        pytest.skip("no sources of locales (Debian's `locales`)")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.ISO-8859-1"}


def test_output_is_utf8_in_a_latin_1_locale(latin_1: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / f"{TEXT}.txt").touch()
    code, out, err = run([sys.executable, "-c", PRINTS], tmp_path, **latin_1)
    assert (code, out.count(TEXT)) == (0, 4), err
    assert TEXT in err
    assert (tmp_path / "file").read_bytes() == TEXT.encode()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_the_program_ends_without_a_traceback_whatever_the_encoding(
    encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "lines.txt").write_text(f"{TEXT}\n" * 20, "utf-8")
    command = [PROGRAM, "import", "text", "lines.txt", "--out", TEXT, "--json"]
    code, out, err = run(
        command, tmp_path, LC_ALL="C.UTF-8", PYTHONIOENCODING=encoding, PYTHONUTF8="0"
    )
    assert (code, err) == (0, "")
    assert out.count(TEXT) == 2


def test_names_with_markup_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]a[/] :dog: [/b]"
    console.table(name, ("metric", name), [(name, name)])
    console.echo(name)
    console.warn(name)
    printed = capsys.readouterr()
    assert (printed.out.count(name), printed.err.count(name)) == (5, 1)


def test_a_long_step_is_named_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "SHORT_S", 0.1)
    with console.step("long"):
        time.sleep(0.5)
    with console.step("short"):
        pass
    with console.bar("training", counts=False) as bar:
        bar.phase("validating")
        time.sleep(0.5)
        bar.update(0.5, 1.0)
        bar.phase("short")
        bar.update(1.0, 1.0)
        bar.phase("ended")
    time.sleep(0.3)
    assert capsys.readouterr().err.splitlines() == [
        "long ...",
        "validating ...",
        "validating: 50 %",
        "short: 100 %",
    ]


def test_the_rate_and_the_time_left_are_of_one_clock(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Half a minute for the first ten items, and then one a second.
    clock = iter([0.0, 0.0, 30.0, 45.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.bar("features", unit="items") as bar:
        for done, note in ((0, ""), (10, ""), (25, "1 failed")):
            bar.update(done, 40, note)
    assert capsys.readouterr().err.splitlines() == [
        "features: 0/40",
        "features: 10/40 0.3 items/s, 0:01:30 left",
        "features: 25/40 1 failed, 1.0 items/s, 0:00:15 left",
    ]


def test_scores_are_rounded_and_the_same_score_is_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.scores("equal", {"bleu_4": 12.5, "sacrebleu": 12.5, "cider": 9.796e-12})
    printed = capsys.readouterr().out
    rows = [line.split("│") for line in printed.splitlines() if "│" in line]
    assert [(name.strip(), value.strip()) for name, value in rows] == [
        ("bleu_4 = sacrebleu", "12.50"),
        ("cider", "0.00"),
    ]
    console.scores("different", {"bleu_4": 12.5, "sacrebleu": 13.0})
    assert "sacrebleu" in capsys.readouterr().out


def test_a_phase_begins_without_the_total_of_the_one_before() -> None:
    with Progress() as progress:
        bar = console.Bar(progress, progress.add_task("first", total=None, note=""), "first")
        bar.update(5, 5)
        bar.phase("second")
        (task,) = progress.tasks
    assert (task.description, task.completed, task.total) == ("second", 0, None)
