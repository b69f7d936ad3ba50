"""Export of a trained model as an MLflow model, which `mlflow.pyfunc.load_model` loads.

The model brings the project as a wheel, so that MLflow can build an environment for it with pip or
virtualenv.
The flavour is MLflow's `python_function` with this module as its loader: nothing is pickled.
MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intertitle.pipeline.errors import UserError
from intertitle.training.data.item_views import write_item
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.predictor import predict
from intertitle.training.inference.pyfunc.wheel import write_wheel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

# Packages whose versions may change a prediction; the wheel requires all, in ranges. MLflow
# would take minutes to infer them.
_REQUIREMENTS = (
    "torch",
    "safetensors",
    "tokenizers",
    "onnxruntime",
    "decord2",
    "pillow",
)
# Folder of the wheel; MLflow installs the requirements of a model in its folder.
_WHEELS = "wheels"

# Parameter of the beam size, named as the option of the command line.
_BEAM = "beam"
_PARAM_TYPES = {int: "long", float: "double", str: "string"}


def write_mlflow_model(trained: TrainedModel, folder: Path) -> None:
    """Write a trained model to a folder together with the files of an MLflow model.

    Args:
        trained: trained model; `TrainedModel.read` can also read it from the folder.
        folder: path of a new folder.
    """
    import mlflow.pyfunc

    trained.write(folder)
    (folder / _WHEELS).mkdir()
    wheel = write_wheel(folder / _WHEELS)
    with tempfile.TemporaryDirectory() as scratch:
        mlflow_folder = Path(scratch) / "model"
        with warnings.catch_warnings():
            # An input example would name a file that does not exist where the model is loaded.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            mlflow.pyfunc.save_model(
                mlflow_folder,
                loader_module=__name__,
                signature=signature_of(trained),
                pip_requirements=[_requirement(name) for name in _REQUIREMENTS],
            )
        with (mlflow_folder / "requirements.txt").open("a", encoding="utf-8") as requirements:
            requirements.write(f"\n{_WHEELS}/{wheel.name}\n")
        shutil.copytree(mlflow_folder, folder, dirs_exist_ok=True)


def _requirement(package: str) -> str:
    """Pin a package to its installed version.

    A build for this machine, as of "2.13.0+cpu", is not on the package index; its version is.
    """
    return f"{package}=={version(package).partition('+')[0]}"


def signature_of(trained: TrainedModel) -> ModelSignature:
    """Return the MLflow signature of a model.

    The input columns are `file`, a path, or `data`, the bytes of a file, which MLflow's server
    takes as base64; and `text`, a sentence or question; as far as the task uses them. Each row is
    one input. The output columns are `text` and `score`, see `inference.prediction_io.Prediction`.
    The parameters of a model that generates sentences are those of the search, `beam` for
    `beam_size`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    task = trained.task
    inputs = []
    if task.visual_input != "nothing":
        inputs = [ColSpec("string", "file", False), ColSpec("binary", "data", False)]
    if task.has_source:
        inputs.append(ColSpec("string", "text"))
    outputs = [ColSpec("string", "text"), ColSpec("double", "score")]
    params = [
        ParamSpec(_BEAM if name == "beam_size" else name, _PARAM_TYPES[type(value)], value)
        for name, value in trained.recipe.search
        if task.output == "sentence"
    ]
    return ModelSignature(
        Schema(inputs) if inputs else None,
        Schema(outputs),
        ParamSchema(params) if params else None,
    )


class _PyFuncModel:
    """Adapter that `mlflow.pyfunc` calls to predict."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict each row; a model without inputs returns the texts that it generates.

        Args:
            data: inputs, see `signature_of`.
            params: fields of `SearchConfig`, with `beam` for `beam_size`.
        """
        import pandas as pd

        changes = {"beam_size" if k == _BEAM else k: v for k, v in (params or {}).items()}
        trained = self.trained.with_search(**changes)
        if trained.task.visual_input != "nothing":
            with tempfile.TemporaryDirectory() as folder:
                predictions = _answer_files(trained, data, Path(folder))
        elif trained.task.has_source:
            predictions = predict(trained, texts=list(data["text"]))
        else:
            predictions = predict(trained)
        return pd.DataFrame(
            [{"text": answer.text, "score": answer.score} for answer in predictions]
        )


def _answer_files(trained: TrainedModel, rows: pd.DataFrame, folder: Path) -> list[Prediction]:
    """Predict rows; rows with the same question share one batch and one feature extractor."""
    files = [_file_of(row, folder / str(n)) for n, row in enumerate(rows.to_dict("records"))]
    if not trained.task.has_source:
        return predict(trained, files)
    rows_by_question: dict[str, list[int]] = {}
    for n, question in enumerate(rows["text"]):
        rows_by_question.setdefault(question, []).append(n)
    answers: dict[int, Prediction] = {}
    for question, numbers in rows_by_question.items():
        predictions = predict(trained, [files[n] for n in numbers], [question])
        answers |= zip(numbers, predictions, strict=True)
    return [answers[n] for n in range(len(files))]


def _file_of(row: Mapping[Any, Any], scratch: Path) -> Path:
    """Return the file of a row; bytes are written to a scratch file.

    Raises:
        UserError: the row has neither a path nor bytes, or both.
        ProbeError: the bytes are neither an image nor a video.
    """
    file, content = row.get("file"), row.get("data")
    if isinstance(file, str) == isinstance(content, bytes):
        raise UserError("predict: a row needs one of `file`, a path, and `data`, bytes")
    if isinstance(content, bytes):
        return write_item(content, scratch)
    return Path(str(file))


def _load_pyfunc(path: str) -> _PyFuncModel:
    """Load a model from its folder; MLflow requires a loader module to have this function."""
    return _PyFuncModel(TrainedModel.read(Path(path)))
