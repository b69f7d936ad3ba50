"""A captioner that attends to the frames of a video for each token.

Yao et al. 2015, "Describing Videos by Exploiting Temporal Structure", with its soft attention over
frames and without its 3-D CNN, whose features may be a second store.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intertitle.training.data.batch import Batch
from intertitle.training.models.attention import AdditiveAttention
from intertitle.training.models.base import AttentionWeights
from intertitle.training.models.captioners.attend_and_tell import AttendState
from intertitle.training.models.captioners.inject import Captioner


class AttendVideo(Captioner[AttendState]):
    """A stack of recurrent layers that reads each token with a weighted mean over the frames.

    The query is the top layer's state before the token, and the next token is predicted from the
    output, the mean and the token (the paper's deep output layer, without its tanh). What is read
    thus depends on what was attended to before, as in the paper; `AttendAndTell` attends above its
    recurrent layers instead, so that it needs no loop over the tokens.

    Args:
        attention_size: size of the hidden layer that computes the scores.
        sizes: arguments of `Captioner`.
    """

    def __init__(self, *, attention_size: int, **sizes: Any) -> None:
        embedding_size, hidden_size = sizes["embedding_size"], sizes["hidden_size"]
        super().__init__(told_size=hidden_size + 2 * embedding_size, **sizes)
        self.attention = AdditiveAttention(hidden_size, embedding_size, attention_size)
        self.stack = self.recurrent(2 * embedding_size)

    def forward(self, batch: Batch) -> Tensor:
        state, hidden = self.start(batch), []
        for words in self.words(batch.inputs).unbind(1):
            step, state = self._read(words, state)
            hidden.append(step)
        return torch.stack(hidden, 1)

    def start(self, batch: Batch) -> AttendState:
        frames = self.project_features(batch.features)
        memory = self.attention.build_memory(frames, batch.frame_lengths)
        return AttendState(self.stack.zero_state(len(batch), frames), memory)

    def advance(self, state: AttendState, token_ids: Tensor) -> tuple[Tensor, AttendState]:
        return self._read(self.words(token_ids), state)

    def _read(self, words: Tensor, state: AttendState) -> tuple[Tensor, AttendState]:
        """Read one embedded token per row, [N, E].

        Returns:
            The hidden states that the next tokens are predicted from, [N, H + 2 E], and the new
            state.
        """
        contexts, weights = self.attention(state.reading.h[-1][:, None], state.memory)
        inputs = torch.cat([words[:, None], contexts], 2)
        outputs, reading = self.stack(inputs, state.reading)
        hidden = torch.cat([outputs, inputs], 2)[:, 0]
        return hidden, AttendState(reading, state.memory, weights[:, 0])

    def attention_weights(self, state: AttendState) -> AttentionWeights | None:
        return state.memory.attention_weights(state.weights)
