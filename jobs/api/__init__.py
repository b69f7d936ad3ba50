"""Video, photographs and sentences in, text out, with recurrent networks.

The names below are imported when they are first used, so `import intertitle` is fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intertitle.pipeline.corpus import Corpus as Corpus
    from intertitle.pipeline.feature_store.store import FeatureStore as FeatureStore
    from intertitle.torch_dataset import FeatureDataset as FeatureDataset
    from intertitle.workflows import compare as compare
    from intertitle.workflows import evaluate as evaluate
    from intertitle.workflows import import_dataset as import_dataset
    from intertitle.workflows import load_model as load_model
    from intertitle.workflows import precompute as precompute
    from intertitle.workflows import predict as predict
    from intertitle.workflows import train as train

_MODULES = {
    "Corpus": "intertitle.pipeline.corpus",
    "FeatureDataset": "intertitle.torch_dataset",
    "FeatureStore": "intertitle.pipeline.feature_store.store",
    **dict.fromkeys(
        ("compare", "evaluate", "import_dataset", "load_model", "precompute", "predict", "train"),
        "intertitle.workflows",
    ),
}
__all__ = [*sorted(_MODULES), "init"]

# Defaults of the libraries below, which read them from the environment when they are imported.
_ENVIRONMENT = {
    # Ray asks for a token in every process; otherwise anyone on the network could run code.
    "RAY_AUTH_MODE": "token",
    # Nothing is sent anywhere.
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # OpenMP threads that wait for work spin briefly, then sleep. Alone on the cores an LSTM step
    # takes up to a tenth longer for it; next to two busy processes it is 1.3 to 3.5 times as fast.
    "GOMP_SPINCOUNT": "10000",
}


def init() -> None:
    """Set the defaults of Ray, MLflow and OpenMP for this process and those that it starts.

    The command line calls it first. In a notebook or a script, call it before the first import of
    ray, mlflow or torch. Variables that are set already keep their values. Importing intertitle
    sets none.

    Example:
        >>> import intertitle
        >>> intertitle.init()
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'intertitle' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
