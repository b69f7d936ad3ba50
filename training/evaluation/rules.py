"""What a sentence may hold, whatever the model likes: the same for every way of finding one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import UserError
from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID

NEVER_WRITTEN = [PAD_ID, BOS_ID, UNK_ID]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a sentence may hold. <unk>, <pad> and <bos> are never written.

    Attributes:
        min_tokens: a sentence does not end before it has so many words.
        no_repeat_ngram: no so many words in a row come twice; 0 lets them.
        prefix: words that every sentence begins with; the other rules hold after them.
    """

    min_tokens: int = 0
    no_repeat_ngram: int = 0
    prefix: tuple[int, ...] = ()

    def forbid(self, log_probs: Tensor, words: Tensor, max_tokens: int) -> None:
        """Give -inf to what may not come next.

        A row to which the rules leave no word may end, even if it is too short.

        Args:
            log_probs: of the next word, [N, V]; changed in place.
            words: of each row so far, [N, L].
            max_tokens: after so many words a sentence has to end.

        Raises:
            UserError: to the model the prefix is impossible.
        """
        written = words.shape[1]
        log_probs[:, NEVER_WRITTEN] = -torch.inf
        if written < len(self.prefix):
            _force(log_probs, self.prefix[written])
            if log_probs[:, self.prefix[written]].isneginf().any():
                raise UserError("search.prefix: no sentence of this model can begin so")
            return
        if written >= max_tokens:
            _force(log_probs, EOS_ID)
            return
        if not (written < self.min_tokens or 0 < self.no_repeat_ngram <= written):
            return
        ends = log_probs[:, EOS_ID].clone()
        if written < self.min_tokens:
            log_probs[:, EOS_ID] = -torch.inf
        if 0 < self.no_repeat_ngram <= written:
            log_probs.scatter_(1, self._repeating(words), -torch.inf)
        stuck = log_probs.isneginf().all(1)
        log_probs[:, EOS_ID] = torch.where(stuck, ends, log_probs[:, EOS_ID])

    def _repeating(self, words: Tensor) -> Tensor:
        """The words that would repeat an n-gram of their row, [N, L - n + 1]; PAD_ID, which is
        never written, where there is none."""
        before = self.no_repeat_ngram - 1
        grams = words.unfold(1, self.no_repeat_ngram, 1)
        last = words[:, words.shape[1] - before :]
        again = (grams[..., :before] == last[:, None]).all(2)
        return grams[..., before].masked_fill(~again, PAD_ID)


def _force(log_probs: Tensor, token: int) -> None:
    log_probs[:, :token] = log_probs[:, token + 1 :] = -torch.inf
