"""Greedy sentences of ONNX Runtime equal ours, for the recipes that write sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import recipe_names
from intertitle.training.data.batch import Row, make_batch
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.export.onnx_export import export_onnx
from intertitle.training.export.onnx_generator import OnnxGenerator
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.build import task_of
from intertitle.training.search.beam import beam
from tests.training.conftest import small_recipe
from tests.training.generators import DIM, NUM_CELLS, SOURCE_VOCABULARY, make_generator

SENTENCES = [
    name for name in recipe_names() if task_of(small_recipe(name).model).output == "sentence"
]
NUM = 1000


def trained(name: str) -> TrainedModel:
    words = Tokenizer.words([" ".join("abcdefg")], min_count=1, lowercase=True)
    features = FeatureRef("store", "snapshot", '{"backbone": "none"}', DIM)
    data = DataRef("corpus", "hash", (features,))
    return TrainedModel(make_generator(name), Vocabs(words, words), small_recipe(name), data, 1)


def rows(model: TrainedModel) -> list[Row]:
    rng = np.random.default_rng(1)
    shape = {"pooled": (DIM,), "grid": (NUM_CELLS, DIM), "nothing": ()}[model.task.visual_input]
    return [
        Row(
            rng.normal(0, 2, (rng.integers(1, 9), *shape)).astype(np.float32) if shape else None,
            rng.integers(4, SOURCE_VOCABULARY, rng.integers(1, 9)).tolist()
            if model.task.has_source
            else (),
        )
        for _ in range(NUM)
    ]


@pytest.mark.parametrize("name", [name for name in SENTENCES if name != "template"])
def test_greedy_sentences_are_the_same(name: str, tmp_path: Path) -> None:
    model = trained(name)
    export_onnx(model, tmp_path / "onnx")
    generator = OnnxGenerator(tmp_path / "onnx")
    examples = rows(model)
    search = model.recipe.search
    found = beam(
        model.model,  # type: ignore[arg-type]
        make_batch(examples, sentences=True),
        1,
        search.max_tokens,
        search.length_penalty,
    )
    sentences = [list(hypotheses[0].token_ids) for hypotheses in found]
    assert [generator(row.features, row.source) for row in examples] == sentences
    assert len({tuple(sentence) for sentence in sentences}) > 5


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--to onnx: not for template: its state has"):
        export_onnx(trained("template"), tmp_path / "onnx")
