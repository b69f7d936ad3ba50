"""Any folder of videos and photographs becomes a corpus of items."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.importers.folder import import_folder

NAMES = [
    "b/Film.MP4",
    "a clip.webm",
    "b/../c.jpeg",
    "剧照.png",
    "line\nbreak.mov",
    "x" * 251 + ".gif",
]


def test_every_film_and_photograph_below_it_is_found(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "b" / "folder.mp4").mkdir(parents=True)
    for name in [*NAMES, "notes.txt", "b/none"]:
        (source / name).touch()
    report = import_folder(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    kinds = {item.key: item.kind for item in corpus.items()}
    assert kinds == {
        "a clip.webm": "video",
        "b/Film.MP4": "video",
        "c.jpeg": "image",
        "line\nbreak.mov": "video",
        "x" * 251 + ".gif": "image",
        "剧照.png": "image",
    }
    assert all(corpus.locate(item) == source / item.key for item in corpus.items())
    assert corpus.examples() == []
    assert (report.items, report.examples) == (6, 0)
    assert report.notes == ("2 files of other kinds left out",)


def test_a_relative_source_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.mp4").touch()
    monkeypatch.chdir(tmp_path)
    import_folder(Path("source"), tmp_path / "corpus")
    monkeypatch.chdir("/")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.locate(corpus.items()[0]) == tmp_path / "source" / "a.mp4"


def test_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(UserError, match="is not valid Unicode"):
        import_folder(tmp_path, tmp_path / "corpus")


def test_a_folder_with_nothing_to_see_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"has no videos or images; known endings: \.avi"):
        import_folder(tmp_path, tmp_path / "corpus")
    with pytest.raises(UserError, match=r"notes\.txt: not a folder"):
        import_folder(tmp_path / "notes.txt", tmp_path / "corpus")
