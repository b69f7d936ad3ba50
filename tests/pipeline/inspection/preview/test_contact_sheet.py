"""What of a store is looked at, and that any of it can be drawn."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, table_of
from intertitle.pipeline.inspection.preview.contact_sheet import contact_sheet, wrap
from intertitle.pipeline.inspection.preview.item_samples import ItemSample, sample_items
from intertitle.pipeline.storage import failpoints
from tests.fingerprints import FINGERPRINT

SIZE = 32


def make_snapshot(corpus: Corpus, frames: int) -> Snapshot:
    """A snapshot as if the items' features were in a shard; nobody reads it here."""
    fingerprint = replace(FINGERPRINT, sampling=str(Uniform(frames)), size=SIZE)
    records = []
    for row, item in enumerate(corpus.items()):
        with open_item_file(ItemFile(item, str(corpus.path))) as (_, state):
            records.append(
                ItemRecord(
                    item.key, item.uri, item.kind, state.sha256, 1, 1, "s", row, num_frames=frames
                )
            )
    return Snapshot(fingerprint, {}, table_of(records))


def sample(key: str = "key", num_frames: int = 3, **changes: object) -> ItemSample:
    pixels = np.random.default_rng(0).integers(0, 255, (num_frames, SIZE, SIZE, 3), np.uint8)
    values = {"num_frames": num_frames, "is_film": True, **changes}
    return ItemSample(key, pixels, np.arange(num_frames) / 2, **values)


def draw(*samples: ItemSample) -> np.ndarray:
    """The picture's pixels; a warning fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png = contact_sheet(samples, "a store", "a line", "png")
    return matplotlib.image.imread(io.BytesIO(png))


def test_items_are_spread_over_the_store_with_the_frames_of_their_features(clips: Path) -> None:
    corpus = Corpus(clips)
    samples = list(sample_items(make_snapshot(corpus, 8), corpus, num_items=4))
    items = corpus.items()
    assert [s.key for s in samples] == [items[n].key for n in (3, 9, 15, 21)]
    expected = decode(corpus.locate(items[3]), items[3], Uniform(8), SIZE)
    assert np.array_equal(samples[0].pixels, expected.pixels)
    assert np.array_equal(samples[0].times_s, expected.times_s)
    said = [t for e in corpus.examples() if e.item_key == items[3].key for t in e.targets]
    assert samples[0].captions == tuple(said[:2]) and len(said) >= 2
    assert not samples[0].repeats.any() and samples[0].problem is None


def test_of_many_frames_eight_are_shown(clips: Path) -> None:
    corpus = Corpus(clips)
    (first,) = sample_items(make_snapshot(corpus, 20), corpus, num_items=1)
    assert (len(first.pixels), len(first.times_s), first.num_frames) == (8, 8, 20)
    item = corpus.items()[12]
    times_s = decode(corpus.locate(item), item, Uniform(20), SIZE).times_s
    assert first.times_s[0] == times_s[0] and first.times_s[-1] == times_s[-1]


def test_frames_that_repeat_are_known(clips: Path, tmp_path: Path) -> None:
    item = Corpus(clips).items()[0]
    whole = Item("short", str(clips / item.uri), "video", 0.0, 0.4)
    corpus = write_corpus(tmp_path, [whole], [])
    (short,) = sample_items(make_snapshot(corpus, 8), corpus, num_items=1)
    assert short.repeats.sum() == 3 and not short.repeats[0]


def test_an_item_that_cannot_be_shown_says_why(clips: Path, tmp_path: Path) -> None:
    names = ("whole", "gone", "changed", "left")
    items = [Item(name, f"{name}.mp4", "video") for name in names]
    for item, clip in zip(items, Corpus(clips).items(), strict=False):
        shutil.copy(clips / clip.uri, tmp_path / item.uri)
    snapshot = make_snapshot(write_corpus(tmp_path, items, []), 2)
    (tmp_path / "gone.mp4").unlink()
    with (tmp_path / "changed.mp4").open("ab") as file:
        file.write(b"more")
    samples = list(sample_items(snapshot, write_corpus(tmp_path, items[:3], []), 12))
    assert {s.key: s.problem for s in samples} == {
        "whole": None,
        "gone": "file is gone",
        "changed": "file has changed",
        "left": "not in this corpus",
    }
    assert [len(s.pixels) for s in samples] == [2, 0, 0, 0]
    draw(*samples)


def test_an_item_that_crashes_its_decoder_is_not_shown(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(clips)
    bad = corpus.items()[3].key
    monkeypatch.setenv(failpoints.VARIABLE, f"decode@{bad}=crash")
    samples = list(sample_items(make_snapshot(corpus, 8), corpus, num_items=4))
    assert [sample.problem for sample in samples] == ["file is crashed", None, None, None]


def test_a_question_stands_before_its_answer(clips: Path, tmp_path: Path) -> None:
    item = Item("clip", str(clips / Corpus(clips).items()[0].uri), "video")
    asked = Example("1", "train", "clip", "what moves?", ("a square", "square", "it"))
    corpus = write_corpus(tmp_path, [item], [asked])
    (found,) = sample_items(make_snapshot(corpus, 1), corpus, 1)
    assert found.captions == ("what moves? a square", "what moves? square")


def test_another_corpus_and_a_store_without_items_are_refused(clips: Path, tmp_path: Path) -> None:
    corpus = Corpus(clips)
    snapshot = make_snapshot(corpus, 1)
    with pytest.raises(UserError, match="has none of the store's items"):
        list(sample_items(snapshot, write_corpus(tmp_path, [], []), 3))
    lost = ItemRecord("k", "k.mp4", "video", stage="decode", error="missing", message="gone")
    empty = Snapshot(snapshot.fingerprint, {}, table_of([lost]))
    with pytest.raises(UserError, match="no stored items"):
        list(sample_items(empty, corpus, 3))


@pytest.mark.parametrize(
    "text",
    [
        "日本語の鍵 " * 30,
        "مفتاح عربي",
        "emoji 🎬🇩🇪 and \U0010fffd",
        "$x_{1$ \\frac{1}{2} a_b^c %",
        "one\nline\ttoo\x1b[31m\x00",
        "x" * 500,
        "",
        " ",
    ],
)
def test_any_text_can_be_drawn_without_a_warning(text: str) -> None:
    draw(sample(text, captions=(text, text), degraded=text), sample("gone", 0, problem=text))


def test_a_row_more_makes_the_sheet_longer_and_a_photograph_takes_half_a_row() -> None:
    one, two = draw(sample()), draw(sample(), sample())
    assert two.shape[0] > one.shape[0] and two.shape[1] == one.shape[1]
    photo = sample(num_frames=1, is_film=False)
    assert draw(photo, photo).shape[0] == draw(photo).shape[0] < draw(photo, photo, photo).shape[0]
    assert draw(photo, sample()).shape == two.shape


def test_a_repeated_frame_is_darker() -> None:
    white = np.full((2, SIZE, SIZE, 3), 255, np.uint8)
    once = ItemSample("k", white, np.array([0.0, 1.0]), 2, True)
    again = ItemSample("k", white, np.array([0.0, 0.0]), 2, True)
    assert draw(once).mean() > draw(again).mean() + 0.01


@pytest.mark.parametrize("format", ["pdf", "svg"])
def test_a_sheet_can_be_drawn_for_print(format: str) -> None:
    data = contact_sheet([sample()], "a store", "a line", format)
    assert data.startswith({"pdf": b"%PDF", "svg": b"<?xml"}[format])


@pytest.mark.parametrize(
    ("text", "width", "max_lines", "lines"),
    [
        ("a bc def", 8, 2, ["a bc def"]),
        ("a bc def", 4, 2, ["a bc", "def"]),
        ("a bc def ghi", 5, 2, ["a bc", "def …"]),
        ("abcdefgh", 3, 3, ["abc", "def", "gh"]),
        ("a bcdefgh", 4, 3, ["a", "bcde", "fgh"]),
        ("abcdefgh", 3, 1, ["a …"]),
        ("", 3, 1, [""]),
    ],
)
def test_a_text_is_wrapped(text: str, width: int, max_lines: int, lines: list[str]) -> None:
    assert wrap(text, width, len, max_lines) == lines


def test_nothing_is_kept_by_pyplot() -> None:
    code = (
        "import sys, intertitle.pipeline.inspection.preview.contact_sheet; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
