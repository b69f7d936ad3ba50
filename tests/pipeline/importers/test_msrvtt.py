"""MSR-VTT in its published layout becomes a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.msrvtt import import_msrvtt

INFO = {"contributor": "Microsoft MSM group", "data_created": "2016-04-14 14:30:20"}
TRAIN_VAL = "train_val_annotation/train_val_videodatainfo.json"
TEST = "test_annotation/test_videodatainfo.json"


def video(number: int, split: str) -> dict[str, Any]:
    return {
        "category": 9,
        "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
        "video_id": f"video{number}",
        "start time": 137.72,
        "end time": 149.44,
        "split": split,
        "id": number,
    }


def data(videos: list[dict[str, Any]], *said: tuple[int, str, str]) -> dict[str, Any]:
    sentences = [{"caption": text, "video_id": name, "sen_id": n} for n, name, text in said]
    return {"info": INFO, "videos": videos, "sentences": sentences}


PUBLISHED: dict[str, object] = {
    TRAIN_VAL: data(
        [video(0, "train"), video(6513, "validate")],
        (0, "video6513", "a cat sleeps"),
        (1, "video0", "a car is shown"),
        (2, "video0", "in a video a man speaks"),
    ),
    TEST: data([video(7010, "test")], (0, "video7010", "a girl sings")),
    "TrainValVideo/video0.mp4": None,
    "TrainValVideo/video6513.mp4": None,
    "TestVideo/video7010.mp4": None,
}


def test_clips_captions_and_splits_are_taken_over(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    report = import_msrvtt(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item("video7010", str(source / "TestVideo/video7010.mp4"), "video"),
        Item("video0", str(source / "TrainValVideo/video0.mp4"), "video"),
        Item("video6513", str(source / "TrainValVideo/video6513.mp4"), "video"),
    ]
    assert [(e.id, e.split, e.targets) for e in corpus.examples()] == [
        ("video7010", "test", ("a girl sings",)),
        ("video0", "train", ("a car is shown", "in a video a man speaks")),
        ("video6513", "val", ("a cat sleeps",)),
    ]
    assert (report.items, report.references) == (3, 4)


def test_an_absent_clip_and_a_file_without_sentences_are_said(lay_out, tmp_path: Path) -> None:
    source = lay_out({**PUBLISHED, TEST: data([video(7010, "test")])})
    (source / "TrainValVideo/video0.mp4").unlink()
    report = import_msrvtt(source, tmp_path / "corpus")
    assert report.missing == ("video0",)
    assert "test_videodatainfo.json left out: it has no sentences" in report.notes


def test_one_of_the_files_can_be_named(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    report = import_msrvtt(source, tmp_path / "corpus", [source / TEST])
    assert report.items == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            data([video(0, "train")], (0, "video0", "a"), (1, "video1", "b")),
            r"sentences\[1\]\.video_id: 'video1' is not in videos",
        ),
        (
            data([video(0, "train")], (4, "video0", "a"), (4, "video0", "b")),
            r"sentences\[1\]\.sen_id: 4 is taken by .*sentences\[0\]",
        ),
        (
            data([video(0, "train"), video(1, "train")], (0, "video0", "a")),
            r"videos\[1\]: 'video1' has no caption",
        ),
        (
            data([video(0, "train"), video(0, "train")], (0, "video0", "a")),
            r"videos\[1\]\.video_id: 'video0' is taken by .*videos\[0\]",
        ),
        (
            data([video(7010, "train")], (0, "video7010", "a")),
            r"videos\[0\]: 'video7010' is taken by .*test_videodatainfo\.json: videos\[0\]",
        ),
        (
            data([video(0, "dev")], (0, "video0", "a")),
            r"videos\[0\]\.split: 'dev', allowed: train, validate, val, test",
        ),
        ({"videos": []}, "sentences: missing"),
    ],
)
def test_what_is_wrong_is_named(
    content: dict[str, Any], message: str, lay_out, tmp_path: Path
) -> None:
    source = lay_out({**PUBLISHED, TRAIN_VAL: content})
    with pytest.raises(UserError, match=rf"train_val_videodatainfo\.json: {message}"):
        import_msrvtt(source, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_source_without_annotations_is_refused(lay_out, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"published: has no \*videodatainfo\*\.json"):
        import_msrvtt(lay_out({"video0.mp4": None}), tmp_path / "corpus")
