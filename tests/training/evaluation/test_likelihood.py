"""How surprised a model is by each example."""

import numpy as np
import pytest
import torch

from training.data.dataset import make_sampler
from training.data.source import DataSource
from training.data.vocabularies import Vocabularies
from training.evaluation import likelihood
from training.evaluation.likelihood import by_example, surprise

from ..conftest import make_loop, small_recipe, split_of


def test_an_example_is_told_with_all_its_targets(
    things: DataSource, words: Vocabularies, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = len(words.target)
    monkeypatch.setattr(likelihood, "MAX_LOGITS", 7 * vocabulary)  # several portions a batch
    recipe = small_recipe()
    model = make_loop(things, words, recipe).model.eval()
    dataset = split_of(things, "val", words)
    batches = make_sampler(dataset, recipe.training).epoch(0)
    told = by_example(surprise(model, dataset, batches, vocabulary), dataset)
    expected = np.zeros_like(told)
    for row, owner in enumerate(dataset.owners(np.arange(len(dataset)))):
        batch = dataset.batch([row])
        with torch.inference_mode():
            log_probs = torch.log_softmax(model.logits(model.hidden(batch)), -1)[0]
        targets = batch.targets[0]
        expected[owner] += -float(log_probs[range(len(targets)), targets].sum()), len(targets)
    assert told[:, 1].tolist() == expected[:, 1].tolist()
    assert told[:, 0] == pytest.approx(expected[:, 0], rel=1e-5)
    assert len(set(expected[:, 1])) > 1


def test_the_shares_of_two_workers_add_up(things: DataSource, words: Vocabularies) -> None:
    recipe, vocabulary = small_recipe(), len(words.target)
    model = make_loop(things, words, recipe).model.eval()
    dataset = split_of(things, "val", words)
    batches = make_sampler(dataset, recipe.training).epoch(0)
    whole = surprise(model, dataset, batches, vocabulary)
    halves = [
        surprise(
            model, dataset, [rows[rank::2] for rows in batches if len(rows) > rank], vocabulary
        )
        for rank in range(2)
    ]
    assert sum(halves) == pytest.approx(whole, rel=1e-5)
