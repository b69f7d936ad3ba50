"""Several models as one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Generator, Model, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.ensemble import Ensemble, LabelEnsemble
from intertitle.training.search.beam import beam
from intertitle.training.trainer.losses import SequenceLoss

SIZES = Sizes(vocabulary=11, source_vocabulary=9, feature_dim=5)


def make_model(seed: int, **section: Any) -> Any:
    torch.manual_seed(seed)
    model = build_model(TypeAdapter(ModelConfig).validate_python(section), SIZES)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


def captioners() -> list[Generator[Any]]:
    """Of two kinds and sizes."""
    return [
        make_model(0, kind="show_and_tell", embedding_size=6, hidden_size=7),
        make_model(1, kind="neuraltalk", embedding_size=5, hidden_size=9, num_layers=2),
    ]


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    sentences = ([4, 5, 6], [7], [10, 4, 4, 8, 9])
    rows = [Row(rng.normal(0, 1, (2, 5)).astype(np.float32), (), told) for told in sentences]
    return make_batch(rows, sentences=True)


def probabilities(model: Model, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return torch.softmax(model.logits(model.forward(batch)), -1)


def test_probabilities_are_averaged(batch: Batch) -> None:
    one, other = captioners()
    expected = (probabilities(one, batch) + probabilities(other, batch)) / 2
    torch.testing.assert_close(probabilities(Ensemble([one, other]), batch), expected)


def test_step_by_step_probabilities_equal_those_of_whole_sentences(batch: Batch) -> None:
    model = Ensemble(captioners()).eval()
    with torch.no_grad():
        state, told = model.start(batch), []
        for words in batch.inputs.unbind(1):
            log_probs, state = model.step(state, words)
            told.append(log_probs.exp())
    expected = probabilities(model, batch)
    for row, length in enumerate(batch.target_lengths.tolist()):
        torch.testing.assert_close(torch.stack(told, 1)[row, :length], expected[row, :length])


def test_an_ensemble_of_a_model_with_itself_changes_nothing(batch: Batch) -> None:
    model = captioners()[0]
    alone, beside = (
        [[h.token_ids for h in row] for row in beam(m, batch, 3, 8, 0.7)]
        for m in (model, Ensemble([model, model]).eval())
    )
    assert alone == beside


def test_running_text_goes_on_from_window_to_window() -> None:
    models = [
        make_model(seed, kind="language_model", embedding_size=4, hidden_size=size)
        for seed, size in ((0, 5), (1, 6))
    ]
    text = [4, 5, 6, 7, 8, 9]
    forcing = SequenceLoss(Ensemble(models).eval(), SIZES.vocabulary).eval()
    with torch.no_grad():
        whole = make_batch([Row(targets=text)], sentences=True)
        _, expected, _ = forcing(whole)
        first, second = (
            replace(
                whole,
                inputs=whole.inputs[:, part],
                targets=whole.targets[:, part],
                target_lengths=torch.tensor([whole.targets[:, part].shape[1]]),
            )
            for part in (slice(0, 3), slice(3, None))
        )
        _, before, carried = forcing(first)
        _, after, _ = forcing(second, carried)
    torch.testing.assert_close(before + after, expected)


def test_labels_are_averaged(batch: Batch) -> None:
    models = [make_model(s, kind="tagger", embedding_size=4, hidden_size=5) for s in (0, 1)]
    expected = sum(probabilities(model, batch) for model in models) / 2
    torch.testing.assert_close(probabilities(LabelEnsemble(models), batch), expected)
