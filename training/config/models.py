"""The model sections of a recipe, one class for each kind of model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CellKind = Literal["rnn", "gru", "lstm"]

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of a recipe: immutable, unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Network(Section):
    """Fields of all models.

    Attributes:
        cell: kind of the recurrent cells.
        num_layers: number of stacked recurrent layers.
        embedding_size: size of a token's embedding and of a projected frame.
        hidden_size: H, size of each recurrent layer.
        dropout: dropout probability of embeddings, between layers and of the output.
    """

    cell: CellKind = "lstm"
    num_layers: PositiveInt = 1
    embedding_size: PositiveInt = 512
    hidden_size: PositiveInt = 512
    dropout: Share = 0.5


class LanguageModelConfig(_Network):
    """A language model of running text.

    Attributes:
        kind: "language_model".
        embedding_dropout: dropout probability of the embeddings, where `dropout` does not apply.
        tied: whether the output layer shares the weights of the embedding (Press & Wolf 2017).
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    kind: Literal["language_model"]
    embedding_dropout: Share = 0.0
    tied: bool = False
    initial_scale: PositiveFloat | None = None


class ClassifierConfig(_Network):
    """A text classifier.

    Attributes:
        kind: "classifier".
        bidirectional: whether the text is read in both directions.
        pooling: method to reduce the outputs to one vector: the last output, or the maximum of each
            unit.
        word_dropout: share of the tokens that training replaces by <unk>.
    """

    kind: Literal["classifier"]
    bidirectional: bool = True
    pooling: Literal["last", "max"] = "max"
    word_dropout: Share = 0.0


class TaggerConfig(_Network):
    """A video tagger, which predicts a label for each frame.

    Attributes:
        kind: "tagger".
        bidirectional: whether the frames are read in both directions.
        feature_dropout: dropout probability of the standardized features of the frames.
    """

    kind: Literal["tagger"]
    bidirectional: bool = True
    feature_dropout: Share = 0.0


class Seq2SeqConfig(_Network):
    """A sequence-to-sequence model, which maps a sentence to a sentence.

    Attributes:
        kind: "seq2seq".
        reversed: whether the source is read from its end (Sutskever et al. 2014).
        bidirectional: whether the encoder reads in both directions.
        attention: kind of the decoder's attention to the source: none, multiplicative scores (Luong
            et al. 2015, "general") or additive scores (Bahdanau et al. 2015).
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    kind: Literal["seq2seq"]
    reversed: bool = False
    bidirectional: bool = False
    attention: Literal["none", "multiplicative", "additive"] = "none"
    initial_scale: PositiveFloat | None = None


class CaptionerConfig(_Network):
    """A captioner, which describes an image or a video in a sentence.

    Attributes:
        kind: name of the captioner.
        feature_dropout: dropout probability of the standardized features of the frames.
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
    """A captioner that attends to the cells of an image for each token.

    Attributes:
        kind: "attend_and_tell".
        attention_size: size that the context vectors are projected to.
        feature_dropout: dropout probability of the channels of the cells, and of the mean over the
            cells.
    """

    kind: Literal["attend_and_tell"]
    attention_size: PositiveInt = 512
    feature_dropout: Share = 0.0


class VQAConfig(_Network):
    """A model for visual question answering, which predicts an answer from an image and a question.

    Attributes:
        kind: "vqa".
        fused_size: size that question and image are projected to and multiplied in.
        uses: inputs that the answer is predicted from; a single input serves as a baseline.
        feature_dropout: dropout probability of the standardized features of the image.
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
