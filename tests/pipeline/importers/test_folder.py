"""Any folder of videos and photographs becomes a corpus of items."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.folder import import_folder
from intertitle.pipeline.storage.paths import as_path

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


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_what_is_hidden_is_left_out_and_counted(tmp_path: Path) -> None:
    hidden = ["._a.jpg", "__MACOSX/._a.jpg", ".ipynb_checkpoints/a-checkpoint.jpg", ".x/y/b.mp4"]
    source = put(tmp_path / ".source", "a.jpg", "sub/c.png", "notes.txt", *hidden)
    report = import_folder(source, tmp_path / "corpus")
    assert [item.key for item in Corpus(tmp_path / "corpus").items()] == ["a.jpg", "sub/c.png"]
    counts = {"hidden": 4, "links": 0, "repeated": 0, "unreadable": 0, "other_kinds": 1}
    assert report.left_out == counts
    assert report.notes == ("4 hidden files left out", "1 files of other kinds left out")


def test_links_are_counted_or_followed_to_a_path_that_opens(tmp_path: Path) -> None:
    # As a model hub's cache lays out files: names that are links to blobs.
    put(tmp_path, "blobs/sha0", "disk/train/b.jpg", "source/a.jpg")
    source = tmp_path / "source"
    (source / "c.jpg").symlink_to("../blobs/sha0")
    (source / "train").symlink_to(tmp_path / "disk" / "train")
    (source / "same.jpg").symlink_to("a.jpg")
    (source / "gone.jpg").symlink_to("../blobs/sha1")
    (tmp_path / "disk" / "train" / "loop").symlink_to(tmp_path / "source")
    report = import_folder(source, tmp_path / "corpus")
    assert [item.key for item in Corpus(tmp_path / "corpus").items()] == ["a.jpg", "same.jpg"]
    assert (report.left_out["links"], report.missing) == (2, ("gone.jpg",))
    assert "2 links left out: --follow-links follows them" in report.notes

    report = import_folder(source, tmp_path / "corpus", follow_links=True)
    items = Corpus(tmp_path / "corpus").items()
    assert [item.key for item in items] == ["a.jpg", "c.jpg", "same.jpg", "train/b.jpg"]
    assert (report.left_out["links"], report.left_out["repeated"]) == (0, 1)
    for item in items:
        (tmp_path / item.uri).write_bytes(b"something")
        with open_item_file(ItemFile(item, str(tmp_path / "corpus"))) as (path, _):
            assert path.read_bytes() == b"something"


def test_an_animation_is_a_video_unless_the_user_says_image(tmp_path: Path) -> None:
    source = put(tmp_path / "source", "empty.gif")
    os.mkfifo(source / "pipe.gif")
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for name in ("a.gif", "a.webp", "a.png", "a.avif"):
        pictures[0].save(source / name, save_all=True, append_images=pictures[1:])
        pictures[0].save(source / f"still_{name}")
    stills = {"empty.gif", "pipe.gif", *(p.name for p in source.glob("still_*"))}
    for as_images in (False, True):
        import_folder(source, tmp_path / "corpus", animations_as_images=as_images)
        items = Corpus(tmp_path / "corpus").items()
        assert len(items) == 10
        assert {i.key for i in items if i.kind == "image"} == (
            {i.key for i in items} if as_images else stills
        )


@pytest.mark.parametrize("spelling", ["../source", "./../source/", "~/source", "link"])
def test_a_person_may_name_the_folder_in_any_way(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "source/two words/line\nbreak.mp4", "here/x")
    (tmp_path / "here" / "link").symlink_to("../source")
    (tmp_path / "source" / "two words" / "line\nbreak.mp4").write_bytes(b"a film")
    monkeypatch.chdir(tmp_path / "here")
    import_folder(as_path(spelling), tmp_path / "corpus")
    (item,) = Corpus(tmp_path / "corpus").items()
    with open_item_file(ItemFile(item, str(tmp_path / "corpus"))) as (path, _):
        assert path.read_bytes() == b"a film"


def test_a_folder_behind_an_url_is_walked_alike(object_store: Path, tmp_path: Path) -> None:
    place = as_path(f"s3://bucket/{tmp_path.name}")
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    for name in ("a.gif", "still.gif", "a.webp"):
        data = BytesIO()
        animated = {"save_all": True, "append_images": pictures[1:]} if name[0] == "a" else {}
        pictures[0].save(data, Path(name).suffix[1:], **animated)
        place.fs.pipe_file(f"{place.path}/{name}", data.getvalue())
    place.fs.pipe_file(f"{place.path}/__MACOSX/._a.gif", b"fork")
    place.fs.pipe_file(f"{place.path}/empty.gif", b"")
    report = import_folder(place, tmp_path / "corpus")
    kinds = {item.key: item.kind for item in Corpus(tmp_path / "corpus").items()}
    stills = {"empty.gif": "image", "still.gif": "image"}
    assert kinds == {"a.gif": "video", "a.webp": "video", **stills}
    assert report.left_out["hidden"] == 1


def test_few_objects_are_read_at_a_time_and_an_outage_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = as_path(f"memory://{tmp_path.name}")
    for n in range(5):
        place.fs.pipe_file(f"{place.path}/{n}.gif", b"GIF89a NETSCAPE2.0")
    sizes: list[int] = []
    failure: list[Exception] = [FileNotFoundError("0.gif")]

    def heads(paths: list[str], *_: object, **__: object) -> list[object]:
        sizes.append(len(paths))
        read = [failure[0] if path.endswith("0.gif") else place.fs.cat_file(path) for path in paths]
        return list(read)

    monkeypatch.setattr(place.fs, "cat_ranges", heads)
    monkeypatch.setattr("intertitle.pipeline.importers.folder._PORTION", 2)
    import_folder(place, tmp_path / "corpus")
    kinds = [item.kind for item in Corpus(tmp_path / "corpus").items()]
    assert (sizes, kinds) == ([2, 2, 1], ["image", *["video"] * 4])
    failure[0] = PermissionError("0.gif: Access Denied")
    with pytest.raises(PermissionError, match="Access Denied"):
        import_folder(place, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(UserError, match="is not valid Unicode"):
        import_folder(tmp_path, tmp_path / "corpus")


def test_a_folder_with_nothing_to_see_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"has no videos or images .*; known endings: .*\.avi"):
        import_folder(tmp_path, tmp_path / "corpus")
    with pytest.raises(UserError, match=r"notes\.txt: not a folder"):
        import_folder(tmp_path / "notes.txt", tmp_path / "corpus")
