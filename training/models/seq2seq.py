"""A sentence becomes another: one stack of recurrent cells reads, a second one writes.

Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks"; the attention is that
of Luong et al. 2015, or has the scores of Bahdanau et al. 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.data.tokenizer import PAD_ID
from training.models.attention import (
    AdditiveAttention,
    Memory,
    MultiplicativeAttention,
    select_weights,
)
from training.models.cells import (
    Bidirectional,
    CellKind,
    CellState,
    Recurrent,
    initialize,
    reverse_within,
)
from training.models.dropout import Dropout
from training.models.generator import Attended, Generator
from training.models.words import Words, source_steps

AttentionKind = Literal["none", "multiplicative", "additive"]


@dataclass(frozen=True, slots=True)
class Seq2SeqState:
    """The state of the stack that writes, the source as it looks back at it, if it does, and how
    it did so last, [N, S]."""

    writing: CellState
    memory: Memory | None
    weights: Tensor | None = None

    def select(self, rows: Tensor) -> Seq2SeqState:
        memory = None if self.memory is None else self.memory.select(rows)
        return Seq2SeqState(self.writing.select(rows), memory, select_weights(self.weights, rows))


class Seq2Seq(Generator[Seq2SeqState]):
    """An encoder and a decoder, which begins where the encoder has ended.

    With attention, a word is told from tanh(W [c; h]), where h is the decoder's output and c the
    mean over the encoder's outputs that h asks for: both attend with the output of a step, so that
    a sentence is one call of the decoder. Luong's input feeding, and Bahdanau's context as the
    decoder's input, would take a loop over the words, and are left out.

    Args:
        source_vocabulary: of what is read.
        vocabulary: V, of what is told.
        cell: of both stacks.
        num_layers: of each.
        embedding_size: E, of both languages' words.
        hidden_size: H; of each direction, if the encoder reads both ways.
        dropout: on embeddings, between layers, on what attention sees, and on the output.
        reversed: whether the source is read from its end.
        bidirectional: whether the encoder reads both ways; the decoder then begins with a learned
            function of the last state of both.
        attention: how the decoder looks back at the source.
        initial_scale: weights begin uniform in +-this; None: orthogonal.
    """

    task = Task("nothing", reads=True, tells="sentence")

    def __init__(
        self,
        source_vocabulary: int,
        vocabulary: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        reversed: bool,
        bidirectional: bool,
        attention: AttentionKind,
        initial_scale: float | None,
    ) -> None:
        super().__init__()
        self.reversed = reversed
        self.source = nn.Embedding(source_vocabulary, embedding_size, padding_idx=PAD_ID)
        nn.init.uniform_(self.source.weight, -0.1, 0.1)
        self.words = Words(vocabulary, embedding_size, hidden_size, dropout)
        self.dropout = Dropout(dropout)
        sizes = (cell, embedding_size, hidden_size, num_layers, dropout)
        self.encoder: Recurrent | Bidirectional
        self.bridge: _Bridge | None = None
        if bidirectional:
            self.encoder, memory_size = Bidirectional(*sizes), 2 * hidden_size
            self.bridge = _Bridge(cell, memory_size, hidden_size, num_layers)
        else:
            self.encoder, memory_size = Recurrent(*sizes), hidden_size
        self.decoder = Recurrent(*sizes)
        self.attention: MultiplicativeAttention | AdditiveAttention | None = None
        if attention == "multiplicative":
            self.attention = MultiplicativeAttention(hidden_size, memory_size)
        elif attention == "additive":
            self.attention = AdditiveAttention(hidden_size, memory_size, hidden_size)
        if self.attention is not None:
            self.combine = nn.Linear(memory_size + hidden_size, hidden_size)
        if initial_scale is not None:
            initialize(self, initial_scale)

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        return {"source.weight": "source", **super().vocabulary_parameters()}

    def hidden(self, batch: Batch) -> Tensor:
        return self._write(self.words(batch.inputs), self.start(batch))[0]

    def start(self, batch: Batch) -> Seq2SeqState:
        tokens, lengths = source_steps(batch)
        embedded = self.dropout(self.source(tokens))
        if self.reversed:
            embedded = reverse_within(embedded, lengths)
        if isinstance(self.encoder, Bidirectional):
            outputs, ends = self.encoder(embedded, lengths)
            assert self.bridge is not None
            writing = self.bridge(ends)
        else:
            outputs, writing = self.encoder.read(embedded, lengths)
        if self.attention is None:
            return Seq2SeqState(writing, None)
        return Seq2SeqState(writing, self.attention.remember(self.dropout(outputs), lengths))

    def advance(self, state: Seq2SeqState, token_ids: Tensor) -> tuple[Tensor, Seq2SeqState]:
        told, state = self._write(self.words(token_ids)[:, None], state)
        return told[:, 0], state

    def attended(self, state: Seq2SeqState) -> Attended | None:
        found = None if state.memory is None else state.memory.attended(state.weights)
        if found is None or not self.reversed:
            return found
        places = (~found.beyond).sum(1)
        return Attended(reverse_within(found.weights, places), found.beyond)

    def _write(self, words: Tensor, state: Seq2SeqState) -> tuple[Tensor, Seq2SeqState]:
        """Read words [B, L, E]: what the next are told from, [B, L, H]."""
        outputs, writing = self.decoder(words, state.writing)
        if self.attention is None:
            return outputs, Seq2SeqState(writing, None)
        assert state.memory is not None
        outputs = self.dropout(outputs)
        found, weights = self.attention(outputs, state.memory)
        told = torch.tanh(self.combine(torch.cat([found, outputs], 2)))
        return told, Seq2SeqState(writing, state.memory, weights[:, -1])


class _Bridge(nn.Module):
    """From where an encoder of two directions ends to where a decoder begins.

    Args:
        cell: of the decoder.
        input_size: of the two ends beside each other.
        hidden_size: H, of the decoder.
        num_layers: of the decoder.
    """

    def __init__(self, cell: CellKind, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.shape = (2 if cell == "lstm" else 1, num_layers, hidden_size)
        self.layer = nn.Linear(input_size, self.shape[0] * num_layers * hidden_size)

    def forward(self, ends: Tensor) -> CellState:
        """[B, 2H] -> a state of B rows."""
        parts = self.layer(ends).view(len(ends), *self.shape).permute(1, 2, 0, 3).contiguous()
        # An output is within +-1, an LSTM's cell is not.
        return CellState(torch.tanh(parts[0]), parts[1] if len(parts) > 1 else None)
