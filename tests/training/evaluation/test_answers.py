"""Examples become sentences, each the same whatever is searched with it."""

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation import answers
from intertitle.training.evaluation.answers import Answer, answer_examples, make_samples
from intertitle.training.models.base import Generator
from intertitle.training.search.beam import beam
from intertitle.training.search.mbr import mbr_rank
from tests.training.conftest import make_loop, questions, small_recipe, split_of

SEARCH = SearchConfig(beam_size=2, max_tokens=5, length_penalty=0.7)


def test_examples_are_searched_in_portions_and_come_back_in_order(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ANSWER_BATCH", 5)
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    assert isinstance(model, Generator)
    for n, answer in enumerate(answer_examples(model, dataset, range(12), SEARCH)):
        best = beam(model, questions(dataset, [n]), 2, 5, 0.7)[0][0]
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
    lists = beam(model, questions(dataset, range(12)), 6, 5, 0.7)
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


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_an_example_is_told_the_same_whatever_is_told_beside_it(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    model = make_loop(things, words, small_recipe()).model.eval()
    dataset = split_of(things, "val", words, 8)
    search = SearchConfig(method=method, max_tokens=5, seed=3)
    together = answer_examples(model, dataset, range(12), search)
    monkeypatch.setattr(answers, "ANSWER_BATCH", 1)
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
