"""A split becomes sentences, and sentences become scores."""

from pathlib import Path

import pytest

from training.config import SearchConfig
from training.data.dataset import Dataset, DataSource
from training.data.tokenizer import WordTokenizer
from training.evaluation import evaluate as evaluate_module
from training.evaluation.evaluate import evaluate, make_samples, search_examples
from training.evaluation.metrics import QUICK_METRICS, CaptionScorer
from training.evaluation.search import Hypothesis, beam

from ..conftest import coloured_things, make_loop, small_recipe, write_data

SEARCH = SearchConfig(beam_size=2, max_words=5, length_penalty=0.7)


def test_examples_are_searched_in_portions_and_come_back_in_order(
    things: DataSource, tokenizer: WordTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "SEARCH_BATCH", 5)
    model = make_loop(things, tokenizer, small_recipe()).model.eval()
    dataset = Dataset(things, "val", tokenizer, 8)
    found = search_examples(model, dataset, range(12), SEARCH)
    for n, hypothesis in enumerate(found):
        best = beam(model, dataset.questions([n]), 2, 5, 0.7)[0][0]
        assert hypothesis.token_ids == best.token_ids
        assert hypothesis.score == pytest.approx(best.score, abs=1e-5)


def test_samples_stand_in_the_corpus_order_beside_their_references(
    things: DataSource, tokenizer: WordTokenizer
) -> None:
    dataset = Dataset(things, "val", tokenizer, 8)
    said = {
        n: Hypothesis(tuple(tokenizer.encode(words)), -1.0, -0.5 * n)
        for n, words in ((3, "a blue ring"), (1, "a green cube"))
    }
    first, second = make_samples(dataset, said, tokenizer)
    assert (first.id, first.item_key) == ("about-item 5", "item 5")
    assert (first.hypothesis, first.score) == ("a green cube", -0.5)
    assert first.references == dataset.examples[1].targets
    assert (second.id, second.hypothesis) == ("about-item 15", "a blue ring")


def test_a_whole_split_is_scored_and_what_is_left_out_counted(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    data = write_data(tmp_path, coloured_things(30), quarantined=("item 10",))
    model = make_loop(data, tokenizer, small_recipe()).model.eval()
    dataset = Dataset(data, "val", tokenizer, 8)
    evaluation = evaluate(model, tokenizer, dataset, "val", SEARCH, QUICK_METRICS)
    assert [sample.item_key for sample in evaluation.samples] == [
        f"item {n}" for n in (0, 5, 15, 20, 25)
    ]
    assert (evaluation.split, evaluation.num_left_out) == ("val", 1)
    scorer = CaptionScorer([sample.references for sample in evaluation.samples])
    expected = scorer.score([sample.hypothesis for sample in evaluation.samples], QUICK_METRICS)
    assert evaluation.scores == expected
