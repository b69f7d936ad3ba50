"""Captioners that see one vector: a photograph's feature, or the mean over a video's frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from training.data.batch import Batch
from training.data.tokenizer import PAD_ID
from training.models.cells import LSTM, LSTMState
from training.models.generator import Generator, S


class Standardize(nn.Module):
    """Features minus their mean, by their deviation, as measured on the training split."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    def measure(self, features: Tensor) -> None:
        """Take mean and deviation from some features, [N, D]."""
        self.mean.copy_(features.mean(0))
        # A feature that never changes says nothing: it must not be blown up.
        self.deviation.copy_(features.std(0, correction=0).clamp_min(1e-3))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


class Captioner(Generator[S]):
    """What captioners share: frames are standardised and projected, words embedded, and a word is
    told from the last layer's output by its likeness to the words' embeddings (tied weights, Press
    & Wolf 2017).

    Args:
        feature_dim: D.
        vocabulary: V.
        embedding_size: E, of a word, and of a projected frame.
        hidden_size: H.
        dropout: on both embeddings, between the layers and on the output.
        feature_dropout: on the features themselves.
    """

    def __init__(
        self,
        feature_dim: int,
        vocabulary: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        feature_dropout: float,
    ) -> None:
        super().__init__()
        self.standardize = Standardize(feature_dim)
        self.projection = nn.Sequential(
            nn.Dropout(feature_dropout), nn.Linear(feature_dim, embedding_size)
        )
        self.embedding = nn.Embedding(vocabulary, embedding_size, padding_idx=PAD_ID)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.likeness = nn.Linear(hidden_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size

    def measure(self, examples: Sequence[Tensor]) -> None:
        self.standardize.measure(torch.cat(list(examples)))

    def look(self, features: Tensor) -> Tensor:
        """Project features, [..., D] -> [..., E]."""
        return self.dropout(self.projection(self.standardize(features)))  # type: ignore[no-any-return]

    def read(self, token_ids: Tensor) -> Tensor:
        """Embed words, [...] -> [..., E]."""
        return self.dropout(self.embedding(token_ids))  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        return linear(self.likeness(self.dropout(hidden)), self.embedding.weight, self.bias)


def mean_over_frames(batch: Batch) -> Tensor:
    """The average of each row's own frames, [B, D]."""
    return batch.features.sum(1) / batch.num_frames[:, None].to(batch.features.dtype)


class ShowAndTell(Captioner[LSTMState]):
    """The image as the first word (Vinyals et al. 2015, "Show and Tell", equations 10-12).

    Arguments as of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.lstm = LSTM(self.embedding_size, self.hidden_size)

    def _image(self, batch: Batch) -> Tensor:
        """The first word, [B, 1, E]."""
        return self.look(mean_over_frames(batch))[:, None]

    def hidden(self, batch: Batch) -> Tensor:
        words = self.read(batch.inputs)
        outputs, _ = self.lstm(torch.cat([self._image(batch), words], 1))
        told: Tensor = outputs[:, 1:]
        return told

    def start(self, batch: Batch) -> LSTMState:
        _, state = self.lstm(self._image(batch))
        return state  # type: ignore[no-any-return]

    def advance(self, state: LSTMState, token_ids: Tensor) -> tuple[Tensor, LSTMState]:
        words = self.read(token_ids)[:, None]
        outputs, state = self.lstm(words, state)
        return outputs[:, 0], state


@dataclass(frozen=True, slots=True)
class FactoredState:
    """The states of the language layer and of the layer above it, and what was seen, [B, E]."""

    seen: Tensor
    language: LSTMState
    fused: LSTMState

    def select(self, rows: Tensor) -> FactoredState:
        return FactoredState(
            self.seen.index_select(0, rows),
            self.language.select(rows),
            self.fused.select(rows),
        )


class MeanPoolVideo(Captioner[FactoredState]):
    """The mean over the frames at every step (Venugopalan et al., NAACL 2015), given to the second
    of two layers ("factored", Donahue et al. 2015): the first reads words alone.

    The order of the frames is lost. Arguments as of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.language = LSTM(self.embedding_size, self.hidden_size)
        self.fused = LSTM(self.hidden_size + self.embedding_size, self.hidden_size)

    def _run(
        self, words: Tensor, seen: Tensor, state: FactoredState | None
    ) -> tuple[Tensor, FactoredState]:
        """Both layers over words [B, L, E] beside what was seen [B, E]."""
        spoken, language = self.language(words, state and state.language)
        beside = seen[:, None].expand(-1, words.shape[1], -1)
        outputs, fused = self.fused(
            torch.cat([self.dropout(spoken), beside], 2), state and state.fused
        )
        return outputs, FactoredState(seen, language, fused)

    def hidden(self, batch: Batch) -> Tensor:
        words = self.read(batch.inputs)
        return self._run(words, self.look(mean_over_frames(batch)), None)[0]

    def start(self, batch: Batch) -> FactoredState:
        seen = self.look(mean_over_frames(batch))
        zeros = seen.new_zeros(1, len(seen), self.hidden_size)
        nothing = LSTMState(zeros, zeros)
        return FactoredState(seen, nothing, nothing)

    def advance(self, state: FactoredState, token_ids: Tensor) -> tuple[Tensor, FactoredState]:
        words = self.read(token_ids)[:, None]
        outputs, state = self._run(words, state.seen, state)
        return outputs[:, 0], state
