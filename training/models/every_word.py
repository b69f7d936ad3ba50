"""Captioners that see one vector beside every word: a photograph's feature, or a video's mean.

They share what goes around a step and differ in where the vector comes in:

- `Factored`: in the input of the second of two recurrent layers; the first reads words alone.
- `MRNN`: above a recurrent layer that reads words alone, in a layer that merges the three.
- `RecurrentVisual`: in the input of one of two recurrent layers side by side; the other reads words
  alone, and must remember from them what the vector was.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.models.captioner import Captioner, mean_over_frames
from training.models.cells import CellState, Recurrent


@dataclass(frozen=True, slots=True)
class SeenState:
    """What was seen, [B, E], and the state of each recurrent layer."""

    seen: Tensor
    layers: tuple[CellState, ...]

    def select(self, rows: Tensor) -> SeenState:
        return SeenState(
            self.seen.index_select(0, rows), tuple(layer.select(rows) for layer in self.layers)
        )


class EveryWord(Captioner[SeenState]):
    """What the captioners of this module share. Arguments as of `Captioner`."""

    @property
    @abstractmethod
    def layers(self) -> tuple[Recurrent, ...]:
        """The recurrent layers whose states go from word to word."""

    @abstractmethod
    def run(self, words: Tensor, state: SeenState) -> tuple[Tensor, SeenState]:
        """Read words [B, L, E] from a state on: what is told from, [B, L, H], and the state."""

    def hidden(self, batch: Batch) -> Tensor:
        return self.run(self.words(batch.inputs), self.start(batch))[0]

    def start(self, batch: Batch) -> SeenState:
        seen = self.look(mean_over_frames(batch))
        return SeenState(seen, tuple(layer.zero_state(len(seen), seen) for layer in self.layers))

    def advance(self, state: SeenState, token_ids: Tensor) -> tuple[Tensor, SeenState]:
        told, state = self.run(self.words(token_ids)[:, None], state)
        return told[:, 0], state


class Factored(EveryWord):
    """Two layers: the first reads words alone, the second its output beside what is seen.

    On photographs it is LRCN's captioner in its "factored" form, 2f (Donahue et al. 2015,
    "Long-term Recurrent Convolutional Networks"); given the mean over a video's frames, the mean
    pool of Venugopalan et al. (NAACL 2015, "Translating Videos to Natural Language"), to whom the
    order of the frames is lost.

    Arguments as of `Captioner`; each of the two is `num_layers` deep.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.language = self.recurrent(self.embedding_size)
        self.fused = self.recurrent(self.hidden_size + self.embedding_size)

    @property
    def layers(self) -> tuple[Recurrent, ...]:
        return self.language, self.fused

    def run(self, words: Tensor, state: SeenState) -> tuple[Tensor, SeenState]:
        language, fused = state.layers
        spoken, language = self.language(words, language)
        told, fused = self.fused(_beside(self.dropout(spoken), state.seen), fused)
        return told, SeenState(state.seen, (language, fused))


class MRNN(EveryWord):
    """Words, their past and the image meet in a multimodal layer (Mao et al. 2014, "Explain Images
    with Multimodal Recurrent Neural Networks", equation 4).

    The next word is told from m(t) = g(V_w w(t) + V_r r(t) + V_I I), where w(t) is the word that
    was read, r(t) the output of the recurrent layer, which never sees the image I, and g the tanh
    of LeCun et al. (1998), stretched so that it is 1 at 1.

    Arguments as of `Captioner`; m(t) has `hidden_size` too.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.past = self.recurrent(self.embedding_size)
        # V_w, V_r and V_I beside each other.
        self.merge = nn.Linear(2 * self.embedding_size + self.hidden_size, self.hidden_size)

    @property
    def layers(self) -> tuple[Recurrent, ...]:
        return (self.past,)

    def run(self, words: Tensor, state: SeenState) -> tuple[Tensor, SeenState]:
        past, after = self.past(words, state.layers[0])
        merged = self.merge(_beside(torch.cat([words, self.dropout(past)], 2), state.seen))
        return 1.7159 * torch.tanh(2 / 3 * merged), SeenState(state.seen, (after,))


class RecurrentVisual(EveryWord):
    """A language state s_t and a visual memory u_t, which must reconstruct the image from the words
    so far (Chen & Zitnick 2015, "Mind's Eye: A Recurrent Visual Representation for Image Caption
    Generation").

    s reads words beside what is seen, u words alone; the next word is told from both. A linear
    function of u_t guesses the standardised feature v, and the penalty is the mean over v of the
    squared error: what the words have already told of the image is then at hand in u, beside what
    there is to tell in s.

    The paper lets half of the units of s see the image, and trains the reverse too, from a sentence
    to an image; here all of s sees, and s and u meet in the output alone, so that both run over
    whole sequences at once.

    Arguments as of `Captioner`; s and u have `hidden_size` each.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(told_size=2 * sizes["hidden_size"], **sizes)
        self.language = self.recurrent(2 * self.embedding_size)
        self.memory = self.recurrent(self.embedding_size)
        self.reconstruct = nn.Linear(self.hidden_size, sizes["feature_dim"])

    @property
    def layers(self) -> tuple[Recurrent, ...]:
        return self.language, self.memory

    def run(self, words: Tensor, state: SeenState) -> tuple[Tensor, SeenState]:
        language, memory = state.layers
        spoken, language = self.language(_beside(words, state.seen), language)
        remembered, memory = self.memory(words, memory)
        told = torch.cat([spoken, remembered], 2)
        return told, SeenState(state.seen, (language, memory))

    def penalty(self, batch: Batch, hidden: Tensor) -> Tensor:
        steps = torch.arange(hidden.shape[1], device=hidden.device)
        counts = steps < batch.num_targets[:, None]
        image = self.standardize(mean_over_frames(batch))
        guessed = self.reconstruct(hidden[..., self.hidden_size :][counts])
        missed: Tensor = guessed - image.repeat_interleave(batch.num_targets, 0)
        return missed.square().mean(1).sum()


def _beside(sequence: Tensor, seen: Tensor) -> Tensor:
    """A sequence [B, L, N] with what is seen [B, E] at every step: [B, L, N + E]."""
    return torch.cat([sequence, seen[:, None].expand(-1, sequence.shape[1], -1)], 2)
