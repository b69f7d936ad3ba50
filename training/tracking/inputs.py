"""What a run is given: parameters, and the data it learns from or is measured on.

MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.tracking.store import CUT_MARK, LONG_PARAMS

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MAX_DIGEST, _MAX_PARAM = 36, 6000  # MLflow's own limits, in characters


@dataclass(frozen=True)
class DataInput:
    """Something a run learned from or was measured on.

    Attributes:
        name: unique in the run.
        source: a path or URL.
        digest: the full fingerprint; MLflow's dataset shows its first 36 characters, the tag
            `fingerprint.<name>` holds it whole.
        context: the use, for example "training".
        columns: MLflow's name of each column's type: "string", "double", ...
        profile: what a person wants to know of it, for example numbers of examples.
    """

    name: str
    source: str
    digest: str
    context: str
    columns: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, object] = field(default_factory=dict)


def check_inputs(inputs: Sequence[DataInput]) -> None:
    """Make sure that no two inputs share a name.

    Raises:
        ValueError: they do.
    """
    if len({given.name for given in inputs}) < len(inputs):
        raise ValueError(f"inputs share a name: {[given.name for given in inputs]}")


def describe_run(
    client: MlflowClient, run_id: str, params: Mapping[str, object], inputs: Sequence[DataInput]
) -> None:
    """Log what a run begins with.

    Args:
        client: of the run's store.
        run_id: of the run.
        params: flat; text is logged as it is, anything else as JSON, and what is too long for
            MLflow cut, with the whole in an artifact.
        inputs: as MLflow's data sets.

    Raises:
        MlflowException: the store does not answer or refuses them.
    """
    from mlflow.entities import Param, RunTag

    written = {key: _param(value) for key, value in params.items()}
    long = {key: value for key, value in written.items() if len(value) > _MAX_PARAM}
    cut = {key: value[: _MAX_PARAM - len(CUT_MARK)] + CUT_MARK for key, value in long.items()}
    client.log_batch(
        run_id,
        params=[Param(*param) for param in (written | cut).items()],
        tags=[RunTag(f"fingerprint.{given.name}", given.digest) for given in inputs],
    )
    if long:
        client.log_dict(run_id, long, LONG_PARAMS)
    if inputs:
        client.log_inputs(run_id, [_dataset(given) for given in inputs])


def _dataset(given: DataInput) -> Any:
    """MLflow's entity of an input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    scheme, is_url, _ = given.source.partition("://")
    uri = given.source if is_url else str(Path(given.source).absolute())
    columns = [{"name": name, "type": kind} for name, kind in given.columns.items()]
    dataset = Dataset(
        name=given.name,
        digest=given.digest[:_MAX_DIGEST],
        source_type=scheme if is_url else "local",
        source=json.dumps({"uri": uri}),
        schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
        profile=json.dumps(given.profile) if given.profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", given.context)])


def _param(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
