"""One shard in both formats: what comes back, and that other programs can read it."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from intertitle.pipeline.feature_store.shards import (
    SUFFIXES,
    Format,
    ItemFeatures,
    file_sha256,
    open_shard,
    write_shard,
)

FORMATS: tuple[Format, ...] = ("arrow", "webdataset")
DIM = 3
SHAPE = (DIM,)
GRID = (4, DIM)
AWKWARD = [
    "a.b.c",
    "a/b",
    "../a",
    "..",
    "A",
    "a",
    "Ünïcødé",
    "剧照",
    "line\nbreak",
    "nul\0",
    " ",
    "",
]

rows = st.integers(1, 4).flatmap(
    lambda length: st.builds(
        ItemFeatures,
        st.sampled_from(AWKWARD) | st.text(),
        st_np.arrays(np.float64, length, elements=st.floats(0, 1e6)),
        st_np.arrays(np.float32, (length, DIM), elements=st.floats(-1e6, 1e6, width=32)),
    )
)


def make(key: str, length: int = 2, start: float = 0.0) -> ItemFeatures:
    values = np.arange(length * DIM, dtype=np.float32).reshape(length, DIM) + np.float32(start)
    return ItemFeatures(key, np.arange(length) / 2, values)


def assert_holds(path: Path, format: Format, expected: Sequence[ItemFeatures]) -> None:
    shard = open_shard(path, format)
    # Backwards, for access is random.
    for index in reversed(range(len(expected))):
        row = shard.row(index)
        assert row.key == expected[index].key
        assert np.array_equal(row.times_s, expected[index].times_s)
        assert np.array_equal(row.values, expected[index].values)
        assert row.values.dtype == np.float32 and row.times_s.dtype == np.float64


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60)
@given(written=st.lists(rows, max_size=6))
@example(written=[make(key, 1 + n % 3, n) for n, key in enumerate(AWKWARD)])
def test_rows_come_back_whatever_their_keys(format: Format, written: list[ItemFeatures]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard"
        file = write_shard(path, format, written, SHAPE)
        assert_holds(path, format, written)
        assert file.name == "shard" and file.num_rows == len(written)
        assert (file.num_bytes, file.sha256) == (path.stat().st_size, file_sha256(path))
        assert write_shard(Path(folder) / "again", format, written, SHAPE).sha256 == file.sha256


@pytest.mark.parametrize("format", FORMATS)
def test_features_are_views_that_nobody_can_write_to(format: Format, tmp_path: Path) -> None:
    write_shard(tmp_path / "shard", format, [make("a")], SHAPE)
    values = open_shard(tmp_path / "shard", format).row(0).values
    assert not values.flags.owndata and not values.flags.writeable


@pytest.mark.parametrize("format", FORMATS)
def test_an_open_shard_holds_no_file_descriptor(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"shard{SUFFIXES[format]}"
    write_shard(path, format, [make("a")], SHAPE)
    shards = [open_shard(path, format) for _ in range(20)]
    # Other threads open and close files meanwhile.
    opened = [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]
    assert path not in opened
    assert [shard.row(0).key for shard in shards] == ["a"] * 20


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, np.nan, 0]], np.float32), "'a': features are not finite"),
        (np.array([[0, np.inf, 0]], np.float32), "'a': features are not finite"),
        (np.zeros((1, 3)), r"float64 \(1, 3\), expected float32 \(1, 3\)"),
        (np.zeros((1, 4), np.float32), r"float32 \(1, 4\), expected float32 \(1, 3\)"),
        (np.zeros((2, 3), np.float32), r"float32 \(2, 3\), expected float32 \(1, 3\)"),
    ],
    ids=["NaN", "infinite", "another type", "another length", "another count"],
)
def test_unusable_features_are_refused_at_the_write(
    format: Format, values: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path / "shard", format, [ItemFeatures("a", np.zeros(1), values)], SHAPE)
    assert not (tmp_path / "shard").exists()


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "shard").write_text("earlier")
    with pytest.raises(FileExistsError):
        write_shard(tmp_path / "shard", "arrow", [make("a")], SHAPE)
    assert (tmp_path / "shard").read_text() == "earlier"


def test_an_arrow_shard_opens_with_pyarrow_alone(tmp_path: Path) -> None:
    written = [make("a", 2), make("b/c.d", 3, 10)]
    path = tmp_path / f"shard{SUFFIXES['arrow']}"
    write_shard(path, "arrow", written, SHAPE)
    table = pa.ipc.open_file(path).read_all()
    table.validate(full=True)
    assert [field.name for field in table.schema] == ["key", "times_s", "features"]
    assert not any(field.nullable for field in table.schema)
    assert table.to_pylist() == [
        {"key": r.key, "times_s": r.times_s.tolist(), "features": r.values.tolist()}
        for r in written
    ]


def make_grid(key: str, length: int) -> ItemFeatures:
    values = np.random.default_rng(length).standard_normal((length, *GRID), np.float32)
    return ItemFeatures(key, np.arange(length) / 2, values)


@pytest.mark.parametrize("format", FORMATS)
def test_a_grid_comes_back_as_views_of_the_file(format: Format, tmp_path: Path) -> None:
    written = [make_grid("a", 2), make_grid("b", 1), make_grid("c", 3)]
    write_shard(tmp_path / "shard", format, written, GRID)
    assert_holds(tmp_path / "shard", format, written)
    values = open_shard(tmp_path / "shard", format).row(2).values
    assert not values.flags.owndata and not values.flags.writeable
    write_shard(tmp_path / "empty", format, [], GRID)
    with pytest.raises(ValueError, match=r"float32 \(1, 3\), expected float32 \(1, 4, 3\)"):
        write_shard(tmp_path / "another", format, [make("a", 1)], GRID)


@pytest.mark.parametrize("format", FORMATS)
def test_features_that_lie_in_memory_by_columns_come_back_right(
    format: Format, tmp_path: Path
) -> None:
    row = make_grid("a", 1)
    turned = np.asfortranarray(row.values)
    assert not turned.flags.c_contiguous
    write_shard(tmp_path / "shard", format, [ItemFeatures("a", row.times_s, turned)], GRID)
    assert_holds(tmp_path / "shard", format, [row])


def test_an_arrow_shard_of_grids_opens_with_pyarrow_alone(tmp_path: Path) -> None:
    written = [make_grid("a", 2), make_grid("b", 1)]
    write_shard(tmp_path / "shard.arrow", "arrow", written, GRID)
    table = pa.ipc.open_file(tmp_path / "shard.arrow").read_all()
    table.validate(full=True)
    assert table.schema.field("features").type == pa.list_(
        pa.list_(pa.list_(pa.float32(), GRID[1]), GRID[0])
    )
    assert table["features"].to_pylist() == [row.values.tolist() for row in written]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tar_opens_with_the_webdataset_library(tmp_path: Path) -> None:
    written = [make(key, 1 + n % 3, n) for n, key in enumerate(AWKWARD)]
    path = tmp_path / f"shard{SUFFIXES['webdataset']}"
    write_shard(path, "webdataset", written, SHAPE)
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert [sample["item.json"]["key"] for sample in samples] == AWKWARD
    for sample, row in zip(samples, written, strict=True):
        assert np.array_equal(sample["features.npy"], row.values)
        assert sample["item.json"]["times_s"] == row.times_s.tolist()


def test_a_tar_has_plain_members_whose_names_lead_nowhere(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard.tar", "webdataset", [make(key) for key in AWKWARD], SHAPE)
    with tarfile.open(tmp_path / "shard.tar") as tar:
        members = tar.getmembers()
        first = np.load(io.BytesIO(tar.extractfile(members[0]).read()))  # type: ignore[union-attr]
    assert len(members) == 2 * len(AWKWARD)
    assert all(m.isreg() and "/" not in m.name and m.name[:8].isdigit() for m in members)
    assert np.array_equal(first, make("").values)


def test_a_pickle_inside_a_tar_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    trapped = io.BytesIO()
    np.save(trapped, np.array([[Trap()] * DIM], dtype=object), allow_pickle=True)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, data in {
            "00000000.features.npy": trapped.getvalue(),
            "00000000.item.json": b'{"key": "a", "times_s": [0.0]}',
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(ValueError, match="OBJECT"):
        open_shard(tmp_path / "shard.tar", "webdataset").row(0)
    assert not (tmp_path / "sprung").exists()


def test_a_tar_with_other_members_is_read_and_never_extracted(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", "webdataset", [make("a")], SHAPE)
    climbing = tarfile.TarInfo("../climbed.features.npy")
    link = tarfile.TarInfo("00000001.item.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        tar.addfile(climbing, io.BytesIO())
        tar.addfile(link)
    assert_holds(tmp_path / "a.tar", "webdataset", [make("a")])
    with pytest.raises(IndexError):
        open_shard(tmp_path / "a.tar", "webdataset").row(1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_a_write_that_fails_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("intertitle.pipeline.feature_store.shards.os.fsync", full)
    for format in FORMATS:
        with pytest.raises(OSError, match="No space"):
            write_shard(tmp_path / f"a{SUFFIXES[format]}", format, [make("a")], SHAPE)
    assert not list(tmp_path.iterdir())


def members_by_hand(data: bytes) -> dict[str, bytes]:
    """The members of a tar, read as POSIX 1003.1 (ustar) describes it."""
    members: dict[str, bytes] = {}
    at = 0
    while any(header := data[at : at + 512]):
        name = header[:100].rstrip(b"\0").decode("ascii")
        size = int(header[124:136].rstrip(b"\0 "), 8)
        told = int(header[148:156].rstrip(b"\0 "), 8)
        # The checksum counts its own field as blanks.
        assert told == sum(header[:148]) + sum(b" " * 8) + sum(header[156:])
        assert header[156:157] == b"0" and header[257:263] == b"ustar\0"
        members[name] = data[at + 512 : at + 512 + size]
        at += 512 + -(-size // 512) * 512
    assert not any(data[at:]) and len(data) - at >= 1024
    return members


def test_a_tar_is_read_by_hand(tmp_path: Path) -> None:
    written = [make("a/b.c", 3), make("A", 1, 5.0)]
    write_shard(tmp_path / "a.tar", "webdataset", written, SHAPE)
    members = members_by_hand((tmp_path / "a.tar").read_bytes())
    assert len(members) == 4
    for index, row in enumerate(written):
        item = json.loads(members[f"{index:08d}.item.json"])
        assert item == {"key": row.key, "times_s": row.times_s.tolist()}
        values = members[f"{index:08d}.features.npy"]
        # A `.npy` file: a magic word, the version, the header's length, and the header.
        (length,) = struct.unpack("<H", values[8:10])
        assert values[:8] == b"\x93NUMPY\x01\x00" and b"'<f4'" in values[10 : 10 + length]
        assert values[10 + length :] == row.values.tobytes()
