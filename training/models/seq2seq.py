"""Sequence-to-sequence models: a recurrent encoder reads the source, a recurrent decoder writes.

Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks"; the attention is that
of Luong et al. 2015, or has the scores of Bahdanau et al. 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import PAD_ID
from intertitle.training.models.attention import (
    AdditiveAttention,
    Memory,
    MultiplicativeAttention,
    select_weights,
)
from intertitle.training.models.base import AttentionWeights, Generator
from intertitle.training.models.layers import Dropout, TokenLayers, order_source
from intertitle.training.models.rnn import (
    BidirectionalRNN,
    RNNStack,
    RNNState,
    initialize,
    reverse_within,
)

AttentionKind = Literal["none", "multiplicative", "additive"]


@dataclass(frozen=True, slots=True)
class Seq2SeqState:
    """The state of a decoder, for N rows.

    Attributes:
        writing: state of the decoder's recurrent layers.
        memory: encoded source; None without attention.
        weights: attention weights of the last step, [N, S]; None without attention and before the
            first step.
    """

    writing: RNNState
    memory: Memory | None
    weights: Tensor | None = None

    def select(self, rows: Tensor) -> Seq2SeqState:
        memory = None if self.memory is None else self.memory.select(rows)
        return Seq2SeqState(self.writing.select(rows), memory, select_weights(self.weights, rows))


class Seq2Seq(Generator[Seq2SeqState]):
    """An encoder and a decoder that starts from the final state of the encoder.

    With attention, a token is predicted from tanh(W [c; h]), where h is the decoder's output and c
    the weighted mean over the encoder's outputs for the query h. Both kinds of attention use the
    output of a step as the query, so that a sentence is one call of the decoder. Luong's input
    feeding, and Bahdanau's context as input of the decoder, would need a loop over the tokens and
    are left out.

    Args:
        source_vocabulary: size of the source vocabulary.
        vocabulary: V, size of the target vocabulary.
        cell: kind of the recurrent cells of encoder and decoder.
        num_layers: number of layers of the encoder and of the decoder.
        embedding_size: E, size of the embeddings of both vocabularies.
        hidden_size: H; size of each direction if the encoder is bidirectional.
        dropout: dropout probability of embeddings, between layers, of the inputs of the attention,
            and of the output.
        reversed: whether the source is read from its end.
        bidirectional: whether the encoder reads in both directions; the decoder then starts from a
            learned function of the final states of both.
        attention: kind of the decoder's attention to the source.
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    task = Task("nothing", has_source=True, output="sentence")

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
        self.words = TokenLayers(vocabulary, embedding_size, hidden_size, dropout)
        self.dropout = Dropout(dropout)
        sizes = (cell, embedding_size, hidden_size, num_layers, dropout)
        self.encoder: RNNStack | BidirectionalRNN
        self.bridge: _Bridge | None = None
        if bidirectional:
            self.encoder, memory_size = BidirectionalRNN(*sizes), 2 * hidden_size
            self.bridge = _Bridge(cell, memory_size, hidden_size, num_layers)
        else:
            self.encoder, memory_size = RNNStack(*sizes), hidden_size
        self.decoder = RNNStack(*sizes)
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

    def forward(self, batch: Batch) -> Tensor:
        return self._write(self.words(batch.inputs), self.start(batch))[0]

    def start(self, batch: Batch) -> Seq2SeqState:
        tokens, lengths = order_source(batch)
        embedded = self.dropout(self.source(tokens))
        if self.reversed:
            embedded = reverse_within(embedded, lengths)
        if isinstance(self.encoder, BidirectionalRNN):
            outputs, ends = self.encoder(embedded, lengths)
            assert self.bridge is not None
            writing = self.bridge(ends)
        else:
            outputs, writing = self.encoder.read(embedded, lengths, padded=batch.source_padded)
        if self.attention is None:
            return Seq2SeqState(writing, None)
        return Seq2SeqState(writing, self.attention.build_memory(self.dropout(outputs), lengths))

    def advance(self, state: Seq2SeqState, token_ids: Tensor) -> tuple[Tensor, Seq2SeqState]:
        hidden, state = self._write(self.words(token_ids)[:, None], state)
        return hidden[:, 0], state

    def attention_weights(self, state: Seq2SeqState) -> AttentionWeights | None:
        attention = None if state.memory is None else state.memory.attention_weights(state.weights)
        if attention is None or not self.reversed:
            return attention
        lengths = (~attention.padding_mask).sum(1)
        return AttentionWeights(reverse_within(attention.weights, lengths), attention.padding_mask)

    def _write(self, words: Tensor, state: Seq2SeqState) -> tuple[Tensor, Seq2SeqState]:
        """Read embedded tokens [B, L, E].

        Returns:
            The hidden states that the next tokens are predicted from, [B, L, H], and the new state.
        """
        outputs, writing = self.decoder(words, state.writing)
        if self.attention is None:
            return outputs, Seq2SeqState(writing, None)
        assert state.memory is not None
        outputs = self.dropout(outputs)
        contexts, weights = self.attention(outputs, state.memory)
        hidden = torch.tanh(self.combine(torch.cat([contexts, outputs], 2)))
        return hidden, Seq2SeqState(writing, state.memory, weights[:, -1])


class _Bridge(nn.Module):
    """A layer that maps the final states of a bidirectional encoder to a decoder's initial state.

    Args:
        cell: kind of the decoder's cells.
        input_size: size of both final states, concatenated.
        hidden_size: H, size of the decoder.
        num_layers: number of layers of the decoder.
    """

    def __init__(self, cell: CellKind, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.shape = (2 if cell == "lstm" else 1, num_layers, hidden_size)
        self.layer = nn.Linear(input_size, self.shape[0] * num_layers * hidden_size)

    def forward(self, ends: Tensor) -> RNNState:
        """Map the final states, [B, 2H], to a state of B rows."""
        parts = self.layer(ends).view(len(ends), *self.shape).permute(1, 2, 0, 3).contiguous()
        # A hidden state is within [-1, 1], an LSTM's cell state is not.
        return RNNState(torch.tanh(parts[0]), parts[1] if len(parts) > 1 else None)
