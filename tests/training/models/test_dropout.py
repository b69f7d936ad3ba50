"""Our dropout against PyTorch's."""

import pytest
import torch

from intertitle.training.models.layers import Dropout


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
    assert torch.equal(Dropout(0.0)(input), input)


@pytest.mark.parametrize("shape", [(0, 4), (1,), (3, 5, 7)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_a_seed_fixes_it() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(*drawn)
