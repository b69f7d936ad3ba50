"""Every recipe works on one or two of everything: examples, frames, tokens, references, labels; and
every size of a split can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.training.config.recipe import Recipe, recipe_names
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.evaluation import evaluate as evaluate_module
from intertitle.training.evaluation.evaluate import evaluate
from intertitle.training.evaluation.metrics import meteor
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.record import read_record, write_record
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.significance import differences
from intertitle.training.inference.inputs import build_split_inputs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.predictor import predict_batch
from intertitle.training.models.build import build_model, sizes_of, task_of
from intertitle.training.reports.compare import compare
from intertitle.training.reports.evaluations import read_newest
from intertitle.training.reports.plots import learning_curves, length_histogram, score_histogram
from intertitle.training.runs.evaluate_run import evaluate_run
from intertitle.training.runs.log_evaluation import sample_rows
from intertitle.training.runs.train import train as train_run
from intertitle.training.trainer.distributed import Ranks, T
from intertitle.training.trainer.validator import Validator
from intertitle.training.trainer.workers.watchdog import Pulse
from tests.training.conftest import (
    DIM,
    Shown,
    features_of,
    make_loop,
    open_data_ref,
    small_recipe,
    write_features,
)

# Metrics of captions and of translations with a histogram.
SHOWN = ("sacrebleu", "rouge_l", "cider")
# A recipe for each kind of task.
KINDS = (
    "show_and_tell",
    "attend_and_tell",
    "seq2seq_attention",
    "sentiment",
    "vqa_lstm",
    "frame_tagger",
    "char_lm",
)


def recipe_of(name: str, *settings: str) -> Recipe:
    small = ["training.epochs=1", "search.max_tokens=3", *settings]
    if name.startswith("seq2seq"):
        small += ["tokenizer.kind=words", "source_tokenizer.kind=words"]
    if task_of(small_recipe(name).model).has_source:
        small.append("source_tokenizer.min_count=1")
    return small_recipe(name, *small)


def tiny_data(folder: Path, recipe: Recipe, splits: Sequence[str]) -> DataRef:
    """A corpus of an example for each name of a split; an item has one frame, a text one word."""
    task, rng = task_of(recipe.model), np.random.default_rng(0)
    shape = (1, 4, DIM) if task.visual_input == "grid" else (1, DIM)
    shown = [
        Shown(f"item {n}", split, rng.normal(size=shape).astype(np.float32), ("word",))
        for n, split in enumerate(splits)
    ]
    sees = task.visual_input != "nothing"
    write_corpus(
        folder / "corpus",
        [Item(s.key, f"{s.key}.mp4", "video") for s in shown] if sees else [],
        [
            Example(
                f"text:{n:09}" if task.output == "stream" else f"example {n}",
                s.split,
                s.key if sees else None,
                "read" if task.has_source else None,
                s.targets,
            )
            for n, s in enumerate(shown)
        ],
    )
    store = write_features(folder / "features", shown) if sees else None
    return open_data_ref(folder / "corpus", store, task.visual_input)


def vocabularies_of(data: DataRef, recipe: Recipe) -> Vocabs:
    return build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task_of(recipe.model)))


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that start no Java, which would take most of the time; and short running text."""
    monkeypatch.setattr(meteor, "ptb_tokenize", list)
    # The evaluation of a split measures what an epoch measures.
    score = Scorer.score
    monkeypatch.setattr(
        Scorer,
        "score",
        lambda scorer, outputs, quick, monitor: score(scorer, outputs, quick=True, monitor=monitor),
    )
    monkeypatch.setattr(evaluate_module, "TEXT_TOKENS", 5)


@pytest.mark.usefixtures("without_java")
@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains_is_measured_compared_and_predicts(
    name: str, num: int, tmp_path: Path
) -> None:
    # A beam that is wider than the vocabulary.
    recipe = recipe_of(name, "search.beam_size=20")
    data = tiny_data(tmp_path, recipe, ["train"] * num + ["val"] * num)
    words, task = vocabularies_of(data, recipe), task_of(recipe.model)
    loop = make_loop(data, words, recipe)
    loop.run()
    history = loop.progress.history
    assert len(history) == 1
    learning_curves(history, 1)

    model = loop.model.eval()
    dataset = open_dataset(Data(data), "val", recipe, task, words)
    measured = evaluate(
        model, words.target, dataset, "val", recipe.search, recipe.training, recipe.evaluation
    )
    assert measured.num_examples == (len("word") + 1) * num if name == "char_lm" else num
    write_record(tmp_path, measured, {})
    kept = read_record(tmp_path).statistics
    (against,) = differences([kept, kept])
    assert against.keys() == measured.scores.values.keys()
    assert {one.verdict(m) for m, one in against.items()} == {"no significant difference"}
    assert sample_rows(measured, Data(data), {})
    if task.output == "sentence":
        length_histogram([s.hypothesis for s in measured.samples], [("word",)] * num)
        score_histogram({m: combine(m, kept[m]).tolist() for m in SHOWN if m in kept})
    if task.output != "stream":
        trained = TrainedModel(model, words, recipe, data, 1)
        nbest = 1 if task.output == "label_per_frame" else 50
        told = predict_batch(
            trained, build_split_inputs(trained, Data(data), "val"), range(num), nbest
        )
        ids = {f"example {num + n}" for n in range(num)}
        assert {one.id for one in told if isinstance(one, Prediction)} == ids


@pytest.mark.usefixtures("without_java")
@pytest.mark.parametrize("name", KINDS)
def test_every_size_of_a_split_is_measured(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, "search.beam_size=1")
    sizes = range(1, 71)
    data = tiny_data(tmp_path, recipe, ["train", *(f"{n}" for n in sizes for _ in range(n))])
    words, task = vocabularies_of(data, recipe), task_of(recipe.model)
    train = open_dataset(Data(data), "train", recipe, task, words)
    model = build_model(recipe.model, sizes_of(words, data)).eval()
    assert len(train) == 1
    for n in sizes:
        dataset = open_dataset(Data(data), f"{n}", recipe, task, words)
        measured = evaluate(
            model, words.target, dataset, f"{n}", recipe.search, recipe.training, recipe.evaluation
        )
        if task.output == "stream":
            assert measured.num_examples == n * len(words.target.encode("word")) + n
        else:
            assert len(measured.samples) == n
        assert np.isfinite(measured.scores.values["nats_per_token"])


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """Count the calls of a method from now on."""
    calls: list[object] = []
    real = getattr(owner, name)

    def call(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_the_whole_way_of_a_training_on_a_single_example(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains_in_process: None
) -> None:
    """From the data to MLflow and back."""

    recipe = recipe_of("s2vt")
    data = tiny_data(tmp_path, recipe, ["train", "val"])
    stores = count_calls(monkeypatch, FeatureStore, "__init__")
    hashes = count_calls(monkeypatch, Corpus, "fingerprint")
    datasets = count_calls(monkeypatch, Dataset, "__init__")
    begun: list[tuple[int, int, int]] = []
    result = train_run(
        recipe,
        Path(data.corpus),
        Path(features_of(data).path),
        workers=1,
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        checkpoints=tmp_path / "checkpoints",
        on_start=lambda _: begun.append((len(stores), len(hashes), len(datasets))),
    )
    assert begun == [(1, 1, 2)]
    # What a training opened serves until its end; the split that is measured is encoded again.
    assert (len(stores), len(hashes), len(datasets)) == (1, 1, 3)
    assert evaluate_run(result.run, split="val").scores.values == result.evaluation.scores.values
    assert (len(stores), len(hashes), len(datasets)) == (2, 2, 4)
    comparison = compare([read_newest(result.run, "val")] * 2)
    assert comparison.num_examples == 1
    (against,) = comparison.against_baseline
    assert {one.value for one in against.differences.values()} == {0.0}


@pytest.mark.parametrize("name", ["s2vt", "sentiment", "char_lm"])
def test_a_split_without_an_example_is_one_clear_line(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    data = tiny_data(tmp_path, recipe, ["train"])
    with pytest.raises(UserError, match=r"corpus: no examples of split 'val'"):
        make_loop(data, vocabularies_of(data, recipe), recipe)


class Second(Ranks):
    """The second of two workers, of which the first has all there is."""

    def __init__(self) -> None:
        super().__init__(1, 2)

    def gather(self, value: T) -> list[T]:
        return [value]

    def broadcast(self, value: Any) -> Any:
        return value or ({}, (), {})


@pytest.mark.parametrize("name", KINDS)
def test_a_worker_without_an_example_has_nothing_to_measure(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, "training.window=100", "training.batch_tokens=100")
    data = tiny_data(tmp_path, recipe, ["train", "val"])
    words = vocabularies_of(data, recipe)
    model = build_model(recipe.model, sizes_of(words, data)).eval()
    val = open_dataset(Data(data), "val", recipe, task_of(recipe.model), words)
    validator = Validator(recipe, val, words.target, Second(), Pulse())
    figures, _ = validator.measure(model)
    assert figures["nats_per_token"] == 0
