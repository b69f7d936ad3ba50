"""Tables that people have become corpora, and bad ones are named."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.run import ImportOptions, import_features
from intertitle.pipeline.feature_store.external.sources import SourceOptions
from intertitle.pipeline.importers.table import import_table
from intertitle.pipeline.storage.paths import as_path

Lay = Callable[[dict[str, object]], Path]
PHOTOGRAPHS: dict[str, object] = {f"{name}.jpg": None for name in "abcdefghij"}


@pytest.fixture
def lay_out(tmp_path: Path) -> Lay:
    """Write files below one folder: text, bytes, lists as JSON lines, and None as an empty file."""

    def lay_out(files: dict[str, object]) -> Path:
        for name, content in files.items():
            file = tmp_path / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, list):
                content = "".join(json.dumps(row) + "\n" for row in content)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                file.write_text(str(content or ""), encoding="utf-8", newline="")
        return tmp_path / "data"

    return lay_out


@pytest.fixture
def examples(lay_out: Lay, tmp_path: Path) -> Callable[..., list[Example]]:
    """Import the first of some files; the examples."""

    def examples(files: dict[str, object], **options: object) -> list[Example]:
        table = lay_out(files) / next(iter(files))
        import_table([table], tmp_path / "corpus", **options)  # type: ignore[arg-type]
        return Corpus(tmp_path / "corpus").examples()

    return examples


def test_rows_of_one_file_are_references(lay_out: Lay, tmp_path: Path) -> None:
    rows = 'image,caption\na.jpg,A dog runs .\nb.jpg,"A cat, asleep"\na.jpg,The dog .\n'
    folder = lay_out({"captions.csv": rows, **PHOTOGRAPHS})
    report = import_table([folder / "captions.csv"], tmp_path / "corpus", val_share=0, test_share=0)
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item(name, str(folder / name), "image") for name in ("a.jpg", "b.jpg")
    ]
    assert corpus.examples() == [
        Example("a.jpg", "train", "a.jpg", None, ("A dog runs .", "The dog .")),
        Example("b.jpg", "train", "b.jpg", None, ("A cat, asleep",)),
    ]
    assert report.references == 3
    assert "captions.csv: captions (file = image, caption = caption)" in report.notes


SENTENCES = {"train": ("A dog .", "A cat ."), "val": ("A cow .",)}


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"t.csv": "source;target;split\na;b;train\nc;d;dev\n"}, {}),
        ({"t.tsv": "source\ttarget\tsplit\na\tb\ttrain\nc\td\tdev\n"}, {}),
        ({"t.txt": "source|target|split\na|b|train\nc|d|dev\n"}, {}),
        (
            {"t.tsv.gz": gzip.compress(b"a\tb\ttrain\nc\td\tdev\n")},
            {"header": "source,target,split"},
        ),
        (
            {
                "t.jsonl": [
                    {"source": "a", "target": "b", "split": "train"},
                    {"source": "c", "target": "d", "split": "dev"},
                ]
            },
            {},
        ),
        ({"t.csv": "en,fr,split\na,b,train\nc,d,dev\n"}, {"column": ["source=en", "target=fr"]}),
        (
            {
                "t.ndjson": [
                    {"split": "train", "translation": {"en": "a", "fr": "b"}},
                    {"split": "dev", "translation": {"en": "c", "fr": "d"}},
                ]
            },
            {"column": ["source=translation.en", "target=translation.fr"]},
        ),
    ],
    ids=["CSV", "TSV", "text", "gzip", "JSON lines", "chosen columns", "objects"],
)
def test_formats_and_headers(
    files: dict[str, object], options: dict[str, object], examples
) -> None:
    found = examples(files, **options)
    assert [(e.split, e.source, e.targets) for e in found] == [
        ("train", "a", ("b",)),
        ("val", "c", ("d",)),
    ]


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["a film", "no film"], "label": [1, 0], "split": ["test", "test"]})
    pq.write_table(table, tmp_path / "reviews.parquet")
    import_table([tmp_path / "reviews.parquet"], tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").examples() == [
        Example("reviews.parquet:1", "test", None, "a film", ("1",)),
        Example("reviews.parquet:2", "test", None, "no film", ("0",)),
    ]


def test_fields_of_objects_in_parquet_are_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"translation": [{"en": "a", "fr": "b"}]}), tmp_path / "t.parquet")
    columns = ["source=translation.en", "target=translation.fr"]
    import_table([tmp_path / "t.parquet"], tmp_path / "corpus", column=columns)
    (example,) = Corpus(tmp_path / "corpus").examples()
    assert (example.source, example.targets) == ("a", ("b",))


def test_a_number_of_too_many_digits_is_one_line(lay_out: Lay, tmp_path: Path) -> None:
    folder = lay_out({"t.jsonl": '{"text": "a", "label": ' + "9" * 5000 + "}\n"})
    with pytest.raises(UserError, match=r"line 1: not JSON: a number is too long"):
        import_table([folder / "t.jsonl"], tmp_path / "corpus")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [
                {"image": "a.jpg", "question": "What ?", "answers": ["dog", "a dog"]},
                {"image": "a.jpg", "question": "Who ?", "answers": [{"answer": "me"}]},
                {"image": "a.jpg", "question": "What ?", "answers": ["cat"]},
            ],
            [("a.jpg", "What ?", ("dog", "a dog", "cat")), ("a.jpg", "Who ?", ("me",))],
        ),
        (
            [{"image": "a.jpg", "label": 3}, {"image": "b.jpg", "label": 4}],
            [("a.jpg", None, ("3",)), ("b.jpg", None, ("4",))],
        ),
        (
            [{"video": "a", "labels": ["pour", "stir", "stir"]}],
            [("a", None, ("pour", "stir", "stir"))],
        ),
        (
            [{"text": "one two"}, {"text": "three"}],
            [(None, None, ("one two",)), (None, None, ("three",))],
        ),
    ],
    ids=["questions", "labels", "labels of frames", "text"],
)
def test_every_task(rows: list[object], expected: list[object], examples) -> None:
    found = examples({"t.jsonl": rows, **PHOTOGRAPHS})
    assert [(e.item_key, e.source, e.targets) for e in found] == expected


def test_kinds_of_questions_become_a_table_by_the_ids_of_the_examples(
    examples, tmp_path: Path
) -> None:
    rows = [
        {"image": "a.jpg", "question": "What ?", "answer": "dog", "kind": "object"},
        {"image": "a.jpg", "question": "What ?", "answer": "cat", "kind": "object"},
        {"image": "a.jpg", "question": "Who ?", "answer": "me", "kind": None},
        {"image": "b.jpg", "question": "How many ?", "answer": "2", "kind": "number"},
    ]
    found = examples({"t.jsonl": rows, **PHOTOGRAPHS})
    kinds = (tmp_path / "corpus" / "kinds.csv").read_text()
    assert kinds == f"id,kind\n{found[0].id},object\n{found[2].id},number\n"


def test_rows_without_a_split_are_not_drawn_into_those_of_others(
    lay_out: Lay, tmp_path: Path
) -> None:
    names = ["test/0.jpg", *PHOTOGRAPHS]
    rows = "".join(f"{name},A dog .\n" for name in names)
    folder = lay_out({"metadata.csv": f"file_name,text\n{rows}", **dict.fromkeys(names)})
    report = import_table([folder], tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").counts() == {"test": 1, "train": len(PHOTOGRAPHS)}
    assert any("10 examples have no split, but others do" in note for note in report.notes)


def test_files_outside_of_the_folder_need_the_ending_of_a_video_or_image(
    lay_out: Lay, tmp_path: Path
) -> None:
    folder = lay_out({"t.csv": "image,caption\n../secret,A dog .\n"})
    (tmp_path / "secret").write_text("of the user")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"t\.csv: line 2: .*secret: outside of .*; or --root"):
        import_table([folder / "t.csv"], tmp_path / "corpus")
    lay_out({"t.csv": f"image,caption\n{tmp_path}/a.jpg,A dog .\n"})
    assert import_table([folder / "t.csv"], tmp_path / "corpus").items == 1
    lay_out({"t.csv": "image,caption\nbytes://2+5/../secret,A dog .\n"})
    with pytest.raises(UserError, match="neither a video nor an image"):
        import_table([folder / "t.csv"], tmp_path / "corpus")


def test_segments_that_differ_little_stay_apart(examples) -> None:
    rows = "a.mp4,10000.01,10002,one\na.mp4,10000.02,10002,two\n"
    found = examples({"t.csv": f"video,start,end,caption\n{rows}", "a.mp4": None})
    assert [e.item_key for e in found] == ["a.mp4#10000.01-10002", "a.mp4#10000.02-10002"]


def test_lists_in_json_keep_their_characters(examples) -> None:
    row = json.dumps(["caf\u00e9 \U0001f600", None, "a / b"]).replace("/", "\\/").replace('"', '""')
    (example,) = examples({"t.csv": f'image,captions\na.jpg,"{row}"\n', **PHOTOGRAPHS})
    assert example.targets == ("caf\u00e9 \U0001f600", "a / b")


def test_lists_in_a_csv_file(examples) -> None:
    cells = """image,captions\na.jpg,"['A dog .', ""It's a dog .""]"\nb.jpg,"[""A cat .""]"\n"""
    found = examples({"t.csv": cells, **PHOTOGRAPHS})
    assert [e.targets for e in found] == [("A dog .", "It's a dog ."), ("A cat .",)]


def test_segments_of_videos_stay_in_one_split(lay_out: Lay, tmp_path: Path) -> None:
    names = [f"{n}.mp4" for n in range(20)]
    rows = "".join(
        f"{name},{start},0:{start + 5},A dog .\n" for name in names for start in (0, 5.5)
    )
    files = dict.fromkeys(names)
    folder = lay_out({"t.csv": f"video,start,end,caption\n{rows}", **files})
    import_table([folder / "t.csv"], tmp_path / "corpus", val_share=0.3, test_share=0.3)
    corpus = Corpus(tmp_path / "corpus")
    items = {item.key: item for item in corpus.items()}
    assert items["3.mp4#5.5-10.5"] == Item(
        "3.mp4#5.5-10.5", str(folder / "3.mp4"), "video", 5.5, 10.5
    )
    splits = {}
    for example in corpus.examples():
        splits.setdefault(items[str(example.item_key)].uri, set()).add(example.split)
    assert all(len(of_file) == 1 for of_file in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_names_of_tables_are_splits(lay_out: Lay, tmp_path: Path) -> None:
    text = "source,target\na,b\n"
    folder = lay_out({"train-00000-of-00001.csv": text, "my_valid.csv": text, "news.csv": text})
    import_table(sorted(folder.iterdir()), tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").counts() == {"val": 1, "news": 1, "train": 1}


@pytest.mark.parametrize(
    "files",
    [
        {
            "train/metadata.jsonl": [{"file_name": "0.png", "text": "A dog ."}],
            "validation/metadata.jsonl": [{"file_name": "0.png", "text": "A cat ."}],
        },
        {"metadata.csv": "file_name,text\ntrain/0.png,A dog .\nvalidation/0.png,A cat .\n"},
        {
            "metadata.csv": "file_name,text,split\ntrain/0.png,A dog .,train\n"
            "validation/0.png,A cat .,validation\n"
        },
    ],
    ids=["a table in each folder", "folders in the names", "column"],
)
def test_a_hugging_face_folder_is_read_as_it_is(
    files: dict[str, object], lay_out: Lay, tmp_path: Path
) -> None:
    folder = lay_out({**files, "train/0.png": None, "validation/0.png": None})
    import_table([folder], tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert {(e.split, e.item_key, e.targets) for e in corpus.examples()} == {
        ("train", "train/0.png", ("A dog .",)),
        ("val", "validation/0.png", ("A cat .",)),
    }
    assert len({item.uri for item in corpus.items()}) == 2


class _Server(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if not self.path.startswith("/to/"):
            return super().do_GET()
        self.send_response(302)
        self.send_header("Location", f"http://{self.path.removeprefix('/to/')}")
        self.end_headers()
        return None

    def log_message(self, *_: object) -> None:
        pass


def test_a_table_by_url_names_files_next_to_it(lay_out: Lay, tmp_path: Path) -> None:
    folder = lay_out({"t.csv.gz": gzip.compress(b"image,caption\na.jpg,A dog .\n")})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Server, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{serving.server_port}"
        report = import_table([as_path(f"{place}/t.csv.gz")], tmp_path / "corpus")
        with pytest.raises(UserError, match=r"gone\.csv: missing: gone: status 404"):
            import_table([as_path(f"{place}/gone.csv")], tmp_path / "corpus")
        with pytest.raises(UserError, match=r"redirected to http://169\.254\.169\.254/t\.csv"):
            import_table([as_path(f"{place}/to/169.254.169.254/t.csv")], tmp_path / "corpus")
        # A table of this machine besides.
        local = lay_out({"more.csv": "image,caption\nb.jpg,A cat .\n", "b.jpg": None}) / "more.csv"
        both = import_table([local, as_path(f"{place}/t.csv.gz")], tmp_path / "both")
    finally:
        serving.shutdown()
        serving.server_close()
    assert Corpus(tmp_path / "corpus").items() == [Item("a.jpg", f"{place}/a.jpg", "image")]
    assert any(f"--allow-host {place}" in note for note in report.notes)
    assert both.items == 2


def test_files_by_url_are_not_looked_for(lay_out: Lay, tmp_path: Path) -> None:
    url = "https://photos.example.org/a.jpg?size=3"
    folder = lay_out({"t.tsv": f"url\tcaption\n{url}\tA dog .\n"})
    report = import_table([folder / "t.tsv"], tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").items() == [Item(url, url, "image")]
    assert any("--allow-host https://photos.example.org" in note for note in report.notes)


def test_items_without_files_are_imported_for_features_of_other_programs(
    lay_out: Lay, tmp_path: Path
) -> None:
    rows = [
        {"video": f"video{n}", "captions": ["A dog .", "The dog ."], "split": split}
        for n, split in enumerate(("train", "val"))
    ]
    folder = lay_out({"clips.jsonl": rows})
    with pytest.raises(UserError, match=r"none of the 2 files .* --no-files imports items"):
        import_table([folder / "clips.jsonl"], tmp_path / "corpus")
    report = import_table([folder / "clips.jsonl"], tmp_path / "corpus", no_files=True)
    corpus = Corpus(tmp_path / "corpus")
    assert (report.items, report.missing) == (2, ())
    assert corpus.items()[1] == Item("video1", str(folder / "video1"), "video")
    np.save(tmp_path / "features.npy", np.ones((2, 5, 3), np.float16))
    options = ImportOptions("net", source=SourceOptions(folder / "clips.jsonl"))
    stored = import_features(tmp_path / "features.npy", corpus, tmp_path / "store", options)
    assert (stored.stored, stored.frames, stored.by_name) == (2, 10, 0)


def test_a_table_without_files_names_none_outside_of_its_folder(
    lay_out: Lay, tmp_path: Path
) -> None:
    folder = lay_out({"t.jsonl": [{"video": "../secret", "caption": "A dog ."}]})
    with pytest.raises(UserError, match=r"secret: outside of .*data"):
        import_table([folder / "t.jsonl"], tmp_path / "corpus", no_files=True)


def test_missing_files_empty_cells_and_repeats_are_counted(lay_out: Lay, tmp_path: Path) -> None:
    rows = "image,caption\na.jpg,A dog .\ngone.jpg,A cat .\nb.jpg, \n,A cow .\na.jpg,A dog .\n,\n"
    folder = lay_out({"t.csv": rows, **PHOTOGRAPHS})
    report = import_table([folder / "t.csv"], tmp_path / "corpus")
    assert (report.items, report.examples, report.references) == (1, 1, 2)
    assert report.missing == ("gone.jpg",)
    assert report.left_out == {"no caption": 1, "no file": 1}
    assert any("with no caption left out, the first is" in note for note in report.notes)
    assert any("1 rows repeat a text" in note for note in report.notes)


@pytest.mark.parametrize("name", ["./a.jpg", "sub\\b.jpg", "a", "ABSOLUTE/a.jpg", "cafe\u0301.jpg"])
def test_names_are_found_as_people_write_them(name: str, lay_out: Lay, tmp_path: Path) -> None:
    folder = lay_out({"a.jpg": None, "sub/b.jpg": None, "caf\u00e9.jpg": None})
    name = name.replace("ABSOLUTE", str(folder))
    (folder / "t.jsonl").write_text(json.dumps({"image": name, "caption": "A dog ."}))
    report = import_table([folder / "t.jsonl"], tmp_path / "corpus")
    assert (report.items, report.missing) == (1, ())


def test_one_file_under_two_names_is_one_item(examples, tmp_path: Path) -> None:
    rows = f"image,caption\na.jpg,A dog .\n{tmp_path}/data/a.jpg,The dog .\n"
    (example,) = examples({"t.csv": rows, "a.jpg": None})
    assert example.targets == ("A dog .", "The dog .")


LONE = "a \x0c b \x85 c \u2028 d \r e"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_only_lf_and_crlf_end_a_line(ending: str, examples) -> None:
    if ending == ".jsonl":
        rows = "".join(
            json.dumps({"text": text}, ensure_ascii=False) + "\r\n" for text in (LONE, "b")
        )
    else:
        rows = f"text\r\n{LONE}\r\n\r\nb"
    found = examples({f"t{ending}": f"\ufeff{rows}"})
    assert [e.targets for e in found] == [("a b c d e",), ("b",)]


def test_a_quoted_cell_may_have_several_lines(examples) -> None:
    found = examples({"t.csv": 'text\n"one\r\ntwo ""three"""\nfour\n'})
    assert [(e.id, e.targets) for e in found] == [
        ("t.csv:2", ('one two "three"',)),
        ("t.csv:4", ("four",)),
    ]


def test_an_encoding_can_be_named(examples) -> None:
    (example,) = examples({"t.csv": "text\ncaf\u00e9\n".encode("latin-1")}, encoding="latin-1")
    assert example.targets == ("caf\u00e9",)


CAPTIONS = "image,caption\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,words\na.jpg,A dog\n",
            r"t\.csv: the columns name, words fit no task, allowed: a file",
        ),
        ("image,image\n", "the column 'image' occurs twice"),
        (
            "image,caption,label\na.jpg,A dog .,3\n",
            "fit labels .label. and captions .caption.; choose: "
            "--column label=label or --column caption=caption",
        ),
        (
            f"{CAPTIONS}a.jpg,A dog, asleep\n",
            r"line 2: 3 cells, the header has 2: \['a.jpg', 'A dog', "
            r"' asleep'\]; a cell with the separator needs quotes",
        ),
        (f"{CAPTIONS}a.jpg\n", "line 2: 1 cells, the header has 2"),
        (f'{CAPTIONS}a.jpg,"A dog\nb.jpg,A cat\n', "line 2: a quoted cell has no end"),
        (f'{CAPTIONS}a.jpg,"A" dog\n', "line 2: "),
        (
            f"{CAPTIONS}a.jpg,caf\u00e9\n".encode("latin-1"),
            "line 2: not UTF-8 at byte 9; --encoding names another, such as latin-1",
        ),
        ("image,caption\n".encode("utf-16"), "line 1: not UTF-8 at byte 0"),
        (b"x" * (1 << 26) + b"xx", "line 1: over 67,108,864 bytes"),
        (f"{CAPTIONS}a.jpg,{'x' * (1 << 20)}y\n", "line 2: a cell of over 1,048,576 characters"),
        (
            f"{CAPTIONS}a.jpg,{'word ' * 10_000}\n",
            "line 2: column caption: 10000 words, allowed: 5000",
        ),
        (
            "image,caption,split\na.jpg,A,train\na.jpg,B,test\n",
            r"line 3: 'a.jpg' is in test, but in train at .*line 2; allowed: one split",
        ),
        ("image,caption,split\na.jpg,A,\n", "line 2: column split: is empty, allowed"),
        (
            "image,label\na.jpg,3\na.jpg,4\n",
            r"line 3: 'a.jpg' has \['4'\], but \['3'\] at .*line 2",
        ),
        ("video,labels\na.jpg,pour\n", "line 2: column labels: 'pour', allowed: a list"),
        (
            "video,caption,start\na.jpg,A dog,soon\n",
            "line 2: start: 'soon', allowed: seconds, m:ss",
        ),
        ("file,caption\nt.csv,A dog\n", r"line 2: column file: .*ending '.csv', allowed: "),
        (
            f"{CAPTIONS}gone.jpg,A dog\n",
            r"has none of the 1 files that are named, the first is 'gone.jpg'"
            r"; looked in .*data: --root FOLDER names another",
        ),
        (f"{CAPTIONS}c.jpg,A dog\n", "looked in .*data: --root .*data/photographs names another"),
        (f"{CAPTIONS}", "has no examples"),
        ("", "has no rows"),
    ],
)
def test_bad_tables_are_named_in_one_line(
    content: object, message: str, lay_out: Lay, tmp_path: Path
) -> None:
    folder = lay_out({"t.csv": content, "a.jpg": None, "photographs/c.jpg": None})
    with pytest.raises(UserError, match=message) as raised:
        import_table([folder / "t.csv"], tmp_path / "corpus")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (["t.csv", "./t.csv"], {}, r"t\.csv: named twice"),
        (
            ["t.csv", "s.csv"],
            {},
            r"t\.csv: text, .*s\.csv: translation; allowed: tables of one task",
        ),
        (["gone.csv"], {}, r"gone\.csv: missing"),
        (["."], {}, "has no metadata.csv, .*; its tables can be named: bad"),
        ([], {}, "takes a FILE"),
        (["bad.parquet"], {}, "bad.parquet: not Parquet that can be read"),
        (["bad.jsonl"], {}, r"bad\.jsonl: line 1: not JSON: .*: '\{\"a\": '"),
        (["bad.csv.gz"], {}, "bad.csv.gz: not gzip"),
        (["t.xlsx"], {}, r"t\.xlsx: ending '.xlsx', allowed: .csv"),
        (
            ["t.csv"],
            {"column": ["caption"]},
            "--column caption: allowed: ROLE=NAME, ROLE of file, ",
        ),
        (["t.csv"], {"column": ["caption=title"]}, r"no column 'title' \(caption\); it has text"),
        (["t.csv"], {"encoding": "latin-9000"}, "--encoding: 'latin-9000', allowed"),
        (["t.csv"], {"encoding": "utf-16"}, "--encoding: 'utf-16', allowed: one that extends"),
        (["t.csv"], {"val_share": 0.5, "test_share": 0.5}, "nothing is left for train"),
        (["t.csv"], {"kind": "sound"}, "--kind: 'sound', allowed: image or video"),
    ],
)
def test_what_the_caller_got_wrong(
    files: list[str], options: dict[str, object], message: str, lay_out: Lay, tmp_path: Path
) -> None:
    folder = lay_out(
        {
            "t.csv": "text\na\n",
            "s.csv": "source,target\na,b\n",
            "bad.parquet": "PAR",
            "t.xlsx": "",
            "bad.jsonl": '{"a": \n',
            "bad.csv.gz": "text\n",
        }
    )
    with pytest.raises(UserError, match=message):
        import_table([folder / file for file in files], tmp_path / "corpus", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "corpus").exists()
