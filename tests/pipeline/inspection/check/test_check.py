"""What a check of a corpus finds: duplicates within and across splits, texts, unreadable files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.run import ImportOptions, import_features
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.inspection.check.neighbours import similar_pairs
from intertitle.pipeline.inspection.check.run import CorpusReport, check_corpus, without_leaks


def picture(seed: int, size: int = 240) -> Image.Image:
    """Draw overlapping rectangles and a gradient, as different as photographs are."""
    rng = np.random.default_rng(seed)
    pixels = np.linspace(*rng.uniform(0, 255, (2, 3)), size)[:, None] + np.zeros((1, size, 1))
    for _ in range(25):
        (top, left), (height, width) = rng.integers(0, size, 2), rng.integers(10, size // 2, 2)
        pixels[top : top + height, left : left + width] = rng.uniform(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    left, top = round(width * 0.04), round(height * 0.01)
    return image.crop((left, top, left + round(width * 0.95), top + round(height * 0.95)))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded": encoded,
    "cropped": cropped,
    "scaled": lambda image: image.resize((100, 70)),
}
NUM = 60


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Pictures to train on, copies of the first ones to test on, and others."""
    folder = tmp_path_factory.mktemp("planted")
    splits: dict[str, str] = {}
    for number in range(NUM):
        name = f"{number:02d}.png"
        picture(number).save(folder / name)
        splits[name] = "train" if number < NUM // 2 else "val"
        for copy, make in COPIES.items() if number < 8 else ():
            name = f"{number:02d}-{copy}.jpg"
            make(picture(number)).convert("RGB").save(folder / name, quality=80)
            splits[name] = "test"
    items = [Item(name, name, "image") for name in splits]
    examples = [
        Example(name, split, name, None, ("a cat", "a dog")) for name, split in splits.items()
    ]
    return write_corpus(folder, items, examples)


@pytest.fixture(scope="module")
def report(planted: Corpus) -> CorpusReport:
    return check_corpus(planted)


def test_planted_copies_are_paired_with_their_originals_and_nothing_else_is(
    report: CorpusReport,
) -> None:
    assert report.checked == {"files": NUM + 24, "features": 0}
    assert {pair.evidence for pair in report.duplicates} == {"near"}
    for pair in report.duplicates:
        assert pair.first[:2] == pair.second[:2]
    across = {pair.second for pair in report.duplicates[: report.crossing]}
    assert across == {f"{n:02d}-{copy}.jpg" for n in range(8) for copy in COPIES}
    (leak,) = report.leaks
    assert asdict(leak) == {"splits": ("test", "train"), "groups": 8, "examples": (24, 8)}


def test_a_corpus_without_leaks_keeps_its_test_split(
    planted: Corpus, report: CorpusReport, tmp_path: Path
) -> None:
    fixed = without_leaks(planted, report, tmp_path / "fixed")
    assert fixed.counts() == {"train": NUM // 2 - 8, "test": 24, "val": NUM // 2}
    assert fixed.num_items() == NUM + 24 - 8
    assert fixed.locate(fixed.items()[0]).is_file()
    assert check_corpus(fixed).leaks == ()
    for out in (planted.path, planted.path / ".." / planted.path.name, fixed.path):
        with pytest.raises(UserError, match="a corpus, allowed: a new folder"):
            without_leaks(planted, report, out)


def test_blank_pictures_alone_have_no_duplicates(tmp_path: Path) -> None:
    for name, color in (("a", "black"), ("b", "white")):
        Image.new("RGB", (50, 50), color).save(tmp_path / f"{name}.png")
    items = [Item(name, f"{name}.png", "image") for name in "ab"]
    assert check_corpus(write_corpus(tmp_path, items, [])).duplicates == ()


def test_members_of_a_tar_next_to_the_corpus_are_found_from_elsewhere(
    tmp_path: Path,
) -> None:
    items = [Item("a", "bytes://5+10/a.tar", "image"), Item("b", "b.png", "image")]
    corpus = write_corpus(tmp_path / "corpus", items, [])
    fixed = without_leaks(corpus, check_corpus(corpus, read_files=False), tmp_path / "fixed")
    assert [item.uri for item in fixed.items()] == [
        f"bytes://5+10/{corpus.path}/a.tar",
        f"{corpus.path}/b.png",
    ]


def test_identical_files_segments_and_unreadable_files_are_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(0).save(tmp_path / name)
    Image.new("RGB", (50, 50)).save(tmp_path / "black.png")
    Image.new("RGB", (60, 60), "white").save(tmp_path / "white.png")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    names = ("a", "b", "black", "white", "damaged", "gone")
    items = [Item(name, f"{name}.png", "image") for name in names]
    items += [Item(f"s{n}", "damaged.png", "video", float(n), n + 1.0) for n in range(2)]
    splits = {"a": "train", "b": "val", "black": "train", "white": "val"}
    examples = [Example(f"of {key}", split, key, None, ("x",)) for key, split in splits.items()]
    examples.append(Example("again", "test", "a", None, ("x",)))
    report = check_corpus(write_corpus(tmp_path, items, examples))
    pairs = {(pair.evidence, pair.first, pair.second) for pair in report.duplicates}
    # Blank pictures are not compared.
    assert pairs == {("item", "a", "a"), ("identical", "a", "b"), ("file", "damaged", "s0")} | (
        {("file", "damaged", "s1")}
    )
    assert {p.key: p.error for p in report.problems}["gone"] == "missing"
    assert report.without_examples == 4
    # Of the group a, b, the test split's example stays.
    assert report.left_out == {"of a", "of b"}


def test_similar_features_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {f"i{n:03d}": rng.random((2, 64)).astype(np.float32) for n in range(200)}
    values["copy"] = values["i007"] + rng.normal(0, 0.01, (2, 64)).astype(np.float32)
    np.savez(tmp_path / "f.npz", **values)
    items = [Item(key, f"{key}.jpg", "image") for key in values]
    examples = [
        Example(key, "test" if key == "copy" else "train", key, None, ("x",)) for key in values
    ]
    corpus = write_corpus(tmp_path / "corpus", items, examples)
    import_features(tmp_path / "f.npz", corpus, tmp_path / "store", ImportOptions("net"))
    report = check_corpus(corpus, FeatureStore(tmp_path / "store"), read_files=False)
    ((evidence, first, second),) = [(p.evidence, p.first, p.second) for p in report.duplicates]
    assert (evidence, first, second) == ("features", "i007", "copy")
    assert (report.left_out, report.problems) == ({"i007"}, ())


def test_texts_are_summarized(tmp_path: Path) -> None:
    texts = {
        "a": ("train", "Ein Hund .", ("a dog runs",)),
        "b": ("train", "Eine Katze", ("the cat", "a cat")),
        "c": ("val", "ein  hund .", ("a Wolf runs", "a Wolf")),
        "d": ("val", "ein Haus", ("a dog", "x")),
    }
    examples = [
        Example(id, split, None, source, targets) for id, (split, source, targets) in texts.items()
    ]
    report = check_corpus(write_corpus(tmp_path, [], examples))
    train, val = report.splits
    assert (train.words, train.unseen_words) == (7, None)
    assert (val.words, val.unseen_words) == (8, pytest.approx(3 / 8))
    assert val.unseen == (("wolf", 2), ("x", 1))
    assert val.source_words is not None
    assert (val.source_words.min, val.source_words.max) == (2, 3)
    # The numbers of references vary, so none is missing.
    assert report.few_references is None
    ((pair,), (leak,)) = report.duplicates, report.leaks
    assert (pair.evidence, pair.first, pair.second) == ("text", "a", "c")
    assert (leak.splits, report.left_out) == (("val", "train"), {"a"})


def test_examples_that_lack_references_are_named(tmp_path: Path) -> None:
    examples = [
        Example(f"e{n}", "train", None, f"text {n}", ("x",) * (4 if n == 3 else 5))
        for n in range(20)
    ]
    few = check_corpus(write_corpus(tmp_path, [], examples)).few_references
    assert few is not None
    assert (few.usual, few.examples) == (5, ("e3",))


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_similar_pairs_are_those_of_an_exhaustive_comparison() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 40))
    vectors[:300] = vectors[300:600] + rng.normal(size=(300, 40)) * rng.uniform(0, 0.6, (300, 1))
    vectors = unit(vectors)
    cosines = np.triu(vectors @ vectors.T, 1)
    expected = set(zip(*np.nonzero(cosines >= 0.92), strict=True))
    pairs = similar_pairs(vectors, 0.92)
    computed = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(expected) > 150
    assert computed <= expected
    assert len(computed) >= 0.98 * len(expected)


def test_many_equal_vectors_are_not_compared_pairwise() -> None:
    vectors = unit(np.ones((4_000, 8)))
    assert len(similar_pairs(vectors, 0.99).first) < 4_000 * 300
