"""A loaded model's answers to the inputs of several callers, in the process that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intertitle.jobs.serving.config import LimitConfig
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models import predictor as module
from intertitle.jobs.serving.models.predictor import Predictor, Query
from intertitle.jobs.serving.schemas import Options, Result
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import load_trained
from intertitle.training.search.generate import generate
from intertitle.training.tracking.store.client import resolve_run
from tests.jobs.serving.tiny_models import GERMAN, png, visual_data
from tests.training.conftest import small_recipe, untrained


@pytest.fixture(scope="module")
def translator(store: str) -> Predictor:
    return Predictor(load_trained(resolve_run("translator", store)), LimitConfig())


def test_a_defect_costs_the_callers_with_the_same_settings_alone(
    translator: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: Any) -> Any:
        if arguments[3].method == "sample":
            raise RuntimeError("a defect")
        return generate(*arguments)

    monkeypatch.setattr(module, "generate", failing)
    options = (Options(), Options(sample=True), Options(beam=2))
    queries = [Query("", GERMAN[0], None, 0, each) for each in options]
    good, bad, other = translator.answer([translator.prepare(query) for query in queries])
    assert isinstance(good, Result) and isinstance(other, Result)
    assert isinstance(bad, ApiError) and (bad.status, bad.value) == (500, "RuntimeError")
    assert "a defect" in caplog.text


def test_a_label_has_the_attention_of_each_hop(onnx_cache: Path) -> None:
    answers = Vocabs(
        Tokenizer.labels(["red", "blue", "green"], size=None),
        Tokenizer.words(["what colour is this"], min_count=1, lowercase=True),
    )
    trained = untrained(small_recipe("vqa_attention"), visual_data("grid"), answers)
    predictor = Predictor(trained, LimitConfig())
    query = Query("a.png", "what colour is this", png(), 0, Options(attention=True))
    (result,) = predictor.answer([predictor.prepare(query)])
    assert isinstance(result, Result) and result.attention is not None
    assert result.attention.tokens == ["hop 1", f"hop 2: {result.text}"]
    frames, rows, columns = result.attention.shape
    assert np.shape(result.attention.weights) == (2, frames * rows * columns)
    assert np.sum(result.attention.weights, 1) == pytest.approx(1, abs=1e-2)


def test_no_more_hypotheses_than_allowed_are_computed_at_a_time(
    translator: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def counted(*arguments: Any) -> Any:
        sizes.append(len(arguments[1]))
        return generate(*arguments)

    queries = [Query("", text, None, n, Options(beam=3)) for n, text in enumerate(GERMAN[:3] * 3)]
    prepared = [translator.prepare(query) for query in queries]
    expected = translator.answer(prepared)
    monkeypatch.setattr(module, "generate", counted)
    monkeypatch.setattr(translator, "_max_hypotheses", 13)
    assert translator.answer(prepared) == expected
    assert sizes == [4, 4, 1]
