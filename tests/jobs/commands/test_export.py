"""`intertitle export`: predictions become results that COCO's and VQA's evaluations read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.training.export.onnx_generator import OnnxGenerator
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction, write_predictions
from intertitle.training.inference.predictor import predict
from tests.jobs.test_cli import TINY

ITEMS = [Item(name, name, "image") for name in ("beach.jpg", "mountain.jpg")]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_captions_become_results_of_coco(
    intertitle: Callable[..., Any], tmp_path: Path, ending: str
) -> None:
    examples = [
        Example(f"e{n}", "val", item.key, None, ("a beach",)) for n, item in enumerate(ITEMS)
    ]
    write_corpus(tmp_path / "corpus", ITEMS, examples)
    predictions = [
        Prediction("e1", 1, -0.5, "a mountain"),
        Prediction("e1", 2, -0.7, "a hill"),
        Prediction("beach.jpg", 1, -1.0, "sand"),
    ]
    source = tmp_path / f"predictions{ending}"
    write_predictions(source, predictions)
    out, named = tmp_path / "results.json", ["--corpus", tmp_path / "corpus"]
    ended = intertitle("export", source, out, "--to", "coco", *named)
    assert ended.code == 0, ended.err
    assert json.loads(out.read_text()) == [
        {"image_id": 2, "caption": "a mountain"},
        {"image_id": 1, "caption": "sand"},
    ]
    # COCO's own library takes them as results of the exported annotations.
    intertitle("export", tmp_path / "corpus", tmp_path / "coco", "--to", "coco")
    results = COCO(tmp_path / "coco" / "captions_val.json").loadRes(str(out))
    assert results.imgToAnns[2][0]["caption"] == "a mountain"

    refused = intertitle("export", source, tmp_path / "r2.json", "--to", "coco")
    assert (refused.code, "--corpus: missing; it numbers the images" in refused.err) == (2, True)
    table = tmp_path / "table.csv"
    assert intertitle("export", source, table, "--to", "csv").code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [p.text for p in predictions]


def test_answers_become_results_of_vqa(intertitle: Callable[..., Any], tmp_path: Path) -> None:
    examples = [
        Example(str(number), "val", "beach.jpg", "What is it?", ("sand",)) for number in (12, 7)
    ]
    write_corpus(tmp_path / "corpus", ITEMS, examples)
    source, out = tmp_path / "answers.jsonl", tmp_path / "results.json"
    write_predictions(source, [Prediction("7", 1, -1.0, "sand"), Prediction("12", 1, -1.0, "sea")])
    named = ["--to", "coco", "--corpus", tmp_path / "corpus"]
    assert intertitle("export", source, out, *named).code == 0
    assert json.loads(out.read_text()) == [
        {"question_id": 7, "answer": "sand"},
        {"question_id": 12, "answer": "sea"},
    ]
    write_predictions(source, [Prediction("8", 1, -1.0, "sand")])
    refused = intertitle("export", source, tmp_path / "more.json", *named)
    assert (refused.code, "'8': no example or item of" in refused.err) == (2, True)


def test_a_model_has_a_card_with_its_data_and_scores(
    intertitle: Callable[..., Any],
    clips: Path,
    clip_features: Path,
    tmp_path: Path,
    trains_in_process: None,
) -> None:
    tracking = f"--tracking-uri=sqlite:///{tmp_path}/mlflow.db"
    data = ["--corpus", clips, "--features", clip_features]
    kept = ["--checkpoints", tmp_path / "checkpoints", "--name", "tiny"]
    assert intertitle("train", "s2vt", *data, *kept, *TINY, tracking).code == 0
    beam = intertitle("evaluate", "tiny", "--beam", 2, tracking)
    assert beam.code == 0, beam.err
    named = ["--license", "cc-by-4.0", tracking]
    ended = intertitle("export", "tiny", tmp_path / "hub", "--to", "hf", *named)
    assert ended.code == 0, ended.err
    card = (tmp_path / "hub" / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert Corpus(clips).fingerprint() in card
    recipe_search = TrainedModel.read(tmp_path / "hub").recipe.search
    assert recipe_search.beam_size != 2
    assert f"examples, {recipe_search.describe()}:" in card
    assert "Features of `efficientnet_lite0` (one vector per frame)" in card
    (row,) = [line for line in card.splitlines() if line.startswith("| cider |")]
    _, score, ends = row.strip("|").split("|")
    low, high = map(float, ends.split(" to "))
    assert low <= float(score) <= high
    trained = TrainedModel.read(tmp_path / "hub")
    ended = intertitle("export", "tiny", tmp_path / "onnx", "--to", "onnx", *named)
    assert ended.code == 0, ended.err
    assert (tmp_path / "onnx" / "README.md").read_text() == card
    store, key = FeatureStore(clip_features), Corpus(clips).items()[0].key
    generator = OnnxGenerator(tmp_path / "onnx")
    text = generator.text(generator(store.features(key)))
    film = Corpus(clips).locate(Corpus(clips).items()[0])
    greedy = predict(trained.with_search(beam_size=1), [film])
    assert text == greedy[0].text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "out", "--to", "csv"], "--to csv: allowed for a run: hf, onnx; no file"),
        (["gone", "out", "--to", "onnx"], "run 'gone': there are no runs yet at "),
        (["corpus", "out", "--to", "xml"], "--to xml: allowed for a corpus: csv, parquet, coco"),
        (["corpus", "corpus", "--to", "csv"], "corpus: exists, allowed: a new name"),
        (["corpus", "out", "--to", "csv", "--corpus", "corpus"], "--corpus corpus: only for"),
    ],
)
def test_a_mistake_is_one_line(
    intertitle: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_corpus(tmp_path / "corpus", ITEMS, [Example("e", "val", None, None, ("x",))])
    ended = intertitle("export", *arguments)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err
