"""Dropout (Srivastava et al. 2014), faster on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """As `nn.Dropout`; on a CPU each 64 random bits decide on four elements.

    PyTorch draws for each element by itself: a twentieth of a training step. The share that is
    dropped is `p` to 1 / 65,536.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        num = input.numel()
        draws = torch.empty(-(-num // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = draws.view(torch.int16)[:num].view(input.shape)
        kept = draws >= round(self.p * 2**16) - 2**15
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))
