"""A configuration becomes a model: the only such place."""

from __future__ import annotations

from training.data.task import Task
from training.models.attend_and_tell import AttendAndTell
from training.models.captioner import NeuralTalk, ShowAndTell
from training.models.classifier import Classifier
from training.models.config import ModelConfig
from training.models.every_word import MRNN, Factored, RecurrentVisual
from training.models.generator import Model, Sizes
from training.models.language_model import LanguageModel
from training.models.s2vt import S2VT
from training.models.seq2seq import Seq2Seq
from training.models.tagger import Tagger
from training.models.template import Template
from training.models.vqa import VQA

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
    """What a model reads and tells."""
    return KINDS[config.kind].task


def build_model(config: ModelConfig, sizes: Sizes) -> Model:
    """Make a model with fresh weights, drawn from torch's generator.

    A model takes the sizes that its task has (`feature_dim`, `source_vocabulary`, `vocabulary`) and
    the fields of its section of the recipe.
    """
    task = task_of(config)
    given = {"vocabulary": sizes.vocabulary}
    if task.reads:
        given["source_vocabulary"] = sizes.source_vocabulary
    if task.sees != "nothing":
        given["feature_dim"] = sizes.feature_dim
    return KINDS[config.kind](**given, **config.model_dump(exclude={"kind"}))
