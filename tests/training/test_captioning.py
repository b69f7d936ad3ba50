"""Sentences for files that no corpus holds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from training.captioning import caption_files
from training.checkpoint import TrainedModel
from training.data.dataset import Dataset, DataSource, describe_data, training_sentences
from training.data.tokenizer import WordTokenizer
from training.evaluation.evaluate import search_examples
from training.loop import Ranks, TrainingLoop

from .conftest import small_recipe


@pytest.fixture(scope="module")
def captioner(clips: Path, clip_features: Path) -> TrainedModel:
    """Two steps old."""
    data = describe_data(clips, clip_features)
    tokenizer = WordTokenizer.train(training_sentences(clips, "train"), 1)
    recipe = small_recipe("s2vt", "training.max_steps=2")
    train, val = (Dataset(data, split, tokenizer, 8) for split in ("train", "val"))
    device = torch.device("cpu")
    loop = TrainingLoop(recipe, tokenizer, train, val, data.feature_dim, device, Ranks())
    loop.run()
    return TrainedModel(loop.model.eval(), tokenizer, recipe, data, step=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_file_is_told_what_its_item_of_the_corpus_is_told(
    captioner: TrainedModel, clips: Path
) -> None:
    dataset = Dataset(captioner.data, "val", captioner.tokenizer, 8)
    items = {item.key: item for item in Corpus(clips).items()}
    item = items[str(dataset.examples[0].item_key)]
    (expected,) = search_examples(captioner.model, dataset, [0], captioner.recipe.search)
    (caption,) = caption_files(captioner, [Corpus(clips).locate(item)])
    assert caption.text == captioner.tokenizer.decode(expected.token_ids)
    assert caption.score == pytest.approx(expected.score, abs=1e-3)


def test_videos_and_photographs_are_told_in_the_order_given(
    captioner: TrainedModel, clips: Path, photo: Path
) -> None:
    corpus = Corpus(clips)
    film = corpus.locate(corpus.items()[0])
    told: list[tuple[int, int]] = []
    captions = caption_files(captioner, [photo, film], 1, lambda *done: told.append(done))
    assert [caption.file for caption in captions] == [photo, film]
    assert told == [(1, 2), (2, 2)]
    assert captions[1] == caption_files(captioner, [film], 1)[0]
    assert all(caption.score < 0 for caption in captions)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("film.mp4", b"not a film", "film.mp4"),
        ("photo.jpg", b"", "photo.jpg: has no bytes"),
        ("letter.doc", b"Dear", r"letter\.doc: ending '\.doc', allowed: .*\.mp4"),
        ("gone.mp4", None, "gone.mp4: No such file"),
    ],
)
def test_a_file_that_cannot_be_seen_is_refused_by_name(
    captioner: TrainedModel, tmp_path: Path, name: str, content: bytes | None, named: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=named):
        caption_files(captioner, [tmp_path / name])


def test_a_model_of_features_that_cannot_be_made_here_is_refused(
    captioner: TrainedModel, things: DataSource, photo: Path
) -> None:
    with pytest.raises(UserError, match="synthetic"):
        caption_files(replace(captioner, data=things), [photo])
