"""Where a model looked, as a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from pipeline.backbone import backbone_spec
from pipeline.errors import UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.sampling import Uniform
from training.data.source import DataSource, FeatureSource
from training.data.tokenizer import Tokenizer
from training.data.vocabularies import Vocabularies
from training.explaining import END, explain, look_again
from training.models.build import build_model
from training.prediction import predict
from training.tracking.attention_plot import attention_over_frames, attention_over_text
from training.trained import TrainedModel, ensemble_of, sizes_of

from .conftest import small_recipe
from .evaluation.generators import batch_of, make_generator, rows_for

WORDS = Vocabularies(
    Tokenizer.words(["a red ball here"], min_count=1, lowercase=True),
    Tokenizer.words(["ein roter Ball da"], min_count=1, lowercase=True),
)


def make(recipe: str, data: DataSource, **sizes: int) -> TrainedModel:
    torch.manual_seed(0)
    made = small_recipe(recipe, *(f"model.{name}={size}" for name, size in sizes.items()))
    reads = made.model.kind == "seq2seq"
    words = WORDS if reads else replace(WORDS, source=None)
    model = build_model(made.model, sizes_of(words, data))
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return TrainedModel(model.eval(), words, made, data, step=1)


@pytest.fixture
def translator() -> TrainedModel:
    return make("seq2seq_attention", DataSource("corpus", "0"))


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_where_a_model_looked_is_told_for_each_word_and_the_end() -> None:
    for recipe in ("attend_and_tell", "seq2seq_attention"):
        model = make_generator(recipe)
        batch = batch_of(rows_for(model)[:1])
        weights = look_again(model, batch, (4, 5, 6))
        assert weights is not None
        assert weights.shape[0] == 4
        assert weights.sum(1) == pytest.approx(1, abs=1e-5)
        shorter = look_again(model, batch, (4, 5))
        assert shorter is not None
        assert shorter == pytest.approx(weights[:3], abs=1e-6)
    model = make_generator("s2vt")
    assert look_again(model, batch_of(rows_for(model)[:1]), ()) is None


def test_a_translation_is_drawn_over_its_source(translator: TrainedModel) -> None:
    told, figure = explain(translator, text="ein Ball da")
    assert told == predict(translator, texts=["ein Ball da"])[0]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ein", "ball", "da"]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [*told.text.split(), END]
    (drawn,) = axes.images
    assert drawn.get_array().shape == (len(rows), 3)


def test_an_ensemble_is_drawn_and_a_source_of_no_words(translator: TrainedModel) -> None:
    other = make("seq2seq_attention", translator.data, hidden_size=10)
    _, figure = explain(ensemble_of({"a": translator, "b": other}), text="")
    assert figure.axes[0].images[0].get_array().shape[1] == 1


def test_a_model_without_attention_is_refused(translator: TrainedModel) -> None:
    blind = make("seq2seq_forward", translator.data)
    with pytest.raises(UserError, match="--explain: of no use to seq2seq_forward, which has no"):
        explain(blind, text="ein Ball")


def test_a_photograph_is_drawn_for_each_word(tmp_path: Path, onnx_cache: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    spec = backbone_spec("efficientnet_lite0", "grid")
    made = make_fingerprint(spec, Uniform(1), "arrow", "float32").features_json()
    data = DataSource("corpus", "0", FeatureSource("features", "0", made, spec.shape[-1]))
    captioner = make("attend_and_tell", data)
    told, figure = explain(captioner, photo)
    assert told.text == predict(captioner, [photo])[0].text
    assert titles(figure) == [*told.text.split(), END]
    figure.savefig(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").width > 100


def random_weights(*shape: int) -> Any:
    weights = np.random.default_rng(0).random(shape).astype(np.float32)
    return weights / weights.reshape(shape[0], -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


def test_a_film_has_a_row_a_word_and_the_frames_that_were_looked_at_most() -> None:
    frames = np.zeros((12, 8, 8, 3), np.uint8)
    weights = random_weights(3, 12, 4)
    weights[:, 5] += 10
    weights /= weights.sum((1, 2), keepdims=True)
    figure = attention_over_frames(frames, ["a", "dog", END], weights)
    assert len(figure.axes) == 3 * 8
    assert sum(title.startswith("a ") for title in titles(figure)) == 8
    assert max(int(title.split()[-2]) for title in titles(figure)) > 80


def test_what_was_looked_at_is_not_darkened() -> None:
    weights = np.zeros((1, 1, 9), np.float32)
    weights[0, 0, 4] = 1
    figure = attention_over_frames(np.zeros((1, 6, 6, 3), np.uint8), ["dog"], weights)
    _, veil = figure.axes[0].images
    alpha = np.asarray(veil.get_alpha())
    assert alpha[1, 1] == 0
    assert set(np.delete(alpha.ravel(), 4).tolist()) == {0.75}


def test_over_text_a_word_is_a_row() -> None:
    weights = random_weights(2, 3)
    figure = attention_over_text(["ein", "Ball", "da"], ["ball", END], weights)
    assert np.allclose(figure.axes[0].images[0].get_array(), weights)
