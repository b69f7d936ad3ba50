import pytest
import torch

from intertitle.training.search.fast_topk import COLUMNS, MAX_K, fast_topk


@pytest.mark.parametrize("size", [1, COLUMNS, 2 * COLUMNS, 3 * COLUMNS + 7, 20 * COLUMNS - 1])
@pytest.mark.parametrize("num", [1, 10, MAX_K, MAX_K + 1])
def test_they_are_those_that_topk_finds(size: int, num: int) -> None:
    torch.manual_seed(size + num)
    values = torch.randn(5, size)
    # Rows of beams that have no sentence to go on with, and words that may not be written.
    values[:, ::3] = -torch.inf
    values[0, num // 2 :] = -torch.inf
    num = min(num, size)
    found, places = fast_topk(values, num)
    assert torch.equal(found, values.topk(num).values)
    assert torch.equal(values.gather(1, places), found)
    assert all(len(set(row)) == num for row in places.tolist())


@pytest.mark.parametrize(
    ("size", "num", "compared"),
    [
        # The maxima of the columns, and then two values each of the best columns.
        (2 * COLUMNS, 10, [COLUMNS, 2 * 10]),
        # Also the values that fill no column.
        (3 * COLUMNS + 7, MAX_K, [COLUMNS, 3 * MAX_K + 7]),
        # Too short, and too many.
        (2 * COLUMNS - 1, 10, [2 * COLUMNS - 1]),
        (3 * COLUMNS, MAX_K + 1, [3 * COLUMNS]),
    ],
)
def test_only_the_best_columns_are_searched(
    size: int, num: int, compared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    topk, widths = torch.Tensor.topk, []

    def note(values: torch.Tensor, *arguments: int, **options: bool) -> object:
        widths.append(values.shape[1])
        return topk(values, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "topk", note)
    fast_topk(torch.randn(2, size), num)
    assert widths == compared


def test_a_row_finds_the_same_alone_even_among_equals() -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 4, (6, 5 * COLUMNS + 3)).float()
    _, together = fast_topk(values, 9)
    alone = [fast_topk(row[None], 9)[1][0] for row in values]
    assert torch.equal(together, torch.stack(alone))
