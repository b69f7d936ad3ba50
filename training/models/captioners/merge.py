"""Captioners that read one image vector at every token.

The vector is the feature of a photograph, or the mean over the frames of a video. The captioners
share the code around a step and differ in where the vector is used:

- `Factored`: in the input of the second of two recurrent layers; the first reads tokens only.
- `MRNN`: above a recurrent layer that reads tokens only, in a layer that merges token, recurrent
  output and image.
- `RecurrentVisual`: in the input of one of two parallel recurrent layers; the other reads tokens
  only, and must reconstruct the vector from them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.training.data.batch import Batch
from intertitle.training.models.captioners.inject import Captioner, mean_over_frames
from intertitle.training.models.rnn import RNNStack, RNNState


@dataclass(frozen=True, slots=True)
class MergeState:
    """The state of the captioner, for B rows.

    Attributes:
        image: projected image vector, [B, E].
        layers: state of each recurrent layer.
    """

    image: Tensor
    layers: tuple[RNNState, ...]

    def select(self, rows: Tensor) -> MergeState:
        return MergeState(
            self.image.index_select(0, rows), tuple(layer.select(rows) for layer in self.layers)
        )


class MergeCaptioner(Captioner[MergeState]):
    """Base class of the captioners of this module.

    Args:
        sizes: arguments of `Captioner`.
    """

    @property
    @abstractmethod
    def layers(self) -> tuple[RNNStack, ...]:
        """The recurrent layers whose states are carried from token to token."""

    @abstractmethod
    def run(self, words: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        """Read embedded tokens from a state on.

        Args:
            words: embedded tokens, [B, L, E].
            state: state of B rows.

        Returns:
            The hidden states that the next tokens are predicted from, [B, L, H], and the new state.
        """

    def forward(self, batch: Batch) -> Tensor:
        return self.run(self.words(batch.inputs), self.start(batch))[0]

    def start(self, batch: Batch) -> MergeState:
        image = self.project_features(mean_over_frames(batch))
        return MergeState(
            image, tuple(layer.zero_state(len(image), image) for layer in self.layers)
        )

    def advance(self, state: MergeState, token_ids: Tensor) -> tuple[Tensor, MergeState]:
        hidden, state = self.run(self.words(token_ids)[:, None], state)
        return hidden[:, 0], state


class Factored(MergeCaptioner):
    """Two layers: the first reads tokens only, the second its output and the image vector.

    On photographs this is LRCN's captioner in its "factored" form, 2f (Donahue et al. 2015,
    "Long-term Recurrent Convolutional Networks"); on the mean over a video's frames, the mean pool
    of Venugopalan et al. (NAACL 2015, "Translating Videos to Natural Language"), which does not use
    the order of the frames.

    Args:
        sizes: arguments of `Captioner`; each of the two layers is `num_layers` deep.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.language = self.recurrent(self.embedding_size)
        self.fused = self.recurrent(self.hidden_size + self.embedding_size)

    @property
    def layers(self) -> tuple[RNNStack, ...]:
        return self.language, self.fused

    def run(self, words: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        language, fused = state.layers
        outputs, language = self.language(words, language)
        hidden, fused = self.fused(_concat_image(self.dropout(outputs), state.image), fused)
        return hidden, MergeState(state.image, (language, fused))


class MRNN(MergeCaptioner):
    """A captioner that merges the token, the preceding tokens and the image in a multimodal layer
    (Mao et al. 2014, "Explain Images with Multimodal Recurrent Neural Networks", equation 4).

    The next token is predicted from m(t) = g(V_w w(t) + V_r r(t) + V_I I), where w(t) is the
    current token, r(t) the output of the recurrent layer, which does not read the image I, and g
    the tanh of LeCun et al. (1998), scaled so that it is 1 at 1.

    Args:
        sizes: arguments of `Captioner`; m(t) has `hidden_size` units too.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.past = self.recurrent(self.embedding_size)
        # V_w, V_r and V_I, concatenated.
        self.merge = nn.Linear(2 * self.embedding_size + self.hidden_size, self.hidden_size)

    @property
    def layers(self) -> tuple[RNNStack, ...]:
        return (self.past,)

    def run(self, words: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        past, after = self.past(words, state.layers[0])
        merged = self.merge(_concat_image(torch.cat([words, self.dropout(past)], 2), state.image))
        return 1.7159 * torch.tanh(2 / 3 * merged), MergeState(state.image, (after,))


class RecurrentVisual(MergeCaptioner):
    """A captioner with a language state s_t and a visual memory u_t, which must reconstruct the
    image from the preceding tokens (Chen & Zitnick 2015, "Mind's Eye: A Recurrent Visual
    Representation for Image Caption Generation").

    s reads tokens and the image vector, u tokens only; the next token is predicted from both. A
    linear function of u_t predicts the standardized feature v, and the penalty is the mean over v
    of the squared error. u then represents what the sentence has already described of the image,
    and s what there is to describe.

    In the paper, half of the units of s read the image, and the model is also trained in the other
    direction, from a sentence to an image. Here all units of s read the image, and s and u are
    combined only in the output, so that both run over whole sequences at once.

    Args:
        sizes: arguments of `Captioner`; s and u have `hidden_size` units each.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(told_size=2 * sizes["hidden_size"], **sizes)
        self.language = self.recurrent(2 * self.embedding_size)
        self.memory = self.recurrent(self.embedding_size)
        self.reconstruct = nn.Linear(self.hidden_size, sizes["feature_dim"])

    @property
    def layers(self) -> tuple[RNNStack, ...]:
        return self.language, self.memory

    def run(self, words: Tensor, state: MergeState) -> tuple[Tensor, MergeState]:
        language, memory = state.layers
        language_outputs, language = self.language(_concat_image(words, state.image), language)
        memory_outputs, memory = self.memory(words, memory)
        hidden = torch.cat([language_outputs, memory_outputs], 2)
        return hidden, MergeState(state.image, (language, memory))

    def auxiliary_loss(self, batch: Batch, hidden: Tensor) -> Tensor:
        places = batch.target_places
        memory = hidden[..., self.hidden_size :].flatten(0, 1).index_select(0, places)
        image = self.standardize(mean_over_frames(batch))
        images = image.index_select(0, places // hidden.shape[1])
        errors: Tensor = self.reconstruct(memory) - images
        return errors.square().mean(1).sum()


def _concat_image(sequence: Tensor, image: Tensor) -> Tensor:
    """Append a vector [B, E] to every step of a sequence [B, L, N]: [B, L, N + E]."""
    return torch.cat([sequence, image[:, None].expand(-1, sequence.shape[1], -1)], 2)
