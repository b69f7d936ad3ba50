"""Constraints on generated sentences, shared by all search methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from intertitle.pipeline.errors import UserError
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID

NEVER_GENERATED = [PAD_ID, BOS_ID, UNK_ID]


@dataclass(frozen=True, slots=True)
class Constraints:
    """Constraints on generated sentences; <unk>, <pad> and <bos> are never generated.

    Attributes:
        min_tokens: minimum number of tokens of a sentence.
        no_repeat_ngram: length of the n-grams that may occur only once in a sentence; 0 disables
            the rule.
        prefix: tokens that every sentence begins with; the other rules apply after them.
    """

    min_tokens: int = 0
    no_repeat_ngram: int = 0
    prefix: tuple[int, ...] = ()

    def mask_logits(self, log_probs: Tensor, words: Tensor, max_tokens: int) -> None:
        """Set the log-probabilities of the tokens that may not come next to -inf, in place.

        A row in which the rules leave no token may end, even if it is too short.

        Args:
            log_probs: log-probabilities of the next token, [N, V]; changed in place.
            words: tokens generated so far, [N, L].
            max_tokens: maximum number of tokens of a sentence, without <eos>.

        Raises:
            UserError: the prefix has probability 0 under the model.
        """
        written = words.shape[1]
        log_probs[:, NEVER_GENERATED] = -torch.inf
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
        """Return the tokens that would repeat an n-gram of their row, [N, L - n + 1].

        Where there is none the entry is PAD_ID, which is never generated.
        """
        prefix_length = self.no_repeat_ngram - 1
        grams = words.unfold(1, self.no_repeat_ngram, 1)
        last = words[:, words.shape[1] - prefix_length :]
        is_repeated = (grams[..., :prefix_length] == last[:, None]).all(2)
        return grams[..., prefix_length].masked_fill(~is_repeated, PAD_ID)


def _force(log_probs: Tensor, token: int) -> None:
    log_probs[:, :token] = log_probs[:, token + 1 :] = -torch.inf
