"""A corpus with features and captions that a model learns in seconds: no video, no CNN, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, publish, table_of
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.config.recipe import Recipe, load_recipe
from intertitle.training.data.batch import Batch
from intertitle.training.data.data_ref import Data, DataRef, FeatureRef, StorePaths, open_data
from intertitle.training.data.dataset import Dataset, open_splits
from intertitle.training.data.task import Task, VisualInput
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.build import build_model, sizes_of, task_of
from intertitle.training.runs.fit_run import TrainingResult
from intertitle.training.runs.train import train
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.events import Report
from intertitle.training.trainer.loop import TrainingLoop
from intertitle.training.trainer.workers.ray_trainer import TrainingJob, fit
from tests.fingerprints import FINGERPRINT
from tests.mlflow_tables import copied_tables
from tests.training.in_process import in_process

# What a captioner does.
SEEN = Task("pooled", has_source=False, output="sentence")

# Small tensors on busy cores: threads would only wait for each other.
torch.set_num_threads(1)

DIM = 16
COLOURS = ("red", "green", "blue", "grey")
SHAPES = ("ball", "cube", "cone", "ring")


@dataclass(frozen=True)
class Shown:
    """An item with what people say of it; its features are [T, DIM], or [T, cells, DIM]."""

    key: str
    split: str
    features: NDArray[np.float32]
    targets: tuple[str, ...]


def write_features(
    folder: Path, shown: Iterable[Shown], *, weights: str = "0", quarantined: Collection[str] = ()
) -> Path:
    """A store of features as `precompute` would leave it."""
    stored = [one for one in shown if one.key not in quarantined]
    shape = stored[0].features.shape[1:] if stored else (DIM,)
    (folder / "shards").mkdir(parents=True)
    shard = write_shard(
        folder / "shards" / f"shard-0-{weights}.arrow",
        "arrow",
        [ItemFeatures(s.key, np.arange(len(s.features), dtype=float), s.features) for s in stored],
        shape,
    )
    records = [
        ItemRecord(s.key, s.key, "video", shard=shard.name, row=row, num_frames=len(s.features))
        for row, s in enumerate(stored)
    ] + [
        ItemRecord(key, key, "video", stage="decode", error="empty", message=f"{key}: has no bytes")
        for key in quarantined
    ]
    fingerprint = replace(
        FINGERPRINT,
        backbone="synthetic",
        features="grid" if len(shape) == 2 else "pooled",
        weights_sha256=weights * 64,
        sampling="uniform:6",
        shape=shape,
    )
    publish(as_path(folder), Snapshot(fingerprint, {shard.name: shard}, table_of(records)))
    return folder


def open_data_ref(
    corpus: AnyPath | str, features: StorePaths, sees: VisualInput, pin: str | None = None
) -> DataRef:
    """The reference to some data."""
    return open_data(corpus, features, sees, pin).ref


def write_data(folder: Path, shown: Iterable[Shown], quarantined: Collection[str] = ()) -> DataRef:
    """A corpus and its features, in `folder`/corpus and `folder`/features."""
    rows = list(shown)
    write_corpus(
        folder / "corpus",
        [Item(one.key, f"{one.key}.mp4", "video") for one in rows],
        [Example(f"about-{s.key}", s.split, s.key, None, s.targets) for s in rows],
    )
    store = write_features(folder / "features", rows, quarantined=quarantined)
    sees: VisualInput = "grid" if rows[0].features.ndim == 3 else "pooled"
    return open_data_ref(folder / "corpus", store, sees)


def coloured_things(num_items: int, seed: int = 0) -> list[Shown]:
    """Things whose colour and shape are in each of 1 to 6 frames; a fifth is for validation."""
    rng = np.random.default_rng(seed)
    looks = {word: rng.normal(size=DIM) for word in (*COLOURS, *SHAPES)}
    shown = []
    for n in range(num_items):
        colour, shape = COLOURS[n % 4], SHAPES[n // 4 % 4]
        noise = rng.normal(scale=0.2, size=(rng.integers(1, 7), DIM))
        targets = (f"A {colour} {shape}.", f"There is a {colour} {shape}")[: 1 + n % 2]
        features = (looks[colour] + looks[shape] + noise).astype(np.float32)
        split = "val" if n % 5 == 0 else "train"
        shown.append(Shown(f"item {n}", split, features, targets))
    return shown


@pytest.fixture(scope="session", autouse=True)
def mlflow_tables() -> Iterator[None]:
    """Stores of runs that need no migration."""
    with copied_tables():
        yield


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> DataRef:
    """60 coloured things, 48 of them to learn from; read-only."""
    return write_data(tmp_path_factory.mktemp("things"), coloured_things(60))


@pytest.fixture(scope="session")
def words() -> Vocabs:
    """All words of `things`."""
    return words_of(coloured_things(60))


def words_of(shown: Iterable[Shown]) -> Vocabs:
    """All words that are said."""
    return Vocabs(Tokenizer.captions([t for s in shown for t in s.targets], min_count=1))


def features_of(data: DataRef) -> FeatureRef:
    """The features that a test's data has, of one store."""
    (features,) = data.features
    return features


def small_recipe(name: str = "s2vt", *settings: str) -> Recipe:
    """A shipped recipe with a network of a size for tests."""
    return load_recipe(
        name,
        [
            "model.embedding_size=12",
            "model.hidden_size=16",
            "tokenizer.min_count=1",
            "tokenizer.max_tokens=8",
            "training.batch_tokens=64",
            "training.pool_batches=4",
            "search.max_tokens=8",
            *settings,
        ],
    )


def split_of(
    data: DataRef, split: str, words: Vocabs, max_tokens: int = 8, task: Task = SEEN
) -> Dataset:
    """A split with its texts cut."""
    return Dataset(Data(data), split, task, words, max_tokens, max_tokens)


def make_loop(
    data: DataRef, words: Vocabs, recipe: Recipe, ranks: Ranks | None = None
) -> TrainingLoop:
    """A training on the CPU, in this process."""
    task = task_of(recipe.model)
    splits = open_splits(Data(data), recipe, task, words)
    sizes, cpu = sizes_of(words, data), torch.device("cpu")
    return TrainingLoop(recipe, words, splits.train, splits.val, sizes, cpu, ranks or Ranks())


def fit_job(job: TrainingJob, on_report: Callable[[Report], None]) -> Checkpoint:
    """A training on Ray, with the data that the job names."""
    words = Vocabs.from_json(job.vocabularies)
    splits = open_splits(Data(job.data), job.recipe, task_of(job.recipe.model), words)
    return fit(job, splits, on_report)


@dataclass(frozen=True)
class Trained:
    """A run that `runs.train` has made."""

    result: TrainingResult
    recipe: Recipe
    tracking_uri: str
    checkpoints: Path
    reports: list[Report]


@pytest.fixture(scope="session")
def trained(
    ray_cluster: None, things: DataRef, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """S2VT on `things`, two epochs, in this process."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = small_recipe("s2vt", "training.epochs=2", "training.monitor=nats_per_token")
    reports: list[Report] = []
    uri, checkpoints = f"sqlite:///{folder}/mlflow.db", folder / "checkpoints"
    with in_process():
        result = train(
            recipe,
            Path(things.corpus),
            Path(features_of(things).path),
            workers=1,
            tracking_uri=uri,
            checkpoints=checkpoints,
            name="first",
            on_report=reports.append,
        )
    return Trained(result, recipe, uri, checkpoints, reports)


def untrained(recipe: Recipe, data: DataRef, words: Vocabs, seed: int = 0) -> TrainedModel:
    """Make a model that has learned nothing, and yet generates different words."""
    torch.manual_seed(seed)
    model = build_model(recipe.model, sizes_of(words, data))
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return TrainedModel(model.eval(), words, recipe, data, step=1)


def questions(dataset: Dataset, examples: Iterable[int]) -> Batch:
    """A batch of examples without targets."""
    return dataset.with_targets([(n, []) for n in examples])
