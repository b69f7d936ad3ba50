"""What a recipe says of its network: a section for each kind of model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.models.cells import CellKind

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Network(Section):
    """What all networks have.

    Attributes:
        cell: of the recurrent layers.
        num_layers: of them, one above the other.
        embedding_size: of a word, and of a projected frame.
        hidden_size: H, of each recurrent layer.
        dropout: on embeddings, between layers and on the output.
    """

    cell: CellKind = "lstm"
    num_layers: PositiveInt = 1
    embedding_size: PositiveInt = 512
    hidden_size: PositiveInt = 512
    dropout: Share = 0.5


class LanguageModelConfig(_Network):
    """Running text, each token from those before it.

    Attributes:
        kind: "language_model".
        embedding_dropout: on the embeddings, where `dropout` is not.
        tied: a word is told by its likeness to the words' embeddings (Press & Wolf 2017).
        initial_scale: weights begin uniform in +-this; None: orthogonal.
    """

    kind: Literal["language_model"]
    embedding_dropout: Share = 0.0
    tied: bool = False
    initial_scale: PositiveFloat | None = None


class ClassifierConfig(_Network):
    """A sentence in, a label out.

    Attributes:
        kind: "classifier".
        bidirectional: whether it reads both ways.
        pooling: what of the outputs the label is told from: the last, or the largest of each.
        word_dropout: share of the words that training hides.
    """

    kind: Literal["classifier"]
    bidirectional: bool = True
    pooling: Literal["last", "max"] = "max"
    word_dropout: Share = 0.0


class TaggerConfig(_Network):
    """A video in, a label a frame out.

    Attributes:
        kind: "tagger".
        bidirectional: whether it reads both ways.
        feature_dropout: on the frames' features as they come.
    """

    kind: Literal["tagger"]
    bidirectional: bool = True
    feature_dropout: Share = 0.0


class Seq2SeqConfig(_Network):
    """A sentence in, a sentence out.

    Attributes:
        kind: "seq2seq".
        reversed: whether the source is read from its end (Sutskever et al. 2014).
        bidirectional: whether the encoder reads both ways.
        attention: how the decoder looks back at the source: not at all, by a product (Luong et al.
            2015, "general") or by a small network (Bahdanau et al. 2015).
        initial_scale: weights begin uniform in +-this; None: orthogonal.
    """

    kind: Literal["seq2seq"]
    reversed: bool = False
    bidirectional: bool = False
    attention: Literal["none", "multiplicative", "additive"] = "none"
    initial_scale: PositiveFloat | None = None


class CaptionerConfig(_Network):
    """An image or a video in, a sentence out.

    Attributes:
        kind: which of the captioners.
        feature_dropout: on the frames' features as they come.
    """

    kind: Literal[
        "show_and_tell",
        "neuraltalk",
        "m_rnn",
        "lrcn",
        "recurrent_visual",
        "mean_pool_video",
        "s2vt",
        "template",
    ]
    feature_dropout: Share = 0.0


class AttendAndTellConfig(_Network):
    """An image in, a sentence out, with a look at its cells for each word.

    Attributes:
        kind: "attend_and_tell".
        attention_size: that what is found in the cells is projected to.
        feature_dropout: on the channels of the cells, and on the mean over them.
    """

    kind: Literal["attend_and_tell"]
    attention_size: PositiveInt = 512
    feature_dropout: Share = 0.0


class VQAConfig(_Network):
    """An image and a question in, an answer out.

    Attributes:
        kind: "vqa".
        fused_size: of the space in which question and image are multiplied.
        uses: what it answers from; one alone shows how far that goes.
        feature_dropout: on the image's features as they come.
    """

    kind: Literal["vqa"]
    fused_size: PositiveInt = 1024
    uses: Literal["both", "question", "image"] = "both"
    feature_dropout: Share = 0.0


ModelConfig = Annotated[
    LanguageModelConfig
    | ClassifierConfig
    | TaggerConfig
    | Seq2SeqConfig
    | CaptionerConfig
    | AttendAndTellConfig
    | VQAConfig,
    Field(discriminator="kind"),
]
