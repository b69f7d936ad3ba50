"""The model sections of a recipe, one class for each kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.plugins import Registry
from intertitle.training.config.toml_config import validate

CellKind = Literal["rnn", "gru", "lstm"]

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of a recipe: immutable, unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(Section):
    """Fields of all models; a class of a model's own has further fields.

    Attributes:
        kind: name of the model.
        cell: kind of the recurrent cells.
        num_layers: number of stacked recurrent layers.
        embedding_size: size of a token's embedding and of a projected frame.
        hidden_size: H, size of each recurrent layer.
        dropout: dropout probability of embeddings, between layers and of the output.
    """

    kind: str
    cell: CellKind = "lstm"
    num_layers: PositiveInt = 1
    embedding_size: PositiveInt = 512
    hidden_size: PositiveInt = 512
    dropout: Share = 0.5


class LanguageModelConfig(NetworkConfig):
    """A language model of running text.

    Attributes:
        embedding_dropout: dropout probability of the embeddings, where `dropout` does not apply.
        tied: whether the output layer shares the weights of the embedding (Press & Wolf 2017).
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    embedding_dropout: Share = 0.0
    tied: bool = False
    initial_scale: PositiveFloat | None = None


class ClassifierConfig(NetworkConfig):
    """A text classifier.

    Attributes:
        bidirectional: whether the text is read in both directions.
        pooling: method to reduce the outputs to one vector: the last output, or the maximum of each
            unit.
        word_dropout: share of the tokens that training replaces by <unk>.
    """

    bidirectional: bool = True
    pooling: Literal["last", "max"] = "max"
    word_dropout: Share = 0.0


class TaggerConfig(NetworkConfig):
    """A video tagger, which predicts a label for each frame.

    Attributes:
        bidirectional: whether the frames are read in both directions.
        feature_dropout: dropout probability of the standardized features of the frames.
    """

    bidirectional: bool = True
    feature_dropout: Share = 0.0


class Seq2SeqConfig(NetworkConfig):
    """A sequence-to-sequence model, which maps a sentence to a sentence.

    Attributes:
        reversed: whether the source is read from its end (Sutskever et al. 2014).
        bidirectional: whether the encoder reads in both directions.
        attention: kind of the decoder's attention to the source: none, multiplicative scores (Luong
            et al. 2015, "general") or additive scores (Bahdanau et al. 2015).
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    reversed: bool = False
    bidirectional: bool = False
    attention: Literal["none", "multiplicative", "additive"] = "none"
    initial_scale: PositiveFloat | None = None


class CaptionerConfig(NetworkConfig):
    """A captioner, which describes an image or a video in a sentence.

    Attributes:
        feature_dropout: dropout probability of the standardized features of the frames.
    """

    feature_dropout: Share = 0.0


class AttendAndTellConfig(NetworkConfig):
    """A captioner that attends to the cells of an image for each token.

    Attributes:
        attention_size: size that the context vectors are projected to.
        feature_dropout: dropout probability of the channels of the cells, and of the mean over the
            cells.
    """

    attention_size: PositiveInt = 512
    feature_dropout: Share = 0.0


class AttendVideoConfig(CaptionerConfig):
    """A captioner that attends to the frames of a video for each token.

    Attributes:
        attention_size: size of the hidden layer that computes the attention scores.
    """

    attention_size: PositiveInt = 256


class VQAConfig(NetworkConfig):
    """A model for visual question answering, which predicts an answer from an image and a question.

    Attributes:
        fused_size: size that question and image are projected to and multiplied in.
        uses: inputs that the answer is predicted from; a single input serves as a baseline.
        feature_dropout: dropout probability of the standardized features of the image.
    """

    fused_size: PositiveInt = 1024
    uses: Literal["both", "question", "image"] = "both"
    feature_dropout: Share = 0.0


class VQAAttentionConfig(NetworkConfig):
    """A model for visual question answering that attends to the cells of an image.

    Attributes:
        fused_size: size that the question and each cell are projected to.
        attention_size: size of the hidden layer that computes the scores of the cells.
        num_hops: number of times that the model attends to the image.
        feature_dropout: dropout probability of the channels of the cells.
    """

    fused_size: PositiveInt = 512
    attention_size: PositiveInt = 256
    num_hops: PositiveInt = 2
    feature_dropout: Share = 0.0


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A kind of model that recipes choose by `model.kind`.

    Attributes:
        name: name of the kind.
        config: class of the recipe's section.
        network: subclass of `intertitle.training.models.base.Model`, "module:class", which is
            imported when a model is built. It receives the sizes that its task needs and the fields
            of the section as keyword arguments.
        attends: whether it attends to parts of its input, so that search can penalize parts without
            attention.
    """

    name: str
    config: type[NetworkConfig]
    network: str
    attends: bool = False


_HERE = "intertitle.training.models"
_KINDS = (
    ModelKind("language_model", LanguageModelConfig, f"{_HERE}.language_model:LanguageModel"),
    ModelKind("classifier", ClassifierConfig, f"{_HERE}.label_models:Classifier"),
    ModelKind("tagger", TaggerConfig, f"{_HERE}.label_models:Tagger"),
    ModelKind("seq2seq", Seq2SeqConfig, f"{_HERE}.seq2seq:Seq2Seq"),
    ModelKind("show_and_tell", CaptionerConfig, f"{_HERE}.captioners.inject:ShowAndTell"),
    ModelKind("neuraltalk", CaptionerConfig, f"{_HERE}.captioners.inject:NeuralTalk"),
    ModelKind("m_rnn", CaptionerConfig, f"{_HERE}.captioners.merge:MRNN"),
    ModelKind("lrcn", CaptionerConfig, f"{_HERE}.captioners.merge:Factored"),
    ModelKind("recurrent_visual", CaptionerConfig, f"{_HERE}.captioners.merge:RecurrentVisual"),
    ModelKind("mean_pool_video", CaptionerConfig, f"{_HERE}.captioners.merge:Factored"),
    ModelKind("s2vt", CaptionerConfig, f"{_HERE}.captioners.s2vt:S2VT"),
    ModelKind("template", CaptionerConfig, f"{_HERE}.captioners.template:Template"),
    ModelKind(
        "attend_and_tell",
        AttendAndTellConfig,
        f"{_HERE}.captioners.attend_and_tell:AttendAndTell",
        attends=True,
    ),
    ModelKind(
        "attend_video",
        AttendVideoConfig,
        f"{_HERE}.captioners.attend_video:AttendVideo",
        attends=True,
    ),
    ModelKind("vqa", VQAConfig, f"{_HERE}.vqa:VQA"),
    ModelKind("vqa_attention", VQAAttentionConfig, f"{_HERE}.vqa:StackedAttention"),
)
MODELS = Registry("intertitle.models", "model", ModelKind, {kind.name: kind for kind in _KINDS})


def _section_of_kind(value: object) -> object:
    """Validate the model section of a recipe as the class of its kind.

    Raises:
        UserError: the kind is missing or unknown, or a field is not allowed.
    """
    if not isinstance(value, Mapping):
        return value
    if "kind" not in value:
        raise UserError("model.kind: Field required")
    kind = MODELS.load(str(value["kind"]), "model.kind")
    return validate(kind.config, value, "", ["model"])


ModelConfig = Annotated[SerializeAsAny[NetworkConfig], BeforeValidator(_section_of_kind)]
