"""Embedding and output layer by their formulas, and our dropout against PyTorch's."""

import pytest
import torch
from torch.nn.functional import linear

from intertitle.training.data.batch import Row, make_batch
from intertitle.training.data.tokenizer import PAD_ID
from intertitle.training.models.layers import Dropout, TokenLayers, order_source

VOCABULARY, EMBEDDING, HIDDEN = 50, 20, 6


def test_embeddings_begin_within_a_tenth_of_zero_and_no_token_is_preferred() -> None:
    torch.manual_seed(0)
    words = TokenLayers(VOCABULARY, EMBEDDING, HIDDEN, 0.0)
    weight = words.embedding.weight
    assert weight.shape == (VOCABULARY, EMBEDDING)
    assert 0.099 < weight.max() <= 0.1 and -0.1 <= weight.min() < -0.099
    assert not words.bias.any()
    words(torch.tensor([[5, PAD_ID], [6, 5]])).sum().backward()
    # Padding is read, but nothing is learned of it.
    assert weight.grad is not None
    assert weight.grad.any(1).nonzero().flatten().tolist() == [5, 6]


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_likenesses_to_the_embeddings_or_have_weights_of_their_own(tied: bool) -> None:
    torch.manual_seed(0)
    words = TokenLayers(VOCABULARY, EMBEDDING, HIDDEN, 0.0, tied=tied)
    words.bias.uniform_()
    hidden = torch.randn(2, 3, HIDDEN)
    if tied:
        assert words.likeness is not None and words.output is None
        expected = words.likeness(hidden) @ words.embedding.weight.T + words.bias
    else:
        assert words.likeness is None and words.output is not None
        expected = linear(hidden, words.output.weight) + words.bias
    assert torch.allclose(words.logits(hidden), expected, atol=1e-6)
    # One bias for each token.
    names = {"embedding.weight", "bias"}
    names |= {"likeness.weight", "likeness.bias"} if tied else {"output.weight"}
    assert {name for name, _ in words.named_parameters()} == names
    if tied:
        own = TokenLayers(VOCABULARY, EMBEDDING, HIDDEN, 0.0)
        assert {name for name, _ in own.named_parameters()} == names


@pytest.mark.parametrize(("of_embedding", "expected"), [(None, 0.75), (0.25, 0.25), (0.0, 0.0)])
def test_embeddings_may_have_a_dropout_of_their_own(
    of_embedding: float | None, expected: float
) -> None:
    torch.manual_seed(0)
    words = TokenLayers(VOCABULARY, 1000, HIDDEN, 0.75, embedding_dropout=of_embedding)
    token_ids = torch.arange(4, VOCABULARY)
    assert (words(token_ids) == 0).double().mean().item() == pytest.approx(expected, abs=0.02)
    told = torch.stack([words.logits(torch.ones(1, HIDDEN)) for _ in range(20)])
    assert len(told.unique(dim=0)) > 5
    words.eval()
    assert torch.equal(words(token_ids), words.embedding(token_ids))
    assert torch.equal(*(words.logits(torch.ones(1, HIDDEN)) for _ in range(2)))


def test_a_source_without_a_token_is_one_step_of_padding() -> None:
    without = make_batch([Row(None), Row(None)], sentences=True)
    source, lengths = order_source(without)
    assert (source.tolist(), lengths.tolist()) == ([[PAD_ID], [PAD_ID]], [1, 1])
    some = make_batch([Row(None, [5, 6]), Row(None)], sentences=True)
    source, lengths = order_source(some)
    assert (source.tolist(), lengths.tolist()) == ([[5, 6], [PAD_ID, PAD_ID]], [2, 1])


@pytest.mark.parametrize("p", [0.05, 0.4, 0.5, 0.9])
def test_so_many_are_dropped_and_the_others_scaled(p: float) -> None:
    torch.manual_seed(0)
    input = torch.full((301, 1001), 3.0, requires_grad=True)
    output = Dropout(p)(input)
    kept = output != 0
    assert output[kept].unique().tolist() == pytest.approx([3 / (1 - p)])
    # Five standard deviations of a mean of so many draws.
    assert (~kept).double().mean().item() == pytest.approx(
        p, abs=5 * (p * (1 - p) / kept.numel()) ** 0.5
    )
    # Neighbours, which share their bits, and rows do not depend on each other.
    for one, other in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):
        both = (one & other).double().mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=0.005)
    output.sum().backward()
    assert input.grad is not None
    assert torch.equal(input.grad, kept / (1 - p))


def test_what_is_evaluated_is_as_it_was() -> None:
    input = torch.randn(3, 5)
    assert Dropout(0.5).eval()(input) is input
    before = torch.get_rng_state()
    assert torch.equal(Dropout(0.0)(input), input)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_share_is_exact_to_one_in_65536() -> None:
    torch.manual_seed(0)
    num = 2**22
    kept = int((Dropout(1 - 2**-16)(torch.ones(num)) > 0).sum())
    # 64 of them, with a standard deviation of 8.
    assert kept == pytest.approx(num * 2**-16, abs=40)


@pytest.mark.parametrize("num", [1, 4, 5, 4000])
def test_64_random_bits_decide_on_four_elements(num: int) -> None:
    torch.manual_seed(0)
    Dropout(0.5)(torch.ones(num))
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.empty(-(-num // 4), dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(torch.get_rng_state(), after)


def test_another_device_has_the_dropout_of_pytorch() -> None:
    assert Dropout(0.5)(torch.ones(3, device="meta")).device.type == "meta"


@pytest.mark.parametrize("shape", [(0, 4), (1,), (3, 5, 7)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_a_seed_fixes_it() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(*drawn)
