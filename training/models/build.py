"""Build models from the configuration of a recipe."""

from __future__ import annotations

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.task import Task
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.base import Model, Sizes
from intertitle.training.models.captioners.attend_and_tell import AttendAndTell
from intertitle.training.models.captioners.inject import NeuralTalk, ShowAndTell
from intertitle.training.models.captioners.merge import MRNN, Factored, RecurrentVisual
from intertitle.training.models.captioners.s2vt import S2VT
from intertitle.training.models.captioners.template import Template
from intertitle.training.models.label_models import Classifier, Tagger
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.models.seq2seq import Seq2Seq
from intertitle.training.models.vqa import VQA

KINDS: dict[str, type[Model]] = {
    "language_model": LanguageModel,
    "show_and_tell": ShowAndTell,
    "neuraltalk": NeuralTalk,
    "m_rnn": MRNN,
    "lrcn": Factored,
    "recurrent_visual": RecurrentVisual,
    "mean_pool_video": Factored,
    "template": Template,
    "s2vt": S2VT,
    "attend_and_tell": AttendAndTell,
    "seq2seq": Seq2Seq,
    "classifier": Classifier,
    "tagger": Tagger,
    "vqa": VQA,
}


def task_of(config: ModelConfig) -> Task:
    """Return the task of a model: its inputs and its output."""
    return KINDS[config.kind].task


def build_model(config: ModelConfig, sizes: Sizes) -> Model:
    """Build a model with newly initialized weights, drawn from PyTorch's default generator.

    A model receives the sizes that its task needs (`feature_dim`, `source_vocabulary`,
    `vocabulary`) and the fields of the recipe's model section.
    """
    task = task_of(config)
    size_arguments = {"vocabulary": sizes.vocabulary}
    if task.has_source:
        size_arguments["source_vocabulary"] = sizes.source_vocabulary
    if task.visual_input != "nothing":
        size_arguments["feature_dim"] = sizes.feature_dim
    return KINDS[config.kind](**size_arguments, **config.model_dump(exclude={"kind"}))


def sizes_of(vocabularies: Vocabs, data: DataRef) -> Sizes:
    """Return the sizes of a model that depend on the data."""
    source = vocabularies.source
    return Sizes(len(vocabularies.target), len(source) if source else 0, data.feature_dim)
