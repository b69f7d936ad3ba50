"""What a worker does to a chunk: good items go on, bad ones are named, attempts never collide."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.shards import open_shard
from intertitle.pipeline.precompute.work import (
    DecodedItem,
    decode_chunk,
    unavailable,
    write_features,
)
from intertitle.pipeline.storage.failpoints import ONCE, VARIABLE

DIM = 2


def made(key: str, length: int = 2) -> DecodedItem:
    source = ItemFile(Item(key, key, "video"), "/nowhere")
    return DecodedItem(source, None, np.arange(length, dtype=np.float64))


def test_bad_items_leave_no_frames_and_do_not_disturb_the_others(
    clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    os.mkfifo(tmp_path / "pipe.mp4")
    first, second = Corpus(clips).items()[:2]
    sources = [
        ItemFile(first, str(clips)),
        *(
            ItemFile(Item(n, n, "video"), str(tmp_path))
            for n in ("text.mp4", "pipe.mp4", "none.mp4")
        ),
        ItemFile(second, str(clips)),
    ]
    decoded, frames = decode_chunk(sources, Uniform(4), 64, Limits())
    assert [item.source for item in decoded] == sources
    errors = [item.rejection and (item.rejection.stage, item.rejection.error) for item in decoded]
    assert errors == [
        None,
        ("decode", "unreadable"),
        ("decode", "refused"),
        ("decode", "missing"),
        None,
    ]
    gone = decoded[3].rejection
    assert gone and gone.message == f"{tmp_path}/none.mp4: No such file or directory"
    # Only what could be read has a hash, so that a rerun knows whether it changed.
    known = [item.state.sha256 if item.state else None for item in decoded]
    assert [sha256 is not None for sha256 in known] == [True, True, False, False, True]
    assert [len(item.times_s) for item in decoded] == [4, 0, 0, 0, 4]
    alone = [decode_chunk([sources[index]], Uniform(4), 64, Limits())[1] for index in (0, 4)]
    assert np.array_equal(frames, np.concatenate(alone))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_quarantined_alone(bad: float, tmp_path: Path) -> None:
    values = np.arange(14, dtype=np.float32).reshape(7, DIM)
    values[3, 1] = bad
    items = [made("a", 3), made("b", 1), made("c", 3)]
    ended, file = write_features(
        str(tmp_path / "shard"), "arrow", (DIM,), items, values[:2], values[2:]
    )
    assert [item.rejection and item.rejection.error for item in ended] == [None, "not_finite", None]
    assert file.num_rows == 2
    shard = open_shard(tmp_path / file.name, "arrow")
    assert [shard.row(n).key for n in range(2)] == ["a", "c"]
    assert np.array_equal(shard.row(1).values, values[4:])


def test_each_attempt_is_a_file_of_its_own_with_the_same_bytes(tmp_path: Path) -> None:
    arguments = (
        str(tmp_path / "shard"),
        "arrow",
        (DIM,),
        [made("a")],
        np.ones((2, DIM), np.float32),
    )
    (_, one), (_, other) = (write_features(*arguments) for _ in range(2))
    assert one.name != other.name and one.sha256 == other.sha256
    assert {file.name for file in tmp_path.iterdir()} == {one.name, other.name}


def test_features_that_are_too_few_or_too_many_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 frames decoded, 3 features made"):
        write_features(
            str(tmp_path / "shard"), "arrow", (DIM,), [made("a")], np.ones((3, DIM), np.float32)
        )


def test_a_degraded_item_is_kept_and_marked_or_quarantined(clips: Path, tmp_path: Path) -> None:
    whole = clips / Corpus(clips).items()[0].uri
    (tmp_path / "cut.mkv").write_bytes(b"")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = (tmp_path / "cut.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    source = ItemFile(Item("cut", "cut.mkv", "video"), str(tmp_path))
    (kept,), frames = decode_chunk([source], Uniform(4), 64, Limits())
    assert kept.rejection is None and kept.degraded and len(frames) == 4
    (lost,), none = decode_chunk([source], Uniform(4), 64, Limits(keep_degraded=False))
    assert lost.rejection is not None and lost.rejection.error == "degraded" and not len(none)


def test_an_error_of_the_disk_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (str(tmp_path / "shard"), "arrow", (DIM,), [made("a")], np.ones((2, DIM), "f4"))
    monkeypatch.setenv(VARIABLE, "write=fail")
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with pytest.raises(OSError, match="Input/output error"):
        write_features(*arguments)
    (tmp_path / "once").mkdir()
    monkeypatch.setenv(ONCE, str(tmp_path / "once"))
    _, file = write_features(*arguments)
    assert (tmp_path / file.name).exists()


def test_an_item_of_a_forbidden_host_can_be_unavailable() -> None:
    source = ItemFile(Item("a", "https://elsewhere/a.mp4", "video"), "/nowhere", hosts=())
    item = unavailable(source, OSError("no process"))
    assert item.rejection is not None
    assert item.rejection.message == "https://elsewhere/a.mp4: no process"
