"""Single files, here and now, become what `precompute` made of a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.files import features_of_file, kind_of
from pipeline.store import FeatureStore


def test_a_file_has_the_features_that_the_store_has(clips: Path, clip_features: Path) -> None:
    store = FeatureStore(clip_features)
    features = features_of_file(store.snapshot.fingerprint.features_json())
    for item in Corpus(clips).items()[:2]:
        assert np.array_equal(features(clips / item.uri), store.features(item.key))


def test_a_file_that_cannot_be_decoded_is_named(clip_features: Path, tmp_path: Path) -> None:
    features = features_of_file(FeatureStore(clip_features).snapshot.fingerprint.features_json())
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    for name in ("text.mp4", "none.mp4"):
        with pytest.raises(UserError, match=name):
            features(tmp_path / name)


def test_features_of_another_make_are_refused(clip_features: Path) -> None:
    made_with = FeatureStore(clip_features).snapshot.fingerprint.features_json()
    with pytest.raises(UserError, match="backbone: the model saw features of"):
        features_of_file(made_with.replace("float32", "float16"))


def test_the_ending_says_what_a_file_is() -> None:
    assert kind_of(Path("a.MP4")) == "video" and kind_of(Path("b.c.jpeg")) == "image"
    with pytest.raises(UserError, match=r"a\.txt: ending '\.txt', allowed: \.avi"):
        kind_of(Path("a.txt"))
