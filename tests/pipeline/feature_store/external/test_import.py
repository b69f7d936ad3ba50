"""Features that another program computed become a store, each item stored or quarantined."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.identity import check_same_corpus
from intertitle.pipeline.feature_store.external.keys import KeyedRows
from intertitle.pipeline.feature_store.external.run import ImportOptions, import_features
from intertitle.pipeline.feature_store.external.sources import SourceOptions
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import as_path

KEYS = ("a", "b/c", "d.jpg")
OPTIONS = ImportOptions("clip")
Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    items = [Item(key, f"{key}.mp4", "video") for key in KEYS]
    return write_corpus(tmp_path / "corpus", items, [])


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    lengths = dict(zip(KEYS, (1, 4, 2), strict=True))
    return {key: rng.normal(size=(n, 3)).astype(np.float32) for key, n in lengths.items()}


def as_folder(path: Path, arrays: Arrays) -> Path:
    for key, values in arrays.items():
        file = path / f"{key}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values)
    return path


def as_npz(path: Path, arrays: Arrays) -> Path:
    file = path.with_suffix(".npz")
    np.savez(file, **arrays)
    return file


def as_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return path.with_suffix(".h5")


def as_parquet(path: Path, arrays: Arrays) -> Path:
    table = pa.table({"key": list(arrays), "features": [v.tolist() for v in arrays.values()]})
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


@pytest.mark.parametrize("write", [as_folder, as_npz, as_hdf5, as_parquet])
def test_every_kind_of_source_gives_the_same_store(
    write: Callable[[Path, Arrays], Path], corpus: Corpus, arrays: Arrays, tmp_path: Path
) -> None:
    source = write(tmp_path / "source", arrays)
    report = import_features(source, corpus, tmp_path / "store", replace(OPTIONS, fps=2.0))
    assert (report.arrays, report.stored, report.frames) == (3, 3, 7)
    assert (report.quarantined, report.unknown, report.by_name) == ((), (), 0)
    store = FeatureStore(tmp_path / "store")
    for key, values in arrays.items():
        assert np.array_equal(store.features(key), values)
    assert store.read("b/c").times_s.tolist() == [0, 0.5, 1, 1.5]
    fingerprint = store.snapshot.fingerprint
    assert (fingerprint.backbone, fingerprint.shape) == ("external:clip", (3,))
    # Equal features have an equal fingerprint, whatever they came in.
    other = import_features(as_npz(tmp_path / "again", arrays), corpus, tmp_path / "two", OPTIONS)
    assert other.fingerprint == fingerprint


def test_a_packed_array_is_cut_by_its_list_of_keys(
    corpus: Corpus, arrays: Arrays, tmp_path: Path
) -> None:
    packed = np.concatenate(list(arrays.values()))
    low, scale = packed.min(0), np.ptp(packed, axis=0) / 255
    coded = np.rint((packed - low) / scale).astype(np.uint8)
    np.savez(tmp_path / "packed.npz", features=coded, low=low, scale=scale)
    keys = tmp_path / "keys.jsonl"
    lines = [f'{{"video": "{key}", "frames": {len(v)}}}' for key, v in arrays.items()]
    keys.write_text("\n".join(lines))
    source = SourceOptions(keys, scale="scale", offset="low")
    import_features(
        tmp_path / "packed.npz", corpus, tmp_path / "store", replace(OPTIONS, source=source)
    )
    store = FeatureStore(tmp_path / "store")
    for key, values in arrays.items():
        assert np.abs(store.features(key) - values).max() <= scale.max()
    np.save(tmp_path / "stack.npy", np.ones((3, 2, 5), np.float16))
    keys.write_text("\n".join(KEYS))
    report = import_features(
        tmp_path / "stack.npy",
        corpus,
        tmp_path / "grid",
        replace(OPTIONS, features="grid", source=SourceOptions(keys)),
    )
    assert (report.fingerprint.shape, report.frames) == ((2, 5), 3)


def test_bad_arrays_are_quarantined_and_counted(tmp_path: Path) -> None:
    bad: dict[str, tuple[object, str]] = {
        "nan": (np.array([[1, np.nan, 2]]), "not_finite"),
        "overflow": (np.array([[1e300, 0, 0]]), "not_finite"),
        "wide": (np.ones((2, 4)), "shape"),
        "deep": (np.ones((2, 3, 3)), "shape"),
        "none": (np.ones((0, 3)), "empty"),
        "words": (np.array([["a", "b", "c"]]), "type"),
        "pickle": (np.array([{}], object), "type"),
        "damaged": (b"\x93NUMPY nothing", "unreadable"),
    }
    source = tmp_path / "source"
    source.mkdir()
    for key, (value, _) in bad.items():
        if isinstance(value, bytes):
            (source / f"{key}.npy").write_bytes(value)
        else:
            np.save(source / f"{key}.npy", np.asarray(value))
    for key in ("x", "y", "unknown"):
        np.save(source / f"{key}.npy", np.ones(3))
    items = [Item(key, f"{key}.jpg", "image") for key in ("x", *bad, "gone", "y")]
    corpus = write_corpus(tmp_path / "corpus", items, [])
    report = import_features(source, corpus, tmp_path / "store", OPTIONS)
    assert (report.stored, report.unknown) == (2, ("unknown",))
    errors = {record.key: record.error for record in report.quarantined}
    assert errors == {**{key: error for key, (_, error) in bad.items()}, "gone": "missing"}
    assert all(record.message and "\n" not in record.message for record in report.quarantined)
    store = FeatureStore(tmp_path / "store")
    assert [record.key for record in store.snapshot.records()] == [item.key for item in items]


@pytest.mark.parametrize(
    ("array", "item", "matches"),
    [
        ("x", "x.jpg", True),
        ("x", "train/x.jpg", True),
        ("x.jpg", "x", True),
        ("vectors/x", "x.jpg", True),
        ("train/x", "train/x.jpg", True),
        ("val/x", "train/x.jpg", False),
        ("y", "x.jpg", False),
    ],
)
def test_an_array_may_have_the_name_of_the_items_file(
    array: str, item: str, matches: bool, tmp_path: Path
) -> None:
    items = [Item(item, "x.jpg", "image"), Item("sure", "sure.jpg", "image")]
    corpus = write_corpus(tmp_path / "corpus", items, [])
    source = as_npz(tmp_path / "s", {array: np.ones(3, "f4"), "sure": np.ones(3, "f4")})
    report = import_features(source, corpus, tmp_path / "store", OPTIONS)
    assert (report.by_name, report.stored) == (matches, 1 + matches)


def test_a_pickle_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "features.npz"
    file.write_bytes(pickle.dumps({"a": [1.0]}))
    with pytest.raises(UserError, match=r"not an \.npz archive"):
        import_features(file, corpus, tmp_path / "store", OPTIONS)


def test_features_of_another_corpus_or_network_are_refused(
    corpus: Corpus, arrays: Arrays, tmp_path: Path
) -> None:
    source, store = as_npz(tmp_path / "one", arrays), tmp_path / "store"
    import_features(source, corpus, store, OPTIONS)
    with pytest.raises(UserError, match=r"backbone 'external:clip' != 'external:dino'"):
        import_features(source, corpus, store, replace(OPTIONS, network="dino"))
    changed = as_npz(tmp_path / "two", {**arrays, "a": arrays["a"] + 1})
    with pytest.raises(UserError, match="weights_sha256"):
        import_features(changed, corpus, store, OPTIONS)
    same = replace(OPTIONS, same_as=as_path(store))
    assert import_features(changed, corpus, store, same).stored == 3
    wide = as_npz(tmp_path / "wide", {"a": np.ones(4, "f4")})
    with pytest.raises(UserError, match="shape"):
        import_features(wide, corpus, tmp_path / "other", same)
    unrelated = as_npz(tmp_path / "three", {"z": np.ones(3, "f4")})
    with pytest.raises(UserError, match=r"such as 'z' is an item of .* features of another corpus"):
        import_features(unrelated, corpus, tmp_path / "other", OPTIONS)

    check_same_corpus(FeatureStore(store), corpus)
    moved = [Item("a", "/elsewhere/a.mp4", "video")]
    check_same_corpus(FeatureStore(store), write_corpus(tmp_path / "moved", moved, []))
    for item in (Item("a", "b.mp4", "video"), Item("a", "a.mp4", "video", 0.0, 1.0)):
        with pytest.raises(UserError, match="features of another corpus"):
            check_same_corpus(FeatureStore(store), write_corpus(tmp_path / "c2", [item], []))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gone", SourceOptions(), "no such file or folder"),
        ("empty", SourceOptions(), "no .npy files"),
        ("one.npz", SourceOptions(array="a"), "--array a: only with --keys"),
        ("one.npz", SourceOptions(keys=Path("keys"), array="z"), "no array 'z', allowed: a, b/c"),
        ("one.npz", SourceOptions(keys=Path("keys"), array="b/c"), "2 keys, but .* has 4 rows"),
        ("keys", SourceOptions(), "ending ''"),
    ],
)
def test_a_source_that_does_not_fit_is_one_line(
    name: str,
    options: SourceOptions,
    message: str,
    corpus: Corpus,
    arrays: Arrays,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    as_npz(tmp_path / "one", arrays)
    (tmp_path / "empty").mkdir()
    (tmp_path / "keys").write_text("a\nb/c\n")
    with pytest.raises(UserError, match=message) as error:
        import_features(Path(name), corpus, tmp_path / "store", replace(OPTIONS, source=options))
    assert "\n" not in str(error.value)


def test_a_second_import_keeps_the_features_of_the_first(
    corpus: Corpus, arrays: Arrays, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    import_features(as_npz(tmp_path / "one", {"a": arrays["a"]}), corpus, store, OPTIONS)
    (shard,) = (store / "shards").iterdir()
    inode = shard.stat().st_ino
    again = replace(OPTIONS, same_as=as_path(store))
    import_features(as_npz(tmp_path / "one", {"a": arrays["a"]}), corpus, store, again)
    # A reader may have mapped the shard.
    assert shard.stat().st_ino == inode
    report = import_features(
        as_npz(tmp_path / "two", {"d.jpg": arrays["d.jpg"]}), corpus, store, again
    )
    opened = FeatureStore(store)
    assert report.stored == 2 and [r.key for r in report.quarantined] == ["b/c"]
    for key in ("a", "d.jpg"):
        np.testing.assert_array_equal(opened.features(key), arrays[key])
    fewer = write_corpus(tmp_path / "fewer", corpus.items()[1:], [])
    with pytest.raises(UserError, match=r"of 1 items that .* lacks, such as 'a'"):
        import_features(as_npz(tmp_path / "two", arrays), fewer, store, again)


def test_another_make_is_refused_before_anything_is_written(
    corpus: Corpus, arrays: Arrays, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    import_features(as_npz(tmp_path / "one", arrays), corpus, store, OPTIONS)
    before = sorted((store / "shards").iterdir())
    wide = as_npz(tmp_path / "wide", {"a": np.ones((1, 4), np.float32)})
    with pytest.raises(UserError, match="another make: shape"):
        import_features(wide, corpus, store, OPTIONS)
    assert sorted((store / "shards").iterdir()) == before


def test_members_of_a_tar_are_told_apart(arrays: Arrays, tmp_path: Path) -> None:
    items = [Item("a", "bytes://512+100/t.tar", "image")]
    corpus = write_corpus(tmp_path / "c", items, [])
    store = tmp_path / "store"
    import_features(as_npz(tmp_path / "one", {"a": arrays["a"]}), corpus, store, OPTIONS)
    moved = [Item("a", "bytes://512+100//elsewhere/t.tar", "image")]
    check_same_corpus(FeatureStore(store), write_corpus(tmp_path / "moved", moved, []))
    other = write_corpus(tmp_path / "other", [Item("a", "bytes://1024+100/t.tar", "image")], [])
    with pytest.raises(UserError, match="features of another corpus"):
        check_same_corpus(FeatureStore(store), other)


def test_damaged_files_are_one_line(corpus: Corpus, arrays: Arrays, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "z.npz", **{key: np.zeros((50, 3), "f4") for key in KEYS})
    content = bytearray((tmp_path / "z.npz").read_bytes())
    content[60:80] = b"\xff" * 20
    (tmp_path / "z.npz").write_bytes(content)
    report = import_features(tmp_path / "z.npz", corpus, tmp_path / "z", OPTIONS)
    assert [record.error for record in report.quarantined] == ["unreadable"]
    structs = pa.array([[{"x": 1.0}]])
    pq.write_table(pa.table({"key": ["a"], "features": structs}), tmp_path / "s.parquet")
    with pytest.raises(UserError, match="allowed: numbers"):
        import_features(tmp_path / "s.parquet", corpus, tmp_path / "s", OPTIONS)
    file = as_parquet(tmp_path / "p", {key: np.ones((500, 3), np.float32) for key in KEYS})
    content = bytearray(file.read_bytes())
    content[10:120] = b"\xff" * 110
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"p\.parquet: can't be read further"):
        import_features(file, corpus, tmp_path / "p", OPTIONS)


def test_a_line_separator_is_part_of_a_key(arrays: Arrays, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", [Item("a\u2028b", "a.mp4", "video")], [])
    np.save(tmp_path / "one.npy", arrays["a"])
    (tmp_path / "keys").write_text("a\u2028b\n", "utf-8")
    options = replace(OPTIONS, source=SourceOptions(keys=tmp_path / "keys"))
    assert import_features(tmp_path / "one.npy", corpus, tmp_path / "s", options).stored == 1


def test_only_lf_and_crlf_end_a_line_of_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"a\rb\r\nc\n")
    assert KeyedRows.read(tmp_path / "keys", 2, "one.npy").keys == ("a\rb", "c")
