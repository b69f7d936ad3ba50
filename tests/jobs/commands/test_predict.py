"""`intertitle predict`, as a person meets it: what it takes, what it writes, what it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.storage import failpoints
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.evaluation.answers import rank_answers
from intertitle.training.inference import batch_inference
from intertitle.training.inference.inputs import QuerySet
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import read_predictions
from intertitle.training.inference.predictor import predict
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.models.build import task_of
from intertitle.training.models.captioners import novelty
from intertitle.training.tracking.run import TrackedRun
from tests.training.conftest import (
    coloured_things,
    open_data_ref,
    small_recipe,
    untrained,
    words_of,
    write_data,
    write_features,
)

SENTENCES = ["ein roter Ball", "eine blaue Katze", "ein Hund rennt weit", "nichts"]
TOLD = ["a red ball", "a blue cat", "a dog runs far", "nothing"]
Run = Callable[..., Any]


def typed(text: bytes) -> io.TextIOWrapper:
    """Standard input."""
    return io.TextIOWrapper(io.BytesIO(text))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedModel]:
    """Translators of two sizes, one of another vocabulary, a classifier, a writer, a captioner."""
    folder = tmp_path_factory.mktemp("pairs")
    examples = [
        Example(f"{split}-{n}", split, None, source, (target,))
        for split in ("train", "val")
        for n, (source, target) in enumerate(zip(SENTENCES, TOLD, strict=True))
    ]
    write_corpus(folder, [], examples)
    pairs = open_data_ref(folder, None, "nothing")
    by_words = (
        "tokenizer.kind=words",
        "source_tokenizer.kind=words",
        "source_tokenizer.min_count=1",
    )
    translating = small_recipe("seq2seq_attention", *by_words)
    wide = small_recipe("seq2seq_forward", *by_words, "model.hidden_size=20")
    task = task_of(translating.model)
    words = build_vocabs(translating, *texts_of(Corpus(folder), "train", task))
    fewer = small_recipe("seq2seq_attention", *by_words, "tokenizer.min_count=2")
    other = build_vocabs(fewer, *texts_of(Corpus(folder), "train", task))
    naming = small_recipe("sentiment", "source_tokenizer.min_count=1")
    labels = build_vocabs(naming, *texts_of(Corpus(folder), "train", task_of(naming.model)))
    writing = small_recipe("char_lm")
    letters = build_vocabs(writing, TOLD, None)
    shown = coloured_things(20)
    things = write_data(tmp_path_factory.mktemp("things"), shown)
    return {
        "translator": untrained(translating, pairs, words),
        "wide": untrained(wide, pairs, words, 1),
        "stranger": untrained(fewer, pairs, other),
        "classifier": untrained(naming, pairs, labels),
        "writer": untrained(writing, pairs, letters),
        "captioner": untrained(small_recipe("s2vt"), things, words_of(shown)),
    }


@pytest.fixture(scope="module")
def uri(models: dict[str, TrainedModel], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    for name, trained in models.items():
        write_mlflow_model(trained, folder / name)
        with TrackedRun.start(f"sqlite:///{folder}/mlflow.db", "predicting", name) as run:
            run.model(folder / name, "model")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def asked(intertitle: Run, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `predict`; what it printed, a line each."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, stdin: str = "") -> list[str]:
        monkeypatch.setattr("sys.stdin", typed(stdin.encode()))
        ended = intertitle("predict", *arguments, "--tracking-uri", uri)
        assert ended.code == 0, ended.err
        lines: list[str] = ended.out.splitlines()
        return lines

    return run


def texts_told(trained: TrainedModel, texts: list[str], **search: object) -> list[str]:
    return [p.text for p in predict(trained.with_search(**search), texts=texts)]


def test_sentences_come_from_flags_and_from_standard_input(
    asked: Run, models: dict[str, TrainedModel]
) -> None:
    expected = texts_told(models["translator"], SENTENCES)
    assert len(set(expected)) > 1
    flags = [part for sentence in SENTENCES for part in ("--text", sentence)]
    shown = asked("translator", *flags)
    assert shown == [f"{s}: {t}" for s, t in zip(SENTENCES, expected, strict=True)]
    # Nothing but the sentences, to be piped on.
    assert asked("translator", "-", stdin="\n".join(SENTENCES)) == expected


def test_a_line_is_a_line_whatever_it_holds(asked: Run, models: dict[str, TrainedModel]) -> None:
    first, second, *_ = SENTENCES
    # All of these but the line feed are blanks inside a line.
    ends = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    odd = "".join(f"{word}{end}" for word, end in zip(first.split(), ends, strict=False))
    lines = [f"{odd}\r", "", " ", second, "\x85"]
    expected = texts_told(models["translator"], [first, second])
    told = asked("translator", "-", stdin="\n".join(lines))
    assert told == [expected[0], "", "", expected[1], ""]
    assert asked("translator", "-", stdin="\n") == [""]
    (line,) = asked("translator", "-", "--nbest", 2, stdin="\n")
    empty = {"id": "", "rank": 1, "score": 0.0, "text": ""}
    assert json.loads(line) == {**empty, "format_version": 1}


def test_a_truncated_text_is_reported(
    intertitle: Run, uri: str, models: dict[str, TrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = models["translator"].recipe.source_tokenizer.max_tokens
    long = " ".join(["ein roter Ball"] * limit)
    texts = [*SENTENCES, long, f"{long} rennt"]

    def tell(*flags: object) -> tuple[list[str], str]:
        monkeypatch.setattr("sys.stdin", typed("\n".join(texts).encode()))
        ended = intertitle("predict", "translator", "-", *flags, "--tracking-uri", uri)
        assert ended.code == 0, ended.err
        return ended.out.split("\n"), ended.err

    cut, warned = tell()
    assert f"2 of 6 texts are longer than {limit} tokens and were cut" in warned
    assert (
        f"the longest has {3 * limit + 1}: source_tokenizer.max_tokens, or --max-source" in warned
    )
    whole, silent = tell("--max-source-tokens", 3 * limit + 1)
    assert "tokens and were cut" not in silent
    assert cut[4] == cut[5]
    assert cut[:4] == whole[:4]
    trained = models["translator"].reading(3 * limit + 1)
    assert whole[4:6] == texts_told(trained, texts[4:])
    ended = intertitle(
        "predict", "captioner", "a.mp4", "--max-source-tokens", 9, "--tracking-uri", uri
    )
    assert (ended.code, "--max-source-tokens 9: of no use to s2vt" in ended.err) == (2, True)


def test_the_search_is_as_the_flags_say(asked: Run, models: dict[str, TrainedModel]) -> None:
    trained = models["translator"]
    (text,) = asked("translator", "-", "--beam", 1, "--min-tokens", 5, stdin="nichts\n")
    assert [text] == texts_told(trained, ["nichts"], beam_size=1, min_tokens=5)
    drawn = asked("translator", "-", "--temperature", 2, "--seed", 5, stdin="\n".join(SENTENCES))
    assert drawn == texts_told(trained, SENTENCES, method="sample", temperature=2, seed=5)
    assert drawn != asked("translator", "-", "--sample", "--seed", 6, stdin="\n".join(SENTENCES))
    written = "\n".join(asked("writer", "--prefix", "a r", "--top-k", 3))
    assert written.startswith("a r")
    # Longer than a sentence may be.
    long = "a red ball " * 4
    assert "\n".join(asked("writer", "--prefix", long)).startswith(long)


def test_a_list_of_the_best_is_written_and_ranked_anew(asked: Run, tmp_path: Path) -> None:
    lines = asked("translator", "-", "--nbest", 3, stdin="\n".join(SENTENCES[:2]))
    Path("printed.jsonl").write_text("\n".join(lines))
    told = read_predictions(Path("printed.jsonl"), scored=True)
    assert [(p.id, p.rank) for p in told] == [(s, r) for s in SENTENCES[:2] for r in (1, 2, 3)]
    assert told[0].score >= told[1].score >= told[2].score
    assert asked(
        "translator", "-", "--nbest", 3, "--out", "a.jsonl", stdin="\n".join(SENTENCES[:2])
    )
    assert read_predictions(Path("a.jsonl"), scored=True) == told

    same = [json.loads(line) for line in asked("translator", "--rescore", "a.jsonl")]
    assert [(p["id"], p["rank"], p["text"]) for p in same] == [(p.id, p.rank, p.text) for p in told]
    assert [p["score"] for p in same] == pytest.approx([p.score for p in told], abs=1e-4)
    asked("wide", "--rescore", "a.jsonl", "--weight", 0.5, "--out", "b.jsonl")
    mixed = read_predictions(Path("b.jsonl"), scored=True)
    assert {(p.id, p.text) for p in mixed} == {(p.id, p.text) for p in told}
    assert [p.score for p in mixed] != pytest.approx([p.score for p in told], abs=1e-4)


def test_a_split_is_answered_and_a_list_about_it_ranked(
    asked: Run, models: dict[str, TrainedModel]
) -> None:
    asked("translator", "--split", "val", "--out", "val.parquet")
    rows = pq.read_table("val.parquet").to_pylist()
    assert [row["id"] for row in rows] == [f"val-{n}" for n in range(4)]
    assert [row["text"] for row in rows] == texts_told(models["translator"], SENTENCES)
    assert asked("captioner", "--split", "val", "--out", "val.txt") == ["val.txt: 4 predictions"]
    assert len(Path("val.txt").read_text().splitlines()) == 4
    candidates = [{"id": "val-1", "text": text} for text in TOLD]
    Path("list.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in candidates))
    ranked = asked("translator", "--rescore", "list.jsonl", "--split", "val")
    assert {json.loads(line)["text"] for line in ranked} == set(TOLD)


def test_several_runs_predict_as_an_ensemble(asked: Run) -> None:
    both = asked("translator", "--ensemble", "wide", "-", "--nbest", 2, stdin="nichts")
    turned = asked("wide", "--ensemble", "translator", "-", "--nbest", 2, stdin="nichts")
    alone = asked("translator", "-", "--nbest", 2, stdin="nichts")
    assert both == turned != alone


def test_labels_have_a_list_too(asked: Run) -> None:
    lines = [json.loads(line) for line in asked("classifier", "--text", "Ball", "--nbest", 9)]
    assert sorted(line["text"] for line in lines) == sorted(TOLD)
    assert sum(torch.tensor(line["score"]).exp() for line in lines) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["translator"], "--text or --question: missing, and seq2seq_attention reads it"),
        (["translator", "a.mp4", "--text", "a"], "FILE: of no use to seq2seq_attention"),
        (["translator", "--text", "a", "--top-p", "2"], "search.top_p: 2"),
        (["translator", "--text", "a", "--min-tokens", "9"], "search.min_tokens: 9"),
        (["translator", "--text", "a", "--question", "b"], "--text, --question: one of the two"),
        (["translator", "--split", "val", "--text", "b"], "--split val: not with"),
        (["translator", "--text", "a", "--corpus", "c"], "--corpus c: not with files or --text"),
        (["captioner", "a.mp4", "--features", "f"], "--features f: not with files or --text"),
        (["captioner", "--corpus", "c"], "--corpus, --features: both of them, or with --split"),
        (["translator", "--text", "a", "--weight", "0.5"], "--weight 0.5: only with --rescore"),
        (["translator", "--text", "a", "--address", "auto"], "--address auto: only with --workers"),
        (["translator", "--rescore", "x.jsonl", "--nbest", "2"], "--nbest 2: not with --rescore"),
        (
            ["translator", "--rescore", "x.jsonl", "--beam", "2"],
            "--rescore x.jsonl: not with options of a search but --length-penalty",
        ),
        (["writer", "--nbest", "2"], "--nbest: 2, allowed: 1 for char_lm: a text"),
        (["translator", "--text", "a", "--out", "a.csv"], "--out: a.csv: ending '.csv', allowed"),
        (["translator", "--rescore", "gone.jsonl"], "gone.jsonl: No such file"),
        (["translator", "--rescore", "bad.jsonl"], "bad.jsonl: line 1: not JSON"),
        (["translator", "--rescore", "x.jsonl", "--split", "val"], "id 'x', allowed"),
        (["classifier", "--rescore", "x.jsonl"], "--rescore: of no use to sentiment"),
        (["translator", "--ensemble", "stranger", "-"], "stranger has another vocabulary than"),
        (["translator", "--ensemble", "classifier", "-"], "classifier has another task than"),
        (["wide", "--text", "a", "--coverage-penalty", "1"], "search.coverage_penalty: 1.0, "),
        (["writer", "--split", "val"], "--split: 'val', allowed: none for char_lm"),
        (["captioner", "empty"], "empty: no videos or images in it"),
    ],
)
def test_a_mistake_ends_in_one_line(
    intertitle: Run,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", typed(b"nichts"))
    Path("empty").mkdir()
    Path("bad.jsonl").write_text("a dog\n")
    Path("x.jsonl").write_text('{"id": "x", "text": "a dog"}\n')
    ended = intertitle("predict", *arguments, "--tracking-uri", uri)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("intertitle: ")
    assert named in line


def test_a_split_is_answered_by_workers_and_only_what_is_missing(
    asked: Run,
    intertitle: Run,
    uri: str,
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_inference, "PART_ANSWERS", 1)
    drawn = ["--split", "val", "--sample", "--seed", "3", "--nbest", "2"]
    many = ["translator", *drawn, "--out", "parts", "--workers", "2"]
    asked("translator", *drawn, "--out", "alone.parquet")
    # A call that was killed at its beginning.
    Path("parts").mkdir()
    Path("parts/._predictions.json.7.writing").write_text("{")
    assert asked(*many) == ["parts: 4 answered in 4 parts, 0 of them skipped as there"]
    alone, parts = (pq.read_table(name).to_pylist() for name in ("alone.parquet", "parts"))
    for one, other in zip(alone, parts, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-4)
        assert one == other
    before = {file.name: file.read_bytes() for file in Path("parts").iterdir()}
    assert len(before) == 5

    # Killed on the way: one part never came, one was half written by something else.
    Path("parts/part-00001.parquet").unlink()
    Path("parts/part-00002.parquet").write_bytes(before["part-00002.parquet"][:-9])
    told = json.loads(asked(*many, "--json")[-1])
    assert told == {
        "out": "parts",
        "answered": 4,
        "left_out": 0,
        "parts": 4,
        "skipped": 2,
        "warnings": [],
    }
    assert {file.name: file.read_bytes() for file in Path("parts").iterdir()} == before
    assert "4 of them skipped" in asked(*many)[0]

    for changed, named in (
        ([*many, "--seed", "4"], "parts: holds predictions of search "),
        (["wide", *many[1:]], "parts: holds predictions of runs "),
        ([*many[:-3], ".", *many[-2:]], "--out: .: not a folder of predictions"),
        ([*many[:-3], "new", "--workers", "99"], "workers: 99, allowed: at most 2"),
        (
            ["wide", "--split", "val", "--coverage-penalty", "1", "--out", "w", "--workers", "1"],
            "search.coverage_penalty: 1.0, allowed: 0",
        ),
    ):
        ended = intertitle("predict", *changed, "--tracking-uri", uri)
        assert ended.code == 2, ended.err
        assert "Traceback" not in ended.err
        assert named in ended.err.splitlines()[-1]

    manifest = Path("parts/_predictions.json")
    said = json.loads(manifest.read_text())
    for text, named in (
        (json.dumps(said | {"weights": "0" * 64}), "parts: holds predictions of weights '000"),
        ("{", "_predictions.json: damaged: "),
    ):
        manifest.write_text(text)
        ended = intertitle("predict", *many, "--tracking-uri", uri)
        assert ended.code == 2
        assert named in ended.err.splitlines()[-1]


def test_items_without_examples_are_predicted_too(
    asked: Run,
    intertitle: Run,
    uri: str,
    ray_cluster: None,
    models: dict[str, TrainedModel],
    tmp_path: Path,
) -> None:
    shown = coloured_things(4)
    write_corpus(tmp_path / "new", [Item(s.key, f"{s.key}.mp4", "video") for s in shown], [])
    write_features(tmp_path / "seen", shown, quarantined=["item 2"])
    data = ("--corpus", "new", "--features", "seen")
    ended = intertitle("predict", "captioner", *data, "--json", "--tracking-uri", uri)
    *_, last = ended.out.splitlines()
    told = {one["input"]: one["text"] for one in json.loads(last)["results"]}
    assert list(told) == ["item 0", "item 1", "item 3"]
    assert ended.err.splitlines()[-1] == "1 left out: quarantined items"
    assert json.loads(last)["left_out"] == 1
    captioner = models["captioner"]
    for one in shown:
        if one.key in told:
            answers = rank_answers(
                captioner.model,
                QuerySet(captioner, [[]], lambda _, one=one: one.features),
                [0],
                captioner.recipe.search,
            )
            assert told[one.key] == answers[0][0].texts[0]

    (line,) = asked("captioner", *data, "--out", "parts", "--workers", 1)
    assert line == "parts: 3 answered in 1 parts, 0 of them skipped as there"
    rows = pq.read_table("parts").to_pylist()
    assert {row["id"]: row["text"] for row in rows} == told
    asked("captioner", *data, "--nbest", 2, "--out", "lists.jsonl")
    ranked = asked("captioner", *data, "--rescore", "lists.jsonl")
    assert [json.loads(line)["text"] for line in ranked[::2]] == list(told.values())

    # What is not on the list is not missed.
    Path("one.jsonl").write_text(Path("lists.jsonl").read_text().splitlines()[0])
    ended = intertitle(
        *("predict", "captioner", *data, "--rescore", "one.jsonl", "--json"),
        *("--tracking-uri", uri),
    )
    assert json.loads(ended.out.splitlines()[-1])["left_out"] == 0
    ended = intertitle("predict", "translator", *data, "--tracking-uri", uri)
    assert ended.code == 2
    assert "--features seen: this recipe reads text alone" in ended.err


def test_what_is_no_text_is_named(
    intertitle: Run, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", typed(b"\xef\xbb\xbfnichts\r\nGr\xfcn\n"))
    ended = intertitle("predict", "translator", "-", "--tracking-uri", uri)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("intertitle: standard input: line 2: Gr\\udcfcn: not UTF-8")
    for told in (["--text", "Gr\udcfcn"], ["--text", "Ball", "--prefix", "Gr\udcfcn"]):
        ended = intertitle("predict", "translator", *told, "--tracking-uri", uri)
        assert (ended.code, "not UTF-8" in ended.err.splitlines()[-1]) == (2, True)
    monkeypatch.setattr("sys.stdin", typed(b"\xef\xbb\xbfnichts\r\n"))
    marked = intertitle("predict", "translator", "-", "--tracking-uri", uri)
    monkeypatch.setattr("sys.stdin", typed(b"nichts\n"))
    assert marked.out == intertitle("predict", "translator", "-", "--tracking-uri", uri).out


def test_attention_is_drawn_of_one_input(
    asked: Run, intertitle: Run, uri: str, tmp_path: Path
) -> None:
    alone = asked("translator", "--text", "ein Ball")
    assert asked("translator", "--text", "ein Ball", "--explain", "look.png") == alone
    assert Path("look.png").read_bytes().startswith(b"\x89PNG")
    for arguments, named in (
        (["wide", "--text", "a", "--explain", "a.png"], "--explain: of no use to seq2seq_forward"),
        (["classifier", "--text", "a", "--explain", "a.png"], "--explain: of no use to sentiment"),
        (
            ["translator", "--text", "a", "--explain", "a.doc"],
            "ending '.doc', allowed: .png",
        ),
        (["translator", *2 * ["--text", "a"], "--explain", "a.png"], "2 inputs, allowed: one"),
        (["translator", "--split", "val", "--explain", "a.png"], "--explain a.png: not with"),
        (["translator", "--split", "val", "--workers", "1"], "--workers: needs --split, "),
    ):
        ended = intertitle("predict", *arguments, "--tracking-uri", uri)
        assert ended.code == 2
        assert named in ended.err.splitlines()[-1]
    assert not (tmp_path / "a.png").exists()


@pytest.fixture(scope="module")
def seers(onnx_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Runs of a captioner and of one that is asked questions, for files as they are."""
    spec = backbone_spec("efficientnet_lite0", "pooled")
    made = make_fingerprint(spec, Uniform(2), "arrow", "float32").features_json()
    features = FeatureRef("features", "0", made, spec.shape[-1])
    data = DataRef("corpus", "0", (features,))
    of_two = DataRef("corpus", "0", (features, features))
    folder = tmp_path_factory.mktemp("seers")
    answers = Vocabs(
        Tokenizer.labels(["red", "blue"], size=None),
        Tokenizer.words(["what colour"], min_count=1, lowercase=True),
    )
    captions = words_of(coloured_things(20))
    for name, recipe, words, seen in (
        ("captioner", "s2vt", captions, data),
        ("of two stores", "s2vt", captions, of_two),
        ("answerer", "vqa_lstm", answers, data),
    ):
        write_mlflow_model(untrained(small_recipe(recipe), seen, words), folder / name)
        with TrackedRun.start(f"sqlite:///{folder}/mlflow.db", "predicting", name) as run:
            run.model(folder / name, "model")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def look(
    intertitle: Run, seers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """Run `predict` beside a red and a blue picture, and files that can't be read."""
    monkeypatch.chdir(tmp_path)
    for colour in ("red", "blue"):
        Image.new("RGB", (40, 30), colour).save(f"{colour}.png")
    Path("empty.jpg").touch()
    Path("text.mp4").write_text("not a film")

    def run(*arguments: object, stdin: bytes = b"") -> Any:
        monkeypatch.setattr("sys.stdin", typed(stdin))
        return intertitle("predict", *arguments, "--tracking-uri", seers)

    return run


# The program, and the modules that it has imported in the end.
PROGRAM = """
import sys
from intertitle.jobs.cli import main
try:
    main()
except SystemExit as ended:
    assert not ended.code
print(*sys.modules, sep="\\n")
"""


def test_a_file_is_predicted_without_what_takes_long_to_import(look: Run, seers: str) -> None:
    call = [sys.executable, "-P", "-c", PROGRAM, "predict", "captioner", "red.png"]
    done = subprocess.run([*call, "--tracking-uri", seers], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    caption, *modules = done.stdout.splitlines()
    assert caption.startswith("red.png: ")
    assert {"torch", "onnxruntime"} <= {*modules}
    needless = {"ray", "mlflow", "pandas", "matplotlib", "sklearn", "pyseccomp"}
    assert not needless & {*modules}


def test_a_model_of_two_stores_sees_the_features_of_both(look: Run) -> None:
    ended = look("of two stores", "red.png", "--json")
    assert ended.code == 0
    assert len(json.loads(ended.out.splitlines()[-1])["results"]) == 1


def test_files_that_cannot_be_read_are_named_and_the_others_answered(look: Run) -> None:
    ended = look("captioner", "empty.jpg", "red.png", "gone.png", "text.mp4", "blue.png", "--json")
    assert ended.code == 3
    *shown, last = ended.out.splitlines()
    told = json.loads(last)
    assert [one["input"] for one in told["results"]] == ["red.png", "blue.png"]
    assert shown == [f"{one['input']}: {one['text']}" for one in told["results"]]
    assert [(one["input"], one["error"]) for one in told["failed"]] == [
        ("empty.jpg", "empty"),
        ("gone.png", "missing"),
        ("text.mp4", "unreadable"),
    ]
    named = [f"failed: {one['error']}: {one['message']}" for one in told["failed"]]
    *_, first, second, third, count = ended.err.splitlines()
    assert [first, second, third] == named
    assert (first, second) == (
        "failed: empty: empty.jpg: has no bytes",
        "failed: missing: gone.png: No such file or directory",
    )
    assert count == "5 files: 2 answered, 3 failed"
    ended = look("captioner", "red.png", "--json")
    assert (ended.code, json.loads(ended.out.splitlines()[-1])["failed"]) == (0, [])


@pytest.mark.parametrize(
    ("action", "error"), [("hang", "timeout"), ("crash", "crashed"), ("allocate", "memory")]
)
def test_a_file_that_ends_its_decoder_costs_itself_alone(
    look: Run, action: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 1 if action == "hang" else 60
    monkeypatch.setattr(
        "intertitle.pipeline.extract.Limits", lambda **_: Limits(seconds, memory_mb=200)
    )
    monkeypatch.setenv(failpoints.VARIABLE, f"decode@bad.png={action}")
    Path("bad.png").write_bytes(Path("red.png").read_bytes())
    ended = look("captioner", "red.png", "bad.png", "blue.png", "--json")
    told = json.loads(ended.out.splitlines()[-1])
    assert ended.code == 3
    assert [one["input"] for one in told["results"]] == ["red.png", "blue.png"]
    assert [(one["input"], one["error"]) for one in told["failed"]] == [("bad.png", error)]
    failed, count = ended.err.splitlines()[-2:]
    assert failed.startswith(f"failed: {error}: bad.png: ")
    assert count == "3 files: 2 answered, 1 failed"


def test_a_file_whose_name_is_not_utf_8_is_predicted_and_written(look: Run) -> None:
    Path("red.png").rename(os.fsdecode(b"r\xf6t.png"))
    for out in ("a.jsonl", "a.parquet"):
        ended = look("captioner", "-", "--out", out, stdin=b"r\xf6t.png\nblue.png\n")
        assert ended.code == 0, ended.err
    rows = pq.read_table("a.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["r\\udcf6t.png", "blue.png"]
    assert [p.id for p in read_predictions(Path("a.jsonl"), scored=True)] == [r["id"] for r in rows]


def test_a_list_of_files_has_an_empty_line_for_each_that_cannot_be_read(look: Run) -> None:
    files = b"red.png\ngone.png\n\nblue.png\n"
    ended = look("answerer", "-", "--question", "what colour", stdin=files)
    first, second, third = ended.out.splitlines()
    assert (ended.code, second) == (3, "")
    assert {first, third} <= {"red", "blue"}
    for out, lines in (("a.txt", 3), ("a.jsonl", 4)):
        nbest = 2 if out == "a.jsonl" else 1
        ended = look(
            *("answerer", "-", "--question", "what colour", "--nbest", nbest, "--out", out),
            stdin=files,
        )
        assert (ended.code, ended.out) == (3, f"{out}: {2 * nbest} predictions\n")
        assert len(Path(out).read_text().splitlines()) == lines
    told = read_predictions(Path("a.jsonl"), scored=True)
    assert [(one.id, one.rank) for one in told] == [
        (id, rank) for id in ("red.png", "blue.png") for rank in (1, 2)
    ]


def test_files_of_which_none_can_be_read_are_a_mistake(look: Run) -> None:
    ended = look("captioner", "gone.png", "--json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == "intertitle: gone.png: No such file or directory"
    ended = look("captioner", "gone.png", "empty.jpg", "--out", "a.jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-3:] == [
        "failed: missing: gone.png: No such file or directory",
        "failed: empty: empty.jpg: has no bytes",
        "intertitle: 2 files: none of them can be read",
    ]
    assert not Path("a.jsonl").exists()
    ended = look("captioner", "gone.png", "--explain", "a.png")
    assert ended.code == 2


def test_files_and_folders_may_be_named_in_any_way(
    look: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "here").mkdir(parents=True)
    Path("red.png").rename("photos/red.png")
    Path("photos/._red.png").touch()
    Path("photos/more").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path / "photos" / "here")
    ended = look("captioner", "../red.png", "../../photos", "--json")
    told = json.loads(ended.out.splitlines()[-1])
    assert [one["input"] for one in told["results"]] == ["../red.png", "../../photos/red.png"]
    assert "../../photos: 1 hidden files left out" in ended.err.splitlines()
    assert "../../photos: 1 links left out: --follow-links follows them" in ended.err.splitlines()
    Path("../../text.mp4").unlink()
    Path("../../empty.jpg").unlink()
    ended = look("captioner", "..", "--follow-links", "--json")
    told = json.loads(ended.out.splitlines()[-1])
    assert (ended.code, len(told["results"])) == (0, 2)
    assert told["results"][0]["input"] == "../more/blue.png"


def test_a_file_is_predicted_however_its_folder_is_named(
    look: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("with space", "new\nline", "cafe\u0301"):
        Path(name).mkdir()
        shutil.copy("red.png", name)
    Path("link").symlink_to("with space")
    # Memory is a file system of its own, as another drive is.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mounted:
        shutil.copy("red.png", mounted)
        folders = ["with space", "new\nline", "cafe\u0301", ".", "~", "link", mounted]
        files = [f"{folder}/red.png" for folder in folders]
        ended = look("captioner", *files, "--json")
    results = json.loads(ended.out.splitlines()[-1])["results"]
    assert [one["input"] for one in results] == [str(Path(file)) for file in files]
    assert len({one["text"] for one in results}) == 1


def test_a_file_unlike_those_of_the_training_is_noted(
    look: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mean square of the features of a plain picture lies above it.
    monkeypatch.setattr(novelty, "_FAR", 0.01)
    ended = look("captioner", "red.png")
    assert ended.code == 0
    assert "WARNING: red.png: this file is unlike those that the model has learned" in ended.err


def test_the_limit_of_pixels_can_be_set(look: Run) -> None:
    ended = look("captioner", "red.png", "--max-pixels", 1199)
    assert (ended.code, ended.out) == (2, "")
    assert "red.png: 40 x 30 pixels, allowed: 1199 in all" in ended.err
    assert look("captioner", "red.png", "--max-pixels", 1200).code == 0


def test_an_animation_is_a_video_or_its_first_picture(look: Run) -> None:
    red, blue = (Image.open(f"{colour}.png").convert("RGB") for colour in ("red", "blue"))
    red.save("a.gif", save_all=True, append_images=[red, blue], duration=100)
    red.save("still.gif")
    scores = {}
    for flags in ((), ("--animations-as-images",)):
        ended = look("captioner", "a.gif", "still.gif", *flags, "--json")
        told = json.loads(ended.out.splitlines()[-1])
        scores[flags] = [one["score"] for one in told["results"]]
    assert scores[()][0] != scores[()][1]
    assert scores[("--animations-as-images",)][0] == pytest.approx(scores[()][1], abs=1e-5)
