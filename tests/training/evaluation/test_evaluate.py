"""A split becomes sentences, and sentences become scores."""

import math
from pathlib import Path

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import SearchConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation import evaluate as evaluate_module
from intertitle.training.evaluation.caption_metrics import CaptionScorer
from intertitle.training.evaluation.evaluate import Answer, answer_examples, evaluate, make_samples
from intertitle.training.evaluation.sufficient_stats import score_of
from intertitle.training.models.base import Generator
from intertitle.training.search.beam import beam
from intertitle.training.search.mbr import mbr_rank
from tests.training.conftest import coloured_things, make_loop, small_recipe, split_of, write_data

SEARCH = SearchConfig(beam_size=2, max_tokens=5, length_penalty=0.7)


def test_examples_are_searched_in_portions_and_come_back_in_order(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_module, "ANSWER_BATCH", 5)
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    assert isinstance(model, Generator)
    for n, answer in enumerate(answer_examples(model, dataset, range(12), SEARCH)):
        best = beam(model, dataset.questions([n]), 2, 5, 0.7)[0][0]
        assert answer.texts == (words.target.decode(best.token_ids),)
        assert answer.score == pytest.approx(best.score, abs=1e-5)


def test_by_consensus_the_whole_beam_says_which_of_its_sentences_is_told(
    things: DataRef, words: Vocabs
) -> None:
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    assert isinstance(model, Generator)
    search = SEARCH.model_copy(update={"beam_size": 6, "consensus": 2.0})
    told = [answer.texts[0] for answer in answer_examples(model, dataset, range(12), search)]
    lists = beam(model, dataset.questions(range(12)), 6, 5, 0.7)
    agreed = [mbr_rank(found, 2.0)[0] for found in lists]
    assert told == [words.target.decode(best.token_ids) for best in agreed]
    assert agreed != [found[0] for found in lists]


def test_samples_stand_in_the_corpus_order_beside_their_references(
    things: DataRef, words: Vocabs
) -> None:
    dataset = split_of(things, "val", words, 8)
    said = {3: Answer(("a blue ring",), -1.5), 1: Answer(("a green cube",), -0.5)}
    first, second = make_samples(dataset, said)
    assert (first.id, first.item_key) == ("about-item 5", "item 5")
    assert (first.hypothesis, first.score) == ("a green cube", -0.5)
    assert first.references == dataset.examples[1].targets
    assert (second.id, second.hypothesis) == ("about-item 15", "a blue ring")


def test_a_whole_split_is_scored_and_what_is_left_out_counted(
    tmp_path: Path, words: Vocabs
) -> None:
    data = write_data(tmp_path, coloured_things(30), quarantined=("item 10",))
    model = make_loop(data, words, small_recipe()).model.eval()
    dataset = split_of(data, "val", words, 8)
    evaluation = evaluate(model, words.target, dataset, "val", SEARCH, small_recipe().training)
    assert [sample.item_key for sample in evaluation.samples] == [
        f"item {n}" for n in (0, 5, 15, 20, 25)
    ]
    assert (evaluation.split, evaluation.num_left_out) == ("val", 1)
    scorer = CaptionScorer([sample.references for sample in evaluation.samples])
    expected = scorer.score([sample.hypothesis for sample in evaluation.samples])
    found = evaluation.scores
    for name, rows in found.statistics.items():
        assert len(rows) == len(evaluation.samples)
        assert score_of(name, rows) == pytest.approx(found.values[name], abs=1e-9)
    assert {name: found.values[name] for name in expected.values} == expected.values
    assert found.values["perplexity"] == pytest.approx(math.exp(found.values["nats_per_token"]))
    assert found.signatures.keys() == found.values.keys()


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_an_example_is_told_the_same_whatever_is_told_beside_it(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    search = SearchConfig(method=method, max_tokens=5, seed=3)
    together = answer_examples(model, dataset, range(12), search)
    monkeypatch.setattr(evaluate_module, "ANSWER_BATCH", 1)
    alone = answer_examples(model, dataset, range(11, -1, -1), search)[::-1]
    assert [answer.texts for answer in together] == [answer.texts for answer in alone]
    other = answer_examples(model, dataset, range(12), search.model_copy(update={"seed": 4}))
    assert (other == alone) == (method == "beam")


def test_a_prefix_of_words_that_nobody_knows_is_refused(things: DataRef, words: Vocabs) -> None:
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    for prefix, named in (("a zebra", "'a <unk>'"), ("a " * 9, "9 words, allowed: at most")):
        with pytest.raises(UserError, match=rf"search\.prefix: .*{named}"):
            answer_examples(model, dataset, [0], SearchConfig(prefix=prefix, max_tokens=5))
    (told,) = answer_examples(model, dataset, [0], SearchConfig(prefix="A green", max_tokens=5))
    assert told.texts[0].startswith("a green")
