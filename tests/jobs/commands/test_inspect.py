"""`intertitle inspect`: what it prints of a store, and how its mistakes end."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from intertitle.jobs import console
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    publish,
    table_of,
    write_stopped,
)
from intertitle.pipeline.storage.paths import as_path

FINGERPRINT = Fingerprint(
    backbone="a network",
    features="grid",
    weights_sha256="ab" * 32,
    preprocessing="to a [square]",
    precision="float32",
    sampling="uniform:2",
    size=32,
    shape=(4, 3),
    dtype="float32",
    format="arrow",
)
LOST = (
    ItemRecord("lost", "lost.mp4", "video", stage="decode", error="missing", message="it: gone"),
    ItemRecord(
        "odd\tkey\n[/red]\x1b[2J",
        "odd.mp4",
        "video",
        stage="decode",
        error="unreadable",
        message="[bold]no\tfilm",
    ),
    ItemRecord("more", "more.mp4", "video", stage="decode", error="missing", message="also gone"),
)


@pytest.fixture
def store(clips: Path, tmp_path: Path) -> Path:
    """Ten clips stored, one of them degraded, three items in quarantine, and an older snapshot."""
    path = tmp_path / "store"
    (path / "shards").mkdir(parents=True)
    corpus = Corpus(clips)
    items = corpus.items()[:10]
    rows = [ItemFeatures(i.key, np.zeros(2), np.zeros((2, 4, 3), np.float32)) for i in items]
    shard = write_shard(path / "shards" / "shard-00000-abc.arrow", "arrow", rows, (4, 3))
    records = []
    for row, item in enumerate(items):
        with open_item_file(ItemFile(item, str(clips))) as (_, state):
            sha256 = state.sha256
        records.append(
            ItemRecord(item.key, item.uri, "video", sha256, 9, 1, shard.name, row, num_frames=2)
        )
    records[3] = replace(records[3], degraded="cut short")
    shards = {shard.name: shard}
    publish(as_path(path), Snapshot(FINGERPRINT, shards, table_of(records)))
    publish(as_path(path), Snapshot(FINGERPRINT, shards, table_of([*records, *LOST])))
    return path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person at a terminal sees."""
    screen = io.StringIO()
    wide = Console(file=screen, force_terminal=True, width=110, highlight=False, no_color=True)
    monkeypatch.setattr(console, "OUTPUT", wide)
    return screen


def test_the_summary_shows_counts_sizes_fingerprint_and_quarantine(intertitle, store: Path) -> None:
    ended = intertitle("inspect", store)
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(ended.out.split())
    for part in (
        "items 13: 10 stored (1 of these degraded), 3 quarantined",
        "frames 20, 2 an item",
        "shards 1, ",
        "backbone a network",
        "preprocessing to a [square]",
        "shape 4 x 3",
        "decode │ missing │ 2 │ it: gone",
        "decode │ unreadable │ 1 │ [bold]no film",
        "1 │ cut short",
        "other snapshots that can be read",
    ):
        assert part in text
    assert max(map(len, ended.out.splitlines())) <= 80


def test_json_says_it_all(intertitle, store: Path) -> None:
    result = json.loads(intertitle("inspect", store, "--json").out.splitlines()[-1])
    counts = {name: result[name] for name in ("items", "stored", "degraded", "quarantined")}
    assert counts == {"items": 13, "stored": 10, "degraded": 1, "quarantined": 3}
    assert result["snapshot"] == (store / "CURRENT").read_text().strip()
    assert result["frames"] == {"total": 20, "min": 2, "max": 2}
    size = (store / "shards" / "shard-00000-abc.arrow").stat().st_size
    assert result["shards"] == {"number": 1, "bytes": size, "bytes_per_item": round(size / 10)}
    assert result["fingerprint"] == {**json.loads(FINGERPRINT.to_json())}
    assert result["quarantine"] == [
        {"stage": "decode", "error": "missing", "items": 2, "message": "it: gone"},
        {"stage": "decode", "error": "unreadable", "items": 1, "message": "[bold]no\tfilm"},
    ]
    assert result["degraded_reasons"] == [{"reason": "cut short", "items": 1}]
    (other,) = result["other_snapshots"]
    assert other["snapshot"] != result["snapshot"] and other["items"] == 10

    older = intertitle("inspect", store, "--snapshot", other["snapshot"], "--json")
    result = json.loads(older.out.splitlines()[-1])
    assert (result["snapshot"], result["quarantined"]) == (other["snapshot"], 0)


def test_the_quarantine_can_be_piped(intertitle, store: Path) -> None:
    ended = intertitle("inspect", store, "--quarantine")
    assert [line.split("\t") for line in ended.out.splitlines()] == [
        ["lost", "decode", "missing", "it: gone"],
        ["odd key [/red] [2J", "decode", "unreadable", "[bold]no film"],
        ["more", "decode", "missing", "also gone"],
    ]
    ended = intertitle("inspect", store, "--error", "missing", "--json")
    *lines, last = ended.out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["lost", "more"]
    assert [item["key"] for item in json.loads(last)["quarantined_items"]] == ["lost", "more"]


def test_the_quarantine_is_a_table_on_a_terminal(
    intertitle, store: Path, terminal: io.StringIO
) -> None:
    intertitle("inspect", store, "--quarantine")
    text = terminal.getvalue()
    assert "odd key [/red] [2J │ decode │ unreadable │ [bold]no film" in text
    assert text.count("decode") == 3 and "\x1b[2J" not in text


def test_a_class_that_no_item_has_says_which_there_are(intertitle, store: Path) -> None:
    ended = intertitle("inspect", store, "--error", "mising")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == (
        "no item in quarantine with error 'mising'; there are: missing (2), unreadable (1)\n"
    )


def test_nothing_in_quarantine(intertitle, store: Path, terminal: io.StringIO) -> None:
    result = json.loads(intertitle("inspect", store, "--json").out.splitlines()[-1])
    older = result["other_snapshots"][0]["snapshot"]
    intertitle("inspect", store, "--snapshot", older, "--quarantine")
    assert terminal.getvalue().endswith("nothing is in quarantine\n")


def test_a_store_in_which_nothing_is_stored(intertitle, tmp_path: Path) -> None:
    publish(as_path(tmp_path), Snapshot(FINGERPRINT, {}, table_of(LOST)))
    ended = intertitle("inspect", tmp_path, "--json")
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert result["frames"] == {"total": 0, "min": None, "max": None}
    assert result["shards"] == {"number": 0, "bytes": 0, "bytes_per_item": None}


def test_a_contact_sheet_is_drawn(intertitle, store: Path, clips: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sheet.png"
    sheet = ("--contact-sheet", picture, "--corpus", clips, "--items", 3)
    ended = intertitle("inspect", store, *sheet, "--json")
    assert ended.code == 0
    assert json.loads(ended.out.splitlines()[-1])["contact_sheet"] == str(picture)
    assert ended.err.splitlines()[-1] == f"{picture}: 3 items"
    assert matplotlib.image.imread(picture).ndim == 3


def test_a_mistake_ends_in_one_line(intertitle, store: Path, clips: Path, tmp_path: Path) -> None:
    sheet = "--contact-sheet"
    is_file = tmp_path / "file"
    is_file.touch()
    (tmp_path / "folder.png").mkdir()
    for arguments, message in (
        ([tmp_path / "no"], f"{tmp_path / 'no'}: not a feature store"),
        ([store, "--snapshot", "x"], f"{store}: has no snapshot 'x', allowed: "),
        ([tmp_path, "--snapshot", "x"], f"{tmp_path}: has no snapshot x"),
        ([store, sheet, "a.png"], "--contact-sheet a.png: needs --corpus"),
        ([store, sheet, "a.jpg", "--corpus", clips], "--contact-sheet a.jpg: allowed: a local"),
        ([store, sheet, "s3://b/a.png", "--corpus", clips], "--contact-sheet s3://b/a.png: allow"),
        ([store, sheet, tmp_path / "no" / "a.png", "--corpus", clips], "--contact-sheet "),
        ([store, sheet, is_file / "a.png", "--corpus", clips], "--contact-sheet "),
        ([store, sheet, tmp_path / "folder.png", "--corpus", clips], "--contact-sheet "),
        ([store, sheet, tmp_path / "a.png", "--corpus", store], f"{store}: not a corpus"),
    ):
        ended = intertitle("inspect", *arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert ended.err.startswith(f"intertitle: {message}") and ended.err.count("\n") == 1


def test_a_picture_that_cannot_be_written_ends_in_one_line(
    intertitle, store: Path, clips: Path
) -> None:
    ended = intertitle("inspect", store, "--contact-sheet", "/proc/a.png", "--corpus", clips)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].startswith(
        "intertitle: --contact-sheet /proc/a.png: can't be written: "
    )


def test_what_stopped_a_call_is_listed_with_its_tracebacks(intertitle, tmp_path: Path) -> None:
    """There need be no snapshot; what ended well since has none of it."""
    ended = intertitle("inspect", tmp_path, "--stopped")
    assert ended.code == 2 and "--stopped: the last call was not ended by its failures" in ended.err
    odd = ItemRecord(
        "odd", "odd.mp4", "video", stage="decode", error="internal", message="KeyError: 1",
        traceback="Traceback\n  a line\nKeyError: 1\n",
    )  # fmt: skip
    write_stopped(as_path(tmp_path), Snapshot(FINGERPRINT, {}, table_of([*LOST, odd])))
    ended = intertitle("inspect", tmp_path, "--stopped", "--error", "internal", "--json")
    line, last = ended.out.splitlines()
    raised = r"Traceback\n  a line\nKeyError: 1\n"
    assert line == "\t".join(["odd", "decode", "internal", "KeyError: 1", raised])
    result = json.loads(last)
    assert {q["error"]: q["items"] for q in result["quarantine"]} == {
        "missing": 2, "unreadable": 1, "internal": 1,
    }  # fmt: skip
    assert [item["traceback"] for item in result["quarantined_items"]] == [odd.traceback]
