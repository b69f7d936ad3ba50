"""Export of a trained model as an MLflow model, which `mlflow.pyfunc.load_model` loads.

The flavour is MLflow's `python_function` with this module as its loader: nothing is pickled.
MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.predictor import predict

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

# Packages that loading a model and predicting need. MLflow would take minutes to infer them.
_REQUIREMENTS = (
    "intertitle",
    "torch",
    "safetensors",
    "tokenizers",
    "onnxruntime",
    "decord2",
    "pillow",
)


def write_mlflow_model(trained: TrainedModel, folder: Path) -> None:
    """Write a trained model to a folder together with the files of an MLflow model.

    Args:
        trained: trained model; `TrainedModel.read` can also read it from the folder.
        folder: path of a new folder.
    """
    import mlflow.pyfunc

    trained.write(folder)
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
        shutil.copytree(mlflow_folder, folder, dirs_exist_ok=True)


def _requirement(package: str) -> str:
    """Pin a package to its installed version; one that is not installed is not pinned."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def signature_of(trained: TrainedModel) -> ModelSignature:
    """Return the MLflow signature of a model.

    The input columns are `file`, a path, and `text`, a sentence or question, as far as the task
    uses them; each row is one input. The output columns are `text` and `score`, see
    `inference.prediction_io.Prediction`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec("string", name) for name in _inputs(trained)]
    outputs = [ColSpec("string", "text"), ColSpec("double", "score")]
    return ModelSignature(Schema(inputs) if inputs else None, Schema(outputs))


def _inputs(trained: TrainedModel) -> list[str]:
    task = trained.task
    return ["file"] * (task.visual_input != "nothing") + ["text"] * task.has_source


class _PyFuncModel:
    """Adapter that `mlflow.pyfunc` calls to predict."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict each row; a model without inputs returns the texts that it generates."""
        import pandas as pd

        names = _inputs(self.trained)
        predictions = self._answers(data[names]) if names else predict(self.trained)
        return pd.DataFrame(
            [{"text": answer.text, "score": answer.score} for answer in predictions]
        )

    def _answers(self, rows: pd.DataFrame) -> list[Prediction]:
        """Predict rows; rows with the same question share one batch and one feature extractor."""
        if "file" not in rows:
            return predict(self.trained, texts=list(rows["text"]))
        files = [Path(file) for file in rows["file"]]
        if "text" not in rows:
            return predict(self.trained, files)
        rows_by_question: dict[str, list[int]] = {}
        for n, question in enumerate(rows["text"]):
            rows_by_question.setdefault(question, []).append(n)
        answers: dict[int, Prediction] = {}
        for question, numbers in rows_by_question.items():
            predictions = predict(self.trained, [files[n] for n in numbers], [question])
            answers |= zip(numbers, predictions, strict=True)
        return [answers[n] for n in range(len(files))]


def _load_pyfunc(path: str) -> _PyFuncModel:
    """Load a model from its folder; MLflow requires a loader module to have this function."""
    return _PyFuncModel(TrainedModel.read(Path(path)))
