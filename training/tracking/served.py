"""A trained model as an MLflow model: `mlflow.pyfunc.load_model` reads it and asks it.

The flavour is MLflow's `python_function` with this module as its loader: nothing is pickled.
MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.prediction import predict
from training.predictions import Prediction
from training.trained import TrainedModel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

# What loading and asking a model needs, as it is here. MLflow would try for minutes to find out.
_NEEDED = ("intertitle", "torch", "safetensors", "tokenizers", "onnxruntime", "decord2", "pillow")


def write_mlflow_model(trained: TrainedModel, folder: Path) -> None:
    """Write a trained model, with what makes it one of MLflow's beside it.

    Args:
        trained: `TrainedModel.read` reads it from there as well.
        folder: a new one.
    """
    import mlflow.pyfunc

    trained.write(folder)
    with tempfile.TemporaryDirectory() as scratch:
        beside = Path(scratch) / "model"
        with warnings.catch_warnings():
            # A file to look at, as an example, would not be where the model is loaded.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            mlflow.pyfunc.save_model(
                beside,
                loader_module=__name__,
                signature=signature_of(trained),
                pip_requirements=[_requirement(name) for name in _NEEDED],
            )
        shutil.copytree(beside, folder, dirs_exist_ok=True)


def _requirement(package: str) -> str:
    """In its version; a project that runs from its folder (`python -m jobs`) has none."""
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:
        return package


def signature_of(trained: TrainedModel) -> ModelSignature:
    """What a model is asked with, a row a question: `file`, a path; `text`, a sentence or question.

    It answers with `text` and `score`, see `training.predictions.Prediction`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec("string", name) for name in _inputs(trained)]
    outputs = [ColSpec("string", "text"), ColSpec("double", "score")]
    return ModelSignature(Schema(inputs) if inputs else None, Schema(outputs))


def _inputs(trained: TrainedModel) -> list[str]:
    task = trained.task
    return ["file"] * (task.sees != "nothing") + ["text"] * task.reads


class _Served:
    """What `mlflow.pyfunc` asks."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer each row of the signature's inputs; without inputs, tell what the model writes."""
        import pandas as pd

        names = _inputs(self.trained)
        told = self._answers(data[names]) if names else predict(self.trained)
        return pd.DataFrame([{"text": one.text, "score": one.score} for one in told])

    def _answers(self, asked: pd.DataFrame) -> list[Prediction]:
        """Rows with the same question go together: what sees is opened once for them."""
        if "file" not in asked:
            return predict(self.trained, texts=list(asked["text"]))
        files = [Path(file) for file in asked["file"]]
        if "text" not in asked:
            return predict(self.trained, files)
        alike: dict[str, list[int]] = {}
        for n, question in enumerate(asked["text"]):
            alike.setdefault(question, []).append(n)
        answers: dict[int, Prediction] = {}
        for question, numbers in alike.items():
            told = predict(self.trained, [files[n] for n in numbers], [question])
            answers |= zip(numbers, told, strict=True)
        return [answers[n] for n in range(len(files))]


def _load_pyfunc(path: str) -> _Served:
    """MLflow's name for what a loader module has: from a model's folder to what it asks."""
    return _Served(TrainedModel.read(Path(path)))
