"""`intertitle import-features`: a model of imported features predicts a corpus, but no files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from intertitle.pipeline.corpus import Corpus
from tests.jobs.test_cli import TINY


def test_a_model_of_imported_features_predicts_a_corpus_but_no_files(
    intertitle: Callable[..., Any],
    ray_cluster: None,
    clips: Path,
    tmp_path: Path,
    trains_in_process: None,
) -> None:
    corpus = Corpus(clips)
    items = corpus.items()
    rng = np.random.default_rng(0)
    bad = items[-1].key
    values = {item.key: rng.normal(size=(4, 6)) for item in items}
    np.savez(tmp_path / "clip.npz", **{**values, bad: np.full((4, 6), np.nan)})
    store = tmp_path / "store"
    named = ["--corpus", clips, "--network", "clip-vit"]
    made = intertitle("import-features", tmp_path / "clip.npz", *named, "--out", store, "--json")
    assert made.code == 0, made.err
    result = json.loads(made.out.splitlines()[-1])
    assert (result["stored"], result["quarantined"]) == (len(items) - 1, 1)
    assert f"quarantined {bad}: not_finite: {bad}: 24 of 24 values" in made.out
    strict = ["--out", tmp_path / "strict", "--allow-failed", "0"]
    assert intertitle("import-features", tmp_path / "clip.npz", *named, *strict).code == 3

    tracking = f"--tracking-uri=sqlite:///{tmp_path}/mlflow.db"
    data = ["--corpus", clips, "--features", store]
    kept = ["--checkpoints", tmp_path / "checkpoints", "--name", "tiny"]
    assert intertitle("train", "s2vt", *data, *kept, *TINY, tracking).code == 0
    predicted = intertitle("predict", "tiny", *data, "--json", tracking)
    assert predicted.code == 0
    answer = json.loads(predicted.out.splitlines()[-1])
    assert (len(answer["results"]), answer["left_out"]) == (len(items) - 1, 1)

    refused = intertitle("predict", "tiny", corpus.locate(items[0]), tracking)
    assert refused.code == 2
    (line,) = refused.err.splitlines()
    assert line.startswith("intertitle: external:clip-vit: imported features, so those of a file")
    sheet = ["--corpus", clips, "--contact-sheet", tmp_path / "sheet.png"]
    refused = intertitle("inspect", store, *sheet)
    assert (refused.code, "whose frames are not known" in refused.err) == (2, True)
