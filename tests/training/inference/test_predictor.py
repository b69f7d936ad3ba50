"""Sentences for files that no corpus holds."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import FileError, UserError
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.evaluation.answers import answer_examples
from intertitle.training.inference import predictor
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Failure, Prediction
from intertitle.training.inference.predictor import iter_predictions, predict
from intertitle.training.models.build import task_of
from tests.training.conftest import make_loop, open_data_ref, small_recipe, split_of


@pytest.fixture(scope="module")
def captioner(clips: Path, clip_features: Path) -> TrainedModel:
    """Two steps old."""
    data = open_data_ref(clips, clip_features, "pooled")
    recipe = small_recipe("s2vt", "training.max_steps=2")
    words = build_vocabs(recipe, *texts_of(Corpus(clips), "train", task_of(recipe.model)))
    loop = make_loop(data, words, recipe)
    loop.run()
    return TrainedModel(loop.model.eval(), words, recipe, data, step=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_file_gets_the_prediction_of_its_corpus_item(
    captioner: TrainedModel, clips: Path
) -> None:
    dataset = split_of(captioner.data, "val", captioner.vocabularies)
    items = {item.key: item for item in Corpus(clips).items()}
    item = items[str(dataset.examples[0].item_key)]
    (expected,) = answer_examples(captioner.model, dataset, [0], captioner.recipe.search)
    (caption,) = predict(captioner, [Corpus(clips).locate(item)])
    assert (caption.text,) == expected.texts
    assert caption.score == pytest.approx(expected.score, abs=1e-3)


def test_predictions_come_in_the_order_of_the_files(
    captioner: TrainedModel, clips: Path, photo: Path
) -> None:
    corpus = Corpus(clips)
    film = corpus.locate(corpus.items()[0])
    told: list[tuple[int, int]] = []
    captions = predict(
        captioner.with_search(beam_size=1),
        [photo, film],
        on_progress=lambda *done: told.append(done),
    )
    assert [caption.id for caption in captions] == [str(photo), str(film)]
    assert told == [(2, 2)]
    assert captions[1] == predict(captioner.with_search(beam_size=1), [film])[0]
    assert all(caption.score < 0 for caption in captions)


@pytest.mark.parametrize(
    ("name", "content", "error", "named"),
    [
        ("film.mp4", b"not a film", "unreadable", "film.mp4"),
        ("photo.jpg", b"", "empty", "photo.jpg: has no bytes"),
        ("letter.doc", b"Dear", "unreadable", r"letter\.doc: ending '\.doc', allowed: .*\.mp4"),
        ("gone.mp4", None, "missing", "gone.mp4: No such file"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_refused_by_name(
    captioner: TrainedModel,
    tmp_path: Path,
    name: str,
    content: bytes | None,
    error: str,
    named: str,
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=named) as refused:
        predict(captioner, [tmp_path / name])
    assert refused.value.error == error


def test_an_unreadable_file_does_not_change_other_predictions(
    captioner: TrainedModel,
    clips: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Files are looked at three at a time; of the second three none can be read.
    monkeypatch.setattr(predictor, "ANSWER_BATCH", 3)
    drawing = captioner.with_search(method="sample", seed=3)
    film = Corpus(clips).locate(Corpus(clips).items()[0])
    gone = [tmp_path / f"{n}.mp4" for n in range(4)]
    done: list[tuple[int, int]] = []
    files = [photo, gone[0], photo, *gone[1:], film]
    told = list(
        iter_predictions(drawing, files, nbest=2, on_progress=lambda *so_far: done.append(so_far))
    )
    assert done == [(3, 7), (6, 7), (7, 7)]
    failed = [one for one in told if isinstance(one, Failure)]
    assert [one.input for one in failed] == [str(file) for file in gone]
    # In the order asked, and as if the others had been read too.
    whole = predict(drawing, [photo, photo, photo, photo, photo, photo, film], nbest=2)
    read = [one for one in told if isinstance(one, Prediction)]
    assert [(one.id, one.rank, one.text) for one in read] == [
        (one.id, one.rank, one.text) for one in (*whole[:2], *whole[4:6], *whole[12:])
    ]
    assert told[2] == failed[0]


def test_a_model_of_features_that_cannot_be_made_here_is_refused(
    captioner: TrainedModel, things: DataRef, photo: Path
) -> None:
    with pytest.raises(UserError, match="synthetic"):
        predict(replace(captioner, data=things), [photo])


def test_what_a_task_does_not_read_or_lacks_is_refused(
    captioner: TrainedModel, photo: Path
) -> None:
    with pytest.raises(UserError, match="--text or --question: of no use to s2vt"):
        predict(captioner, [photo], ["a dog"])
    with pytest.raises(UserError, match="FILE: missing, and s2vt reads it"):
        predict(captioner)
