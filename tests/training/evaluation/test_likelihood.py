"""How surprised a model is by each example."""

import numpy as np
import pytest
import torch

from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.dataset import make_sampler
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation import likelihood
from intertitle.training.evaluation.likelihood import negative_log_likelihood, sum_by_example
from tests.training.conftest import make_loop, small_recipe, split_of


def test_an_example_is_told_with_all_its_targets(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = len(words.target)
    monkeypatch.setattr(likelihood, "MAX_LOGITS", 7 * vocabulary)  # several portions a batch
    recipe = small_recipe()
    model = make_loop(things, words, recipe).model.eval()
    dataset = split_of(things, "val", words)
    batches = make_sampler(dataset, recipe.training).epoch(0)
    told = sum_by_example(negative_log_likelihood(model, dataset, batches, vocabulary), dataset)
    expected = np.zeros_like(told)
    for row, owner in enumerate(dataset.example_index(np.arange(len(dataset)))):
        batch = dataset.batch([row])
        with torch.inference_mode():
            log_probs = torch.log_softmax(model.logits(model.forward(batch)), -1)[0]
        targets = batch.targets[0]
        expected[owner] += -float(log_probs[range(len(targets)), targets].sum()), len(targets)
    assert told[:, 1].tolist() == expected[:, 1].tolist()
    assert told[:, 0] == pytest.approx(expected[:, 0], rel=1e-5)
    assert len(set(expected[:, 1])) > 1


def test_the_shares_of_two_workers_add_up(things: DataRef, words: Vocabs) -> None:
    recipe, vocabulary = small_recipe(), len(words.target)
    model = make_loop(things, words, recipe).model.eval()
    dataset = split_of(things, "val", words)
    batches = make_sampler(dataset, recipe.training).epoch(0)
    whole = negative_log_likelihood(model, dataset, batches, vocabulary)
    halves = [
        negative_log_likelihood(
            model, dataset, [rows[rank::2] for rows in batches if len(rows) > rank], vocabulary
        )
        for rank in range(2)
    ]
    assert sum(halves) == pytest.approx(whole, rel=1e-5)
