"""A top-k of long rows that is faster than `Tensor.topk` on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

# A multiple of every SIMD width, so that the maxima of neighbouring columns are vectorized.
COLUMNS = 256
# For a larger k, too many values would be compared twice.
MAX_K = 32


def fast_topk(values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Return the same as `Tensor.topk` for rows, faster on a CPU if `num` is small and N large.

    A row is folded into columns, and only the `num` columns with the largest maxima are searched:
    no value of another column exceeds any of these maxima. The order of equal values may differ
    from that of `Tensor.topk`.

    Args:
        values: [B, N].
        num: number of values per row.

    Returns:
        The largest values in descending order, and their indices, both [B, num].
    """
    column_height = values.shape[1] // COLUMNS
    if values.device.type != "cpu" or column_height < 2 or num > MAX_K:
        return values.topk(num)
    folded_size = column_height * COLUMNS
    columns = (
        values[:, :folded_size].view(-1, column_height, COLUMNS).amax(1).topk(num, sorted=False)
    )
    step = torch.arange(0, folded_size, COLUMNS)
    rest = torch.arange(folded_size, values.shape[1]).expand(len(values), -1)
    candidates = torch.cat([(columns.indices[:, None] + step[:, None]).flatten(1), rest], 1)
    largest = values.gather(1, candidates).topk(num)
    return largest.values, candidates.gather(1, largest.indices)
