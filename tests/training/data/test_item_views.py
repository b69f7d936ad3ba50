"""Features and thumbnails of items and files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import FileError
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.training.data.data_ref import FeatureRef
from intertitle.training.data.item_views import feature_extractor, thumbnails_of


def test_a_file_has_the_features_of_every_store(clips: Path, onnx_cache: Path) -> None:
    spec = backbone_spec("efficientnet_lite0")
    made = make_fingerprint(spec, Uniform(2), "arrow", "float32")
    two, three = (
        FeatureRef("store", "0", replace(made, sampling=sampling).features_json(), made.dim)
        for sampling in ("uniform:2", "uniform:3")
    )
    clip = sorted(clips.rglob("*.mp4"))[0]
    (alone, joined) = (feature_extractor(refs)(clip) for refs in ([two], [two, two]))
    assert joined.shape == (2, 2 * made.dim)
    assert np.array_equal(joined, np.concatenate([alone, alone], -1))
    with pytest.raises(FileError, match="2, 3 frames for the stores"):
        feature_extractor([two, three])(clip)


def test_items_that_can_be_read_have_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 30, 30)).save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    items = [Item(key, f"{key}.png", "image") for key in ("red", "broken", "gone", "other")]
    write_corpus(tmp_path, items, [Example("1", "val", "red", None, ("red",))])
    pictures = thumbnails_of(Corpus(tmp_path), ["red", "broken", "gone", "never heard of"])
    assert pictures.keys() == {"red"}
    assert pictures["red"].startswith(b"\xff\xd8\xff")
