"""A model of running text carries its state: through stops, and over workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import open_dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.evaluation.likelihood import negative_log_likelihood
from intertitle.training.models.build import task_of
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.trainer.checkpoint import Checkpoint
from tests.training.conftest import make_loop, open_data_ref, small_recipe
from tests.training.workers import run_workers

RECIPE = small_recipe(
    "char_lm",
    "model.dropout=0",
    "model.embedding_dropout=0",
    "model.num_layers=2",
    "optimizer.average_decay=0",
    "training.epochs=2",
    "training.batch_tokens=48",
    "training.window=12",
)
# In the second epoch, where states have been carried, some windows before its end.
STOPPED = RECIPE.model_copy(
    update={"training": RECIPE.training.model_copy(update={"max_steps": 30})}
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> DataRef:
    """Lines that count, so that what comes next hangs on what was long before."""
    folder = tmp_path_factory.mktemp("text")
    lines = [f"{n} and {n + 1} make {2 * n + 1}" for n in range(60)]
    write_corpus(
        folder,
        [],
        [
            Example(f"sums.txt:{n:09}", "val" if n >= 50 else "train", None, None, (line,))
            for n, line in enumerate(lines)
        ],
    )
    return open_data_ref(folder, None, "nothing")


@pytest.fixture(scope="module")
def spelled(text: DataRef) -> Vocabs:
    return build_vocabs(RECIPE, *texts_of(Corpus(text.corpus), "train", task_of(RECIPE.model)))


@pytest.fixture(scope="module")
def alone(text: DataRef, spelled: Vocabs) -> Checkpoint:
    """What one worker comes to that is never stopped."""
    loop = make_loop(text, spelled, RECIPE)
    loop.run()
    assert loop.progress.step == 38
    return loop.checkpoint()


def difference(one: Checkpoint, other: Checkpoint) -> float:
    assert one.progress.step == other.progress.step
    return max(float((one.weights[n] - w).abs().max()) for n, w in other.weights.items())


def go_on(text: DataRef, spelled: Vocabs, folder: Path) -> Checkpoint:
    loop = make_loop(text, spelled, RECIPE)
    loop.restore(Checkpoint.read(folder))
    loop.run()
    return loop.checkpoint()


def stop(recipe: Recipe, text: DataRef, spelled: Vocabs, folder: Path) -> Checkpoint:
    loop = make_loop(text, spelled, recipe)
    loop.run()
    loop.checkpoint().write(folder)
    return loop.checkpoint()


def test_a_stop_between_two_windows_loses_nothing(
    text: DataRef, spelled: Vocabs, alone: Checkpoint, tmp_path: Path
) -> None:
    part = stop(STOPPED, text, spelled, tmp_path / "part")
    assert part.rnn_state["h"].shape == (2, 4, 16)
    assert part.rnn_state["h"].any()
    assert difference(go_on(text, spelled, tmp_path / "part"), alone) == 0


def test_two_workers_read_as_one_does_and_can_become_one(
    text: DataRef, spelled: Vocabs, alone: Checkpoint, tmp_path: Path
) -> None:
    run_workers(text, spelled, (RECIPE, STOPPED), tmp_path)
    whole, resumed = (Checkpoint.read(tmp_path / name) for name in ("whole", "resumed"))
    assert difference(whole, alone) < 1e-5
    assert difference(resumed, whole) == 0
    assert difference(go_on(text, spelled, tmp_path / "part"), alone) < 1e-5
    for figures, expected in zip(whole.progress.history, alone.progress.history, strict=True):
        assert figures == pytest.approx(expected, abs=1e-4)


def test_evaluation_carries_the_state_from_window_to_window(
    text: DataRef, spelled: Vocabs, alone: Checkpoint
) -> None:
    model = make_loop(text, spelled, RECIPE).model
    val = open_dataset(Data(text), "val", RECIPE, task_of(RECIPE.model), spelled)
    assert isinstance(model, LanguageModel)
    assert isinstance(val, LanguageModelDataset)
    model.load_state_dict(alone.weights)
    windows = val.windows()
    told = negative_log_likelihood(model.eval(), val, windows, len(spelled.target))
    assert told[:, 1].tolist() == val.lengths.tolist()
    nats, tokens = told.sum(0)
    # The whole of each lane at once, from nothing: the same.
    inputs, targets = (
        torch.cat([getattr(val.batch(rows), name) for rows in windows], 1)
        for name in ("inputs", "targets")
    )
    with torch.inference_mode():
        outputs, _ = model.stack(model.words(inputs))
        log_probs = torch.log_softmax(model.logits(outputs), -1)
    told = -log_probs.gather(2, targets[..., None])[..., 0][targets != 0]
    assert (len(told), float(told.sum())) == (tokens, pytest.approx(nats, rel=1e-5))
