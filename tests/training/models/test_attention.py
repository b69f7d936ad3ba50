"""Attention against the papers' formulas, written out place by place."""

import pytest
import torch

from intertitle.training.models.attention import (
    AdditiveAttention,
    Attention,
    MultiplicativeAttention,
    select_weights,
)

QUERY, MEMORY, SIZE = 3, 4, 5
LENGTHS = torch.tensor([3, 1, 6])


def multiplicative() -> MultiplicativeAttention:
    torch.manual_seed(0)
    return MultiplicativeAttention(QUERY, MEMORY, scale=0.5)


def additive() -> AdditiveAttention:
    torch.manual_seed(0)
    return AdditiveAttention(QUERY, MEMORY, SIZE)


@pytest.fixture(params=[multiplicative, additive])
def attention(request: pytest.FixtureRequest) -> Attention:
    made: Attention = request.param()
    return made


def queries() -> torch.Tensor:
    return torch.randn(3, 2, QUERY, generator=torch.Generator().manual_seed(1))


def places() -> torch.Tensor:
    return torch.randn(3, 6, MEMORY, generator=torch.Generator().manual_seed(2))


def score(attention: Attention, query: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    if isinstance(attention, MultiplicativeAttention):
        return query @ attention.to_memory.weight.T @ place / 2
    assert isinstance(attention, AdditiveAttention)
    between = attention.of_query(query) + attention.of_memory(place)
    return attention.to_score.weight[0] @ torch.tanh(between)


@torch.no_grad()
def test_it_is_the_formula_for_each_query_over_the_places_that_count(attention: Attention) -> None:
    found, weights = attention(queries(), attention.build_memory(places(), LENGTHS))
    assert found.shape == (3, 2, MEMORY)
    for row, length in enumerate(LENGTHS.tolist()):
        own = places()[row, :length]
        for at, query in enumerate(queries()[row]):
            expected = torch.stack([score(attention, query, place) for place in own]).softmax(0)
            assert torch.allclose(weights[row, at, :length], expected, atol=1e-6)
            assert torch.allclose(found[row, at], expected @ own, atol=1e-6)
            assert not weights[row, at, length:].any()


@torch.no_grad()
@pytest.mark.parametrize("rows", [[2, 0, 2, 1], [1, 0, 2], [0, 1, 2], [2, 2, 1, 1], [0, 0, 1]])
def test_chosen_rows_look_at_their_own_memory(attention: Attention, rows: list[int]) -> None:
    chosen = torch.tensor(rows)
    memory = attention.build_memory(places(), LENGTHS)
    found, _ = attention(queries(), memory)
    again, _ = attention(queries()[chosen], memory.select(chosen))
    assert torch.allclose(again, found[chosen], atol=1e-6)


@torch.no_grad()
def test_rows_that_share_a_memory_change_places_without_a_copy(attention: Attention) -> None:
    beams = attention.build_memory(places(), LENGTHS).select(torch.tensor([0, 0, 0, 2, 2, 2]))
    assert len(beams.values) == 2
    assert beams.select(torch.tensor([1, 1, 0, 5, 3, 4])) is beams
    # As many rows, but not the same: one of the first beam's is done.
    assert beams.select(torch.tensor([1, 0, 3, 4, 5, 5])) is not beams


def test_keys_that_are_the_values_are_not_copied() -> None:
    for attention, is_shared in ((multiplicative(), True), (additive(), False)):
        memory = attention.build_memory(places(), LENGTHS)
        for one in (memory, memory.select(torch.tensor([2, 0, 1]))):
            assert (one.keys is one.values) == is_shared


def test_no_parameter_is_without_an_effect() -> None:
    # A bias of the scores would change no weight, and one of the keys is that of the queries.
    assert {name for name, _ in multiplicative().named_parameters()} == {"to_memory.weight"}
    assert {name for name, _ in additive().named_parameters()} == {
        "of_query.weight",
        "of_query.bias",
        "of_memory.weight",
        "to_score.weight",
    }


@torch.no_grad()
def test_weights_of_rows_come_with_the_padding_of_their_memory(attention: Attention) -> None:
    memory = attention.build_memory(places(), LENGTHS).select(torch.tensor([2, 2, 0, 0]))
    chosen, weights = torch.tensor([3, 0]), torch.rand(4, 6)
    selected = select_weights(weights, chosen)
    assert selected is not None and torch.equal(selected, weights[[3, 0]])
    told = memory.select(chosen).attention_weights(selected)
    assert told is not None and torch.equal(told.weights, selected)
    assert (~told.padding_mask).sum(1).tolist() == [3, 6]
    assert memory.attention_weights(None) is None
    assert select_weights(None, chosen) is None


@torch.no_grad()
def test_scores_are_products_as_they_are_where_no_scale_is_given() -> None:
    torch.manual_seed(0)
    plain = MultiplicativeAttention(QUERY, MEMORY)
    _, weights = plain(queries(), plain.build_memory(places(), LENGTHS))
    expected = (plain.to_memory(queries()[0, 0]) @ places()[0, :3].T).softmax(0)
    assert torch.allclose(weights[0, 0, :3], expected, atol=1e-6)
