"""Every persisted format has its version, and a file of another version is refused in one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from intertitle.jobs.retraining.config import RETRAINING_FORMAT, load_config
from intertitle.jobs.serving.records.feedback import FEEDBACK_FORMAT, FeedbackCorpus
from intertitle.jobs.serving.schemas import Feedback
from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import CORPUS_FORMAT, Corpus, Example, Item, write_corpus
from intertitle.pipeline.corpus import name_target_language as name_language
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.shards import (
    SHARD_FORMAT,
    ItemFeatures,
    open_shard,
    write_shard,
)
from intertitle.pipeline.feature_store.snapshot import (
    SHARD_VERSION_FIELD,
    SNAPSHOT_FORMAT,
    Snapshot,
    load_snapshot,
    table_of,
    write_snapshot,
)
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.manifest_folder import read_folder, write_folder
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.record import RECORD_FORMAT, read_record, write_record
from intertitle.training.export.onnx_export import ONNX_FORMAT
from intertitle.training.inference.batch_inference import MANIFEST as PREDICTIONS_MANIFEST
from intertitle.training.inference.batch_inference import _claim
from intertitle.training.inference.model_bundle import MODEL_FORMAT, TrainedModel
from intertitle.training.inference.prediction_io import (
    PREDICTIONS_FORMAT,
    Prediction,
    read_predictions,
    write_predictions,
)
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.runs.job_artifact import JOB_FORMAT, job_json, parse_job
from intertitle.training.tracking.outbox.outbox import (
    HEADER,
    JOURNAL_FORMAT,
    _open_header,
    _read_header,
)
from intertitle.training.tracking.store.client import RunRef
from intertitle.training.trainer.checkpoint import (
    CHECKPOINT_FORMAT,
    Checkpoint,
    Checkpoints,
    Progress,
)
from intertitle.training.trainer.workers.ray_trainer import TrainingJob
from tests.jobs.serving.tiny_models import described
from tests.training.conftest import small_recipe

ROOT = Path(__file__).parents[1]
CLIP = Item("a", "a.mp4", "video")
RETRAINING = """
version = 1
model = "clips"
[data]
corpus = "corpus"
[train]
recipe = "s2vt"
checkpoints = "checkpoints"
[frozen]
corpus = "frozen"
"""


@dataclass(frozen=True)
class Case:
    """One kind of file.

    Attributes:
        format: its format.
        file: name of the file that has the version.
        write: writes it, and what belongs to it, to a folder.
        read: reads it from the folder.
        version: returns the version that the file has; with a number, changes it to that first.
        where: what the error names besides the file.
    """

    format: FormatVersion
    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    version: Callable[[Path, int | None], object]
    where: str = ""


def json_version(file: Path, new: int | None) -> object:
    values = json.loads(file.read_text())
    if new is not None:
        file.write_text(json.dumps(values | {VERSION_FIELD: new}))
    return values[VERSION_FIELD]


def parquet_version(file: Path, new: int | None, field: str = VERSION_FIELD) -> object:
    table = pq.read_table(file)
    metadata = dict(table.schema.metadata)
    if new is not None:
        changed = {**metadata, field.encode(): str(new).encode()}
        pq.write_table(table.replace_schema_metadata(changed), file)
    return int(metadata[field.encode()])


def arrow_version(file: Path, new: int | None) -> object:
    table = pa.ipc.open_file(file.read_bytes()).read_all()
    metadata = dict(table.schema.metadata)
    if new is not None:
        changed = {**metadata, VERSION_FIELD.encode(): str(new).encode()}
        with pa.ipc.new_file(file, table.schema.with_metadata(changed)) as writer:
            writer.write_table(table.replace_schema_metadata(changed))
    return int(metadata[VERSION_FIELD.encode()])


def text_version(file: Path, new: int | None) -> object:
    """The version of lines of JSON, all of which have it, and of TOML."""
    text = file.read_text()
    pattern = r'("?(?:format_)?version"? ?[:=] )(\d+)'
    if new is not None:
        file.write_text(re.sub(pattern, rf"\g<1>{new}", text))
    (version,) = {int(version) for _, version in re.findall(pattern, text)}
    return version


def a_corpus(folder: Path) -> None:
    write_corpus(folder, [CLIP], [Example("1", "train", "a", None, ("a dog",))])


def a_snapshot(folder: Path) -> None:
    spec = backbone_spec("efficientnet_lite0")
    fingerprint = make_fingerprint(spec, Uniform(2), "webdataset", "float32")
    write_snapshot(as_path(folder / "a.parquet"), Snapshot(fingerprint, {}, table_of([])))


def a_shard(folder: Path) -> None:
    rows = [ItemFeatures("a", np.zeros(2), np.zeros((2, 3), np.float32))]
    write_shard(folder / "a.arrow", "arrow", rows, (3,))


def a_model() -> TrainedModel:
    recipe = small_recipe("char_lm")
    vocabularies, data = Vocabs(Tokenizer.characters(["a dog"], min_count=1)), DataRef("c", "f")
    model = build_model(recipe.model, sizes_of(vocabularies, data))
    return TrainedModel(model.eval(), vocabularies, recipe, data, step=7)


def a_job() -> TrainingJob:
    return TrainingJob("run", small_recipe("char_lm"), "{}", DataRef("c", "f"), Path("c"), 1)


def a_record(folder: Path) -> None:
    write_record(folder, Evaluation("val", (), 0, 0, Scores({}, {}, {})), {"split": "val"})


def a_journal(folder: Path) -> None:
    _open_header(folder, RunRef("0", "run", "sqlite://")).close()


def a_judgement(folder: Path) -> None:
    feedback = Feedback(run_id="0", answer="a dog", good=True, text="ein Hund")
    FeedbackCorpus(folder).add(described("m", has_source=True), feedback, None)


CASES = {
    "items of a corpus": Case(CORPUS_FORMAT, "items.parquet", a_corpus, Corpus, parquet_version),
    "examples of a corpus": Case(
        CORPUS_FORMAT, "examples.parquet", a_corpus, Corpus, parquet_version
    ),
    "examples in a language": Case(
        CORPUS_FORMAT,
        "examples.parquet",
        lambda folder: (a_corpus(folder), name_language(folder, "en")),
        Corpus,
        parquet_version,
    ),
    "snapshot": Case(
        SNAPSHOT_FORMAT,
        "a.parquet",
        a_snapshot,
        lambda folder: load_snapshot(as_path(folder / "a.parquet")),
        parquet_version,
    ),
    "shards of a snapshot": Case(
        SHARD_FORMAT,
        "a.parquet",
        a_snapshot,
        lambda folder: load_snapshot(as_path(folder / "a.parquet")),
        lambda file, new: parquet_version(file, new, SHARD_VERSION_FIELD),
    ),
    "shard": Case(
        SHARD_FORMAT,
        "a.arrow",
        a_shard,
        lambda folder: open_shard(folder / "a.arrow", "arrow"),
        arrow_version,
    ),
    "checkpoint": Case(
        CHECKPOINT_FORMAT,
        "checkpoint_1/manifest.json",
        lambda folder: Checkpoint(Progress(), {"w": torch.zeros(1)}).write(folder / "checkpoint_1"),
        # One of another version is not taken for a damaged one.
        lambda folder: Checkpoints(folder).newest_valid(),
        json_version,
    ),
    "training job": Case(
        JOB_FORMAT,
        "job.json",
        lambda folder: (folder / "job.json").write_text(job_json(a_job())),
        lambda folder: parse_job(
            (folder / "job.json").read_text(), "run", str(folder / "job.json")
        ),
        json_version,
    ),
    "model": Case(
        MODEL_FORMAT,
        "model/manifest.json",
        lambda folder: a_model().write(folder / "model"),
        lambda folder: TrainedModel.read(folder / "model"),
        json_version,
    ),
    "model of MLflow": Case(
        MODEL_FORMAT,
        "model/manifest.json",
        lambda folder: write_mlflow_model(a_model(), folder / "model"),
        lambda folder: mlflow.pyfunc.load_model(str(folder / "model")),
        json_version,
    ),
    "ONNX export": Case(
        ONNX_FORMAT,
        "onnx/manifest.json",
        lambda folder: write_folder(folder / "onnx", {"a": b""}, ONNX_FORMAT),
        lambda folder: read_folder(folder / "onnx", ONNX_FORMAT),
        json_version,
    ),
    "predictions": Case(
        PREDICTIONS_FORMAT,
        "a.jsonl",
        lambda folder: write_predictions(folder / "a.jsonl", 2 * [Prediction("a", 1, 0.5, "b")]),
        lambda folder: read_predictions(folder / "a.jsonl", scored=True),
        text_version,
        ": line 1",
    ),
    "parts of predictions": Case(
        PREDICTIONS_FORMAT,
        f"parts/{PREDICTIONS_MANIFEST}",
        lambda folder: _claim(folder / "parts", {VERSION_FIELD: 1, "runs": []}),
        lambda folder: (
            (folder / "parts" / "part-00000.parquet").touch(),
            _claim(folder / "parts", {VERSION_FIELD: 1, "runs": []}),
        ),
        json_version,
    ),
    "evaluation": Case(RECORD_FORMAT, "how.json", a_record, read_record, json_version),
    "journal": Case(
        JOURNAL_FORMAT,
        HEADER,
        a_journal,
        lambda folder: _read_header(folder / HEADER),
        json_version,
    ),
    "feedback": Case(FEEDBACK_FORMAT, "feedback.jsonl", a_judgement, a_judgement, text_version),
    "retraining": Case(
        RETRAINING_FORMAT,
        "a.toml",
        lambda folder: (folder / "a.toml").write_text(RETRAINING),
        lambda folder: load_config(folder / "a.toml"),
        text_version,
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_file_of_another_version_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    case = CASES[kind]
    case.write(tmp_path)
    file = tmp_path / case.file
    assert case.version(file, None) == case.format.version
    case.read(tmp_path)
    case.version(file, 999)
    with pytest.raises(UserError) as refused:
        case.read(tmp_path)
    assert str(refused.value) == (
        f"{file}{case.where}: version 999 of the {case.format.name} format, "
        f"this program reads version {case.format.version}"
    )
    assert file.is_file()


@pytest.mark.parametrize(
    "format",
    sorted({case.format for case in CASES.values()}, key=str),
    ids=lambda format: format.name,
)
def test_the_document_has_the_current_version(format: FormatVersion) -> None:
    document = (ROOT / "docs" / "formats.md").read_text("utf-8")
    (row,) = [line for line in document.splitlines() if line.startswith(f"| {format.name} |")]
    assert row.split(" | ")[1] == str(format.version)
