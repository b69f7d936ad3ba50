"""Flickr8k in its published layout becomes a corpus; what is wrong with it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.flickr8k import import_flickr8k

# As published: two spaces, a full stop, a name without a photograph.
CAPTIONS = """\
dog.jpg#0\tA dog runs .
dog.jpg#1\tThe  dog is running in the snow .
cat.jpg#0\tA cat sleeps .
gone.jpg#0\tNobody sees this .
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    source = tmp_path / "published"
    (source / "Images").mkdir(parents=True)
    for name in ("dog", "cat"):
        (source / "Images" / f"{name}.jpg").touch()
    (source / "Flickr8k.token.txt").write_text(CAPTIONS)
    (source / "Flickr_8k.trainImages.txt").write_text("dog.jpg\ngone.jpg\n")
    (source / "Flickr_8k.devImages.txt").write_text("cat.jpg\n")
    return source


def test_photographs_captions_and_splits_are_taken_over(published: Path, tmp_path: Path) -> None:
    report = import_flickr8k(published, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item(name, str(published / "Images" / name), "image") for name in ("dog.jpg", "cat.jpg")
    ]
    assert [(e.split, e.item_key, e.targets) for e in corpus.examples()] == [
        ("train", "dog.jpg", ("A dog runs .", "The dog is running in the snow .")),
        ("val", "cat.jpg", ("A cat sleeps .",)),
    ]
    assert (report.items, report.examples, report.references) == (2, 2, 3)


def test_absent_lists_and_photographs_are_said(published: Path, tmp_path: Path) -> None:
    report = import_flickr8k(published, tmp_path / "corpus")
    assert report.missing == ("gone.jpg",)
    assert "test left out: Flickr_8k.testImages.txt is absent" in report.notes


def test_karpathys_file_gives_captions_and_splits(published: Path, tmp_path: Path) -> None:
    sentence = {"tokens": ["a", "cat"], "raw": "A cat .", "imgid": 0, "sentid": 0}
    image = {"sentids": [0], "imgid": 0, "sentences": [sentence], "split": "test"}
    data = {"images": [{**image, "filename": "cat.jpg"}], "dataset": "flickr8k"}
    file = published / "dataset_flickr8k.json"
    file.write_text(json.dumps(data))
    import_flickr8k(published, tmp_path / "corpus", [file])
    corpus = Corpus(tmp_path / "corpus")
    assert [item.uri for item in corpus.items()] == [str(published / "Images" / "cat.jpg")]
    assert [(e.split, e.targets) for e in corpus.examples()] == [("test", ("A cat .",))]


def test_a_mark_of_byte_order_and_windows_line_ends_change_nothing(
    published: Path, tmp_path: Path
) -> None:
    import_flickr8k(published, tmp_path / "unix")
    for file in published.glob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    import_flickr8k(published, tmp_path / "windows")
    assert Corpus(tmp_path / "windows").fingerprint() == Corpus(tmp_path / "unix").fingerprint()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Flickr8k.token.txt", b"dog.jpg#0\tA dog .\n\ndog.jpg A dog", "line 3: 'dog.jpg A dog'"),
        ("Flickr8k.token.txt", b"dog.jpg#0\t \ndog.jpg#1\t\n", "line 1: 'dog.jpg' has no caption"),
        ("Flickr8k.token.txt", b"d#0\tA .\nd#0\tA .", "line 2: caption 0 of 'd' is on line 1"),
        ("Flickr8k.token.txt", b"dog.jpg#0\tA caf\xe9 .", "not UTF-8 at byte 15"),
        ("Flickr_8k.devImages.txt", b"cat.jpg\nbird.jpg\n", "line 2: 'bird.jpg' has no caption"),
        ("Flickr_8k.devImages.txt", b"dog.jpg\n", "line 1: 'dog.jpg' is taken by .*train"),
    ],
)
def test_what_cannot_be_read_is_named(
    file: str, content: bytes, message: str, published: Path, tmp_path: Path
) -> None:
    (published / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        import_flickr8k(published, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("Flickr8k.token.txt", r"Flickr8k\.token\.txt: missing"),
        ("Flickr_8k.*.txt", "no photographs; needs Images/ and at least one of"),
    ],
)
def test_a_source_without_the_published_files_is_refused(
    absent: str, message: str, published: Path, tmp_path: Path
) -> None:
    for file in published.glob(absent):
        file.unlink()
    with pytest.raises(UserError, match=message):
        import_flickr8k(published, tmp_path / "corpus")
