"""A loaded model's answers, in the process that has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intertitle.jobs.serving.config import LimitConfig
from intertitle.jobs.serving.models.predictor import Predictor, Query
from intertitle.jobs.serving.schemas import Options
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from tests.jobs.serving.tiny_models import png, visual_data
from tests.training.conftest import small_recipe, untrained


def test_a_label_has_the_attention_of_each_hop(onnx_cache: Path) -> None:
    answers = Vocabs(
        Tokenizer.labels(["red", "blue", "green"], size=None),
        Tokenizer.words(["what colour is this"], min_count=1, lowercase=True),
    )
    trained = untrained(small_recipe("vqa_attention"), visual_data("grid"), answers)
    predictor = Predictor(trained, LimitConfig())
    query = Query("a.png", "what colour is this", png(), 0, Options(attention=True))
    (result,) = predictor.answer([predictor.prepare(query)])
    assert result.attention.tokens == ["hop 1", f"hop 2: {result.text}"]
    frames, rows, columns = result.attention.shape
    assert np.shape(result.attention.weights) == (2, frames * rows * columns)
    assert np.sum(result.attention.weights, 1) == pytest.approx(1, abs=1e-2)
