"""Search errors and errors of the model."""

import numpy as np
import pytest

from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.tokenizer import UNK_ID
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.evaluate import evaluate
from intertitle.training.evaluation.search_errors import reference_scores, search_errors
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.rescore import rescore_nbest
from tests.training.conftest import make_loop, small_recipe, split_of

# With such weights a model likes some references better than what it says, and some not.
SURE = 2.0
SEARCH = SearchConfig(beam_size=2, length_penalty=0.7, max_tokens=8)


def test_a_reference_scores_as_if_the_search_had_found_it(things: DataRef, words: Vocabs) -> None:
    recipe = small_recipe()
    model = make_loop(things, words, recipe).model.eval()
    for parameter in model.parameters():
        parameter.data.mul_(SURE)
    dataset = split_of(things, "val", words)
    evaluation = evaluate(
        model, words.target, dataset, "val", SEARCH, recipe.training, recipe.evaluation
    )
    numbers = {example.id: n for n, example in enumerate(dataset.examples)}
    wanted = [Prediction(e.id, 1, 0.0, text) for e in dataset.examples for text in e.targets]
    ranked = rescore_nbest(model, dataset, numbers, wanted, length_penalty=0.7, weight=0)  # type: ignore[arg-type]
    best = {one.id: one.score for one in ranked if one.rank == 1}
    missed = []
    for sample in evaluation.samples:
        assert sample.reference_score == pytest.approx(best[sample.id], abs=1e-5)
        missed.append(best[sample.id] > sample.score + 1e-3)
    assert 0 < np.mean(missed) < 1
    assert evaluation.scores.values["search_errors"] == pytest.approx(100 * np.mean(missed))


def test_only_what_could_have_been_found_is_missed(things: DataRef, words: Vocabs) -> None:
    dataset = split_of(things, "val", words)
    rows = np.arange(len(dataset))
    told = np.ones((len(rows), 2))
    found = reference_scores(told, dataset, SEARCH)
    assert found is not None and np.isfinite(found).all()
    shortest = min(len(target) for target in dataset.targets(rows))
    found = reference_scores(told, dataset, SEARCH.model_copy(update={"max_tokens": shortest - 1}))
    assert found is not None and np.isneginf(found).all()
    unknown = [[UNK_ID, *target] for target in dataset.targets(rows)]
    dataset.targets = lambda rows: unknown  # type: ignore[method-assign]
    found = reference_scores(told, dataset, SEARCH)
    assert found is not None and np.isneginf(found).all()
    assert not search_errors(found, [-9.0] * len(found)).any()


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "sample"},
        {"coverage_penalty": 0.2},
        {"consensus": 0.5},
        {"prefix": "a"},
        {"min_tokens": 3},
    ],
)
def test_a_search_for_something_else_has_no_such_errors(
    things: DataRef, words: Vocabs, changed: dict[str, object]
) -> None:
    dataset = split_of(things, "val", words)
    search = SEARCH.model_copy(update=changed)
    assert reference_scores(np.ones((len(dataset), 2)), dataset, search) is None
