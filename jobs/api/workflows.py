"""The steps from files to text as functions: import, precompute, train, evaluate, predict, compare.

Each starts Ray on this machine where it needs Ray and none is running, and stops it at the end. To
keep one Ray for several calls, call `ray.init()` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.sampling import Every, Rate, Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.dispatch import import_dataset as _import_dataset
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath, as_path

if TYPE_CHECKING:
    from intertitle.pipeline.precompute.options import PrecomputeReport
    from intertitle.training.data.data_ref import StorePaths
    from intertitle.training.evaluation.evaluate import Evaluation
    from intertitle.training.inference.model_bundle import TrainedModel
    from intertitle.training.inference.prediction_io import Prediction
    from intertitle.training.reports.compare import Comparison
    from intertitle.training.runs.fit_run import TrainingResult

PathLike = str | AnyPath


def import_dataset(
    format: str, source: PathLike | Sequence[PathLike] = (), *, out: PathLike, **options: Any
) -> ImportReport:
    """Write a corpus from a dataset, as `intertitle import` does.

    Args:
        format: name of the format, such as "folder", "flickr8k" or "parallel".
        source: files or folders of the dataset; none for "rendered" and "easy_vqa".
        out: folder or URL of the corpus.
        options: options of the format, such as `num_clips`, `follow_links` or `target_language`,
            as listed by `intertitle import --help`.

    Raises:
        UserError: the format is unknown, an option does not apply to it, or a file is invalid.

    Example:
        >>> import intertitle
        >>> report = intertitle.import_dataset("rendered", out="corpus", num_clips=60)
        >>> report.items
        60
    """
    return _import_dataset(format, _paths(source), as_path(out), **options)


def precompute(
    corpus: PathLike,
    *,
    out: PathLike,
    frames: int | None = None,
    fps: float | None = None,
    every: int | None = None,
    backbone: str = "efficientnet_lite0",
    address: str | None = None,
    **options: Any,
) -> PrecomputeReport:
    """Compute the features of a corpus into a store, as `intertitle precompute` does.

    Args:
        corpus: folder or URL of the corpus.
        out: folder or URL of the store.
        frames: number of frames of a video, spread evenly; 8 where no sampling is given.
        fps: frames a second, instead of `frames`.
        every: step between frames, instead of `frames`.
        backbone: name of the network.
        address: address of a Ray cluster; None uses this machine.
        options: further fields of `PrecomputeOptions`, such as `features="grid"`.

    Raises:
        UserError: an option is not allowed, or the store belongs to another backbone.
        JobError: the job failed.

    Example:
        >>> report = intertitle.precompute("corpus", out="features", frames=4)
        >>> report.stored
        60
    """
    from intertitle.pipeline.precompute.options import PrecomputeOptions
    from intertitle.pipeline.precompute.run import precompute as run

    if sum(value is not None for value in (frames, fps, every)) > 1:
        raise UserError("frames, fps, every: only one of them")
    sampling = Rate(fps) if fps else Every(every) if every else Uniform(frames or 8)
    settings = PrecomputeOptions(backbone=backbone, sampling=sampling, **options)
    with cluster(address):
        return run(Corpus(as_path(corpus).absolute()), as_path(out).absolute(), settings)


def train(
    recipe: str,
    corpus: PathLike,
    features: StorePaths = None,
    *,
    settings: Sequence[str] = (),
    workers: int = 1,
    name: str | None = None,
    checkpoints: str | Path = "checkpoints",
    tracking_uri: str | None = None,
    address: str | None = None,
) -> TrainingResult:
    """Train a recipe as one MLflow run, as `intertitle train` does.

    Args:
        recipe: name of a recipe, or path of a TOML file.
        corpus: folder or URL of a corpus with splits "train" and "val".
        features: folder or URL of its feature store, or several whose features are concatenated;
            None for tasks on text alone.
        settings: changes of the recipe, "section.field=value" each.
        workers: number of training workers.
        name: name of the run; None derives it from recipe and time.
        checkpoints: folder that all workers reach.
        tracking_uri: MLflow store; None takes MLFLOW_TRACKING_URI, else the nearest `mlflow.db`.
        address: address of a Ray cluster; None uses this machine.

    Returns:
        The run and its evaluation on the validation split.

    Raises:
        UserError: the recipe or the data is invalid.
        JobError: the training failed.

    Example:
        >>> result = intertitle.train(
        ...     "mean_pool_video", "corpus", "features", settings=["training.epochs=2"]
        ... )
        >>> sorted(result.evaluation.scores.values)[:2]
        ['bleu_1', 'bleu_2']
    """
    from intertitle.training.config.recipe import load_recipe
    from intertitle.training.data.data_ref import store_paths
    from intertitle.training.runs.train import train as run
    from intertitle.training.tracking.store.client import default_tracking_uri

    changed = load_recipe(recipe, settings)
    with cluster(address):
        return run(
            changed,
            as_path(corpus).absolute(),
            [path.absolute() for path in store_paths(features)],
            workers=workers,
            tracking_uri=tracking_uri or default_tracking_uri(),
            checkpoints=Path(checkpoints),
            name=name,
        )


def load_model(run: str, tracking_uri: str | None = None) -> TrainedModel:
    """Load the model of a run.

    Args:
        run: MLflow run id, run name, or "models:/name@alias".
        tracking_uri: MLflow store; None takes MLFLOW_TRACKING_URI, else the nearest `mlflow.db`.

    Raises:
        UserError: there is no such run, or it has no model.

    Example:
        >>> model = intertitle.load_model(result.run.run_id)
        >>> model.recipe.name
        'mean_pool_video'
    """
    from intertitle.training.inference.model_bundle import load_trained
    from intertitle.training.tracking.store.client import resolve_run

    return load_trained(resolve_run(run, _uri(tracking_uri)))


def evaluate(
    run: str,
    *,
    split: str = "val",
    corpus: PathLike | None = None,
    features: StorePaths = None,
    tracking_uri: str | None = None,
    **search: Any,
) -> Evaluation:
    """Evaluate the model of a run on a split and add the scores to the run.

    Args:
        run: MLflow run id, run name, or "models:/name@alias".
        split: split of the corpus.
        corpus: folder or URL; None uses the corpus of the training.
        features: folder or URL, or several; None uses the stores of the training.
        tracking_uri: MLflow store; None takes MLFLOW_TRACKING_URI, else the nearest `mlflow.db`.
        search: fields of `SearchConfig`, such as `beam_size=5`; the recipe's otherwise.

    Raises:
        UserError: there is no such run or split, or the features are of another kind.

    Example:
        >>> evaluation = intertitle.evaluate(result.run.run_id, split="test", beam_size=3)
        >>> evaluation.split
        'test'
    """
    from intertitle.training.runs.evaluate_run import evaluate_run
    from intertitle.training.tracking.store.client import resolve_run

    return evaluate_run(
        resolve_run(run, _uri(tracking_uri)),
        split=split,
        corpus=None if corpus is None else as_path(corpus),
        features=features,
        **search,
    )


def predict(
    model: str | TrainedModel,
    files: PathLike | Sequence[PathLike] = (),
    *,
    texts: str | Sequence[str] = (),
    nbest: int = 1,
    tracking_uri: str | None = None,
    **search: Any,
) -> list[Prediction]:
    """Predict for files, or for texts, or for files with one question.

    Args:
        model: a loaded model, or the run to load it from.
        files: videos and images.
        texts: sentences, or one question about all files.
        nbest: number of predictions for each input.
        tracking_uri: MLflow store; None takes MLFLOW_TRACKING_URI, else the nearest `mlflow.db`.
        search: fields of `SearchConfig`, such as `beam_size=5`; the recipe's otherwise.

    Raises:
        UserError: an input that the task needs is missing, or one that it does not take is given.
        FileError: a file can't be read.

    Example:
        >>> predictions = intertitle.predict(model, "corpus/clips/clip-00000.mp4")
        >>> len(predictions)
        1
    """
    from intertitle.training.inference.predictor import predict as run

    loaded = load_model(model, tracking_uri) if isinstance(model, str) else model
    return run(
        loaded.with_search(**search),
        [Path(str(path)) for path in _paths(files)],
        [texts] if isinstance(texts, str) else list(texts),
        nbest=nbest,
    )


def compare(
    runs: Sequence[str],
    *,
    split: str = "val",
    metrics: Sequence[str] = (),
    tracking_uri: str | None = None,
) -> Comparison:
    """Compare runs on the same examples, with paired bootstrap intervals against the first.

    Args:
        runs: MLflow run ids or names, two at least.
        split: split that all of them were evaluated on.
        metrics: names of the metrics; all that the runs share where empty.
        tracking_uri: MLflow store; None takes MLFLOW_TRACKING_URI, else the nearest `mlflow.db`.

    Raises:
        UserError: runs that can't be compared, such as ones evaluated on other examples.

    Example:
        >>> comparison = intertitle.compare([result.run.run_id, other.run.run_id])
        >>> len(comparison.runs)
        2
    """
    from intertitle.training.reports.compare import compare as run
    from intertitle.training.reports.evaluations import read_newest
    from intertitle.training.tracking.store.client import resolve_run

    uri = _uri(tracking_uri)
    return run([read_newest(resolve_run(name, uri), split) for name in runs], list(metrics))


def _paths(paths: PathLike | Sequence[PathLike]) -> list[UPath]:
    """Return one path or several as a list."""
    several = [paths] if isinstance(paths, (str, Path, UPath)) else paths
    return [as_path(str(path)) for path in several]


def _uri(tracking_uri: str | None) -> str:
    from intertitle.training.tracking.store.client import default_tracking_uri

    return tracking_uri or default_tracking_uri()
