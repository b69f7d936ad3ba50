"""Data sets of the `datasets` library that the tests make."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.hf import import_hf


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def picture(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def questions(*values: int) -> datasets.Dataset:
    """Questions about pictures of these values."""
    pictures = [{"bytes": picture(value), "path": None} for value in values]
    num = len(values)
    rows = {
        "image": pictures,
        "question": [f"What {n} ?" for n in range(num)],
        "answers": [["dog", "a dog"]] * num,
    }
    answers = datasets.Sequence(datasets.Value("string"))
    return datasets.Dataset.from_dict(
        rows,
        datasets.Features(
            image=datasets.Image(), question=datasets.Value("string"), answers=answers
        ),
    )


@pytest.mark.parametrize("form", ["save_to_disk", "Parquet shards"])
def test_pictures_are_written_to_the_corpus_once(form: str, tmp_path: Path) -> None:
    parts = datasets.DatasetDict(train=questions(0, 0, 1, 2), validation=questions(7, 8, 9))
    folder = tmp_path / "data"
    if form == "save_to_disk":
        parts.save_to_disk(folder)
    else:
        folder.mkdir()
        parts["train"].to_parquet(folder / "train-00000-of-00001.parquet")
        parts["validation"].to_parquet(folder / "validation-00000-of-00001.parquet")
    report = import_hf(folder, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.counts() == {"train": 4, "val": 3}
    items = corpus.items()
    assert [(tmp_path / "corpus" / item.uri).read_bytes() for item in items] == [
        picture(value) for value in (0, 1, 2, 7, 8, 9)
    ]
    assert {item.kind for item in items} == {"image"} and items[0].uri.endswith(".png")
    assert corpus.examples()[1] == Example(
        "train:2", "train", items[0].key, "What 1 ?", ("dog", "a dog")
    )
    assert report.missing == ()
    assert any("questions (file = image, source = question" in note for note in report.notes)


def test_names_of_labels_replace_their_numbers(tmp_path: Path) -> None:
    rows = {"text": ["a film", "no film", "not labelled"], "label": [1, 0, -1]}
    label = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(text=datasets.Value("string"), label=label)
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "data")
    report = import_hf(tmp_path / "data", tmp_path / "corpus", val_share=0, test_share=0)
    assert [(e.source, e.targets) for e in Corpus(tmp_path / "corpus").examples()] == [
        ("a film", ("pos",)),
        ("no film", ("neg",)),
    ]
    assert report.left_out == {"no label": 1}


def test_translations_are_columns_by_their_language(tmp_path: Path) -> None:
    rows = {"translation": [{"en": "a dog", "fr": "un chien"}]}
    translation = datasets.Translation(languages=("en", "fr"))
    features = datasets.Features(translation=translation)
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "a", num_shards=1)
    text = datasets.Value("string")
    fields = datasets.Features(translation={"en": text, "fr": text})
    datasets.Dataset.from_dict(rows, fields).to_parquet(tmp_path / "b.parquet")
    columns = ["source=translation.en", "target=translation.fr"]
    for source in ("a", "b.parquet"):
        import_hf(tmp_path / source, tmp_path / "corpus", column=columns)
        (example,) = Corpus(tmp_path / "corpus").examples()
        assert (example.source, example.targets) == ("a dog", ("un chien",))


def test_a_picture_that_is_none_becomes_an_item_that_the_decoder_rejects(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": b"no picture", "path": "a.jpg"}], "text": ["A dog ."]}
    features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "data")
    import_hf(tmp_path / "data", tmp_path / "corpus")
    (item,) = Corpus(tmp_path / "corpus").items()
    assert item.uri.endswith(".jpg")


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_text("PAR")
    for source, message in [
        (tmp_path / "empty", r"has neither dataset_dict.json .*`import table`"),
        (tmp_path / "bad.parquet", "no data set that can be read"),
        (Path("someone/no-data-set"), "someone/no-data-set: no data set that can be read"),
    ]:
        with pytest.raises(UserError, match=message) as raised:
            import_hf(source, tmp_path / "corpus")
        assert "\n" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'intertitle\[hf\]'"):
        import_hf(tmp_path / "empty", tmp_path / "corpus")


def test_a_picture_of_several_splits_stays_in_all(tmp_path: Path) -> None:
    def captions(*values: int) -> datasets.Dataset:
        pictures = [{"bytes": picture(value), "path": None} for value in values]
        features = datasets.Features(image=datasets.Image(), text=datasets.Value("string"))
        return datasets.Dataset.from_dict(
            {"image": pictures, "text": ["a"] * len(values)}, features
        )

    datasets.DatasetDict(train=captions(1, 2), test=captions(2, 3)).save_to_disk(tmp_path / "data")
    report = import_hf(tmp_path / "data", tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.counts() == {"train": 2, "test": 2} and corpus.num_items() == 3
    assert any("1 files are in several splits; `intertitle check" in note for note in report.notes)


def test_a_data_set_names_no_files_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "private.jpg").write_bytes(picture(1))
    for name in ("../private.jpg", str(tmp_path / "private.jpg")):
        rows = {"image": [name], "text": ["A dog ."]}
        (tmp_path / "data").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "data" / "train.parquet")
        with pytest.raises(UserError, match=r"private\.jpg: allowed: files below"):
            import_hf(tmp_path / "data", tmp_path / "corpus")
