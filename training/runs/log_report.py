"""Log what a run shows of its result: a page, and the description with pictures."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

from intertitle.training.data.data_ref import Data
from intertitle.training.data.item_views import thumbnails_of
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.plots import learning_curves
from intertitle.training.reports.run_report.page import render, shown_items
from intertitle.training.reports.run_report.summary import describe_run, described_samples
from intertitle.training.tracking.run import TrackedRun

REPORT_FILE = "report.html"
# Folder of the pictures of the description.
_PICTURES = "description"


def log_report(
    run: TrackedRun,
    data: Data,
    evaluation: Evaluation,
    record: EvaluationRecord,
    params: Mapping[str, object],
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
) -> None:
    """Log the learning curves, the page and the description of a training.

    Args:
        run: run to log to.
        data: data that the model was measured on.
        evaluation: evaluation of the model.
        record: the same evaluation as it is stored.
        params: parameters of the run.
        history: figures of the epochs.
        best_epoch: number of the epoch whose weights are kept, from 1.
    """
    curves = None
    if history:
        figure, file = learning_curves(history, best_epoch), io.BytesIO()
        run.figure("learning_curves", figure)
        figure.savefig(file)
        curves = file.getvalue()
    evaluated = EvaluatedRun(run.ref, {name: str(v) for name, v in params.items()}, record)
    samples = described_samples(evaluation)
    described = {sample.item_key for sample in samples if sample.item_key is not None}
    keys = described | shown_items(evaluated)
    pictures = thumbnails_of(data.corpus, keys) if keys else {}
    run.text(REPORT_FILE, render(evaluated, pictures, curves))
    urls = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, key in enumerate(sorted(described & pictures.keys()), start=1):
            (Path(folder) / f"{number}.jpg").write_bytes(pictures[key])
            # Relative to MLflow's page.
            query = urlencode({"path": f"{_PICTURES}/{number}.jpg", "run_uuid": run.run_id})
            urls[key] = f"get-artifact?{query}"
        if urls:
            run.folder(Path(folder), _PICTURES)
    # MLflow shows this tag as the description of the run.
    run.tags({"mlflow.note.content": describe_run(run.name, evaluation, urls)})
