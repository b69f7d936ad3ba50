"""Inputs of a run: parameters, and the data that it trains or is evaluated on.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intertitle.training.tracking.store.client import CUT_MARK, LONG_PARAMS

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_DIGEST, _MAX_PARAM = 36, 6000  # MLflow's own limits, in characters


@dataclass(frozen=True)
class DataInput:
    """Data that a run was trained or evaluated on.

    Attributes:
        name: name, unique in the run.
        source: path or URL of the data.
        digest: full fingerprint; MLflow's dataset shows its first 36 characters, and the tag
            `fingerprint.<name>` holds all of it.
        context: use of the data, for example "training".
        columns: MLflow's type name of each column: "string", "double", ...
        profile: further information, for example the number of examples.
    """

    name: str
    source: str
    digest: str
    context: str
    columns: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, object] = field(default_factory=dict)


def check_inputs(inputs: Sequence[DataInput]) -> None:
    """Check that no two inputs share a name.

    Raises:
        ValueError: two inputs share a name.
    """
    if len({item.name for item in inputs}) < len(inputs):
        raise ValueError(f"inputs share a name: {[item.name for item in inputs]}")


def describe_run(
    client: MlflowClient, run_id: str, params: Mapping[str, object], inputs: Sequence[DataInput]
) -> None:
    """Log the parameters and the data of a run when it starts.

    Args:
        client: MLflow client of the run's store.
        run_id: id of the run.
        params: parameters, not nested. Text is logged unchanged and anything else as JSON. A value
            that is too long for MLflow is truncated, and the full value is stored in an artifact.
        inputs: data of the run, logged as MLflow datasets.

    Raises:
        MlflowException: the store does not answer or refuses the request.
    """
    from mlflow.entities import Param, RunTag

    texts = {key: _param(value) for key, value in params.items()}
    long_texts = {key: value for key, value in texts.items() if len(value) > _MAX_PARAM}
    truncated = {
        key: value[: _MAX_PARAM - len(CUT_MARK)] + CUT_MARK for key, value in long_texts.items()
    }
    client.log_batch(
        run_id,
        params=[Param(*param) for param in (texts | truncated).items()],
        tags=[RunTag(f"fingerprint.{item.name}", item.digest) for item in inputs],
    )
    if long_texts:
        client.log_dict(run_id, long_texts, LONG_PARAMS)
    if inputs:
        client.log_inputs(run_id, [_dataset(item) for item in inputs])


def _dataset(data_input: DataInput) -> Any:
    """Return the MLflow entity of an input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme, is_url, _ = data_input.source.partition("://")
    uri = data_input.source if is_url else str(Path(data_input.source).absolute())
    columns = [{"name": name, "type": kind} for name, kind in data_input.columns.items()]
    dataset = Dataset(
        name=data_input.name,
        digest=data_input.digest[:_MAX_DIGEST],
        source_type=scheme if is_url else "local",
        source=json.dumps({"uri": uri}),
        schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
        profile=json.dumps(data_input.profile) if data_input.profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data_input.context)])


def _param(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
