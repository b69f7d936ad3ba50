"""Folders that are whole or refused: checkpoints to go on from, and trained models to use.

Tensors are safetensors and the rest is JSON: nothing is ever unpickled. A manifest with the hash of
every file is written last, and a folder gets its name once it is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from pipeline.errors import UserError
from training.config import Recipe, parse_recipe
from training.data.dataset import DataSource
from training.data.sampler import Cursor
from training.data.tokenizer import WordTokenizer
from training.models.build import build_model
from training.models.generator import Generator

MANIFEST = "manifest.json"
Tensors = Mapping[str, Tensor]


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their manifest into a new folder, all or nothing."""
    unfinished = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, data in files.items():
        (unfinished / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (unfinished / MANIFEST).write_text(json.dumps(hashes, indent=1))
    unfinished.rename(folder)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The inverse of `write_folder`.

    Raises:
        UserError: the folder is incomplete or a file is not as it was written.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{folder}: incomplete: it has no {MANIFEST}")
    try:
        hashes: dict[str, str] = json.loads(manifest.read_bytes())
    except ValueError as error:
        raise UserError(f"{manifest}: damaged: {error}") from error
    files: dict[str, bytes] = {}
    for name, expected in hashes.items():
        path = folder / name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"{path}: damaged: its checksum differs from {MANIFEST}")
        files[name] = data
    return files


def save_tensors(tensors: Tensors) -> bytes:
    """Tensors by name as safetensors."""
    data: bytes = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    return data


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        cursor: the batches done.
        step: the optimizer's steps done.
        best_epoch: the epoch, counted from 1, whose weights are kept; 0 before the first.
        best_value: of the monitored figure, in that epoch.
        history: the figures of each epoch.
        epoch_nats: of the training words of the epoch so far, summed; in a checkpoint, over all
            workers.
        epoch_words: their number.
    """

    cursor: Cursor = field(default_factory=Cursor)
    step: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    history: tuple[dict[str, float], ...] = ()
    epoch_nats: float = 0.0
    epoch_words: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on as if it had never stopped.

    The random numbers of a step are a function of the seed, the step and the rank, so there is no
    generator to keep.

    Attributes:
        progress: how far it is.
        weights: of the model.
        average: the running average of the weights; empty if none is kept.
        best: the weights of the best epoch; empty before the first.
        optimizer: its tensors, as "parameter.name".
    """

    progress: Progress
    weights: Tensors
    average: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    optimizer: Tensors = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it, all or nothing."""
        write_folder(
            folder,
            {
                "progress.json": json.dumps(asdict(self.progress)).encode(),
                "weights.safetensors": save_tensors(self.weights),
                "average.safetensors": save_tensors(self.average),
                "best.safetensors": save_tensors(self.best),
                "optimizer.safetensors": save_tensors(self.optimizer),
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """The inverse of `write`.

        Raises:
            UserError: it is damaged.
        """
        files = read_folder(folder)
        state = json.loads(files["progress.json"])
        state["cursor"] = Cursor(**state["cursor"])
        state["history"] = tuple(state["history"])
        return cls(
            Progress(**state),
            *(
                load(files[f"{name}.safetensors"])
                for name in ("weights", "average", "best", "optimizer")
            ),
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state, flat; its settings come from the recipe."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


@dataclass(frozen=True)
class TrainedModel:
    """A model to use, with all that it needs: what a run keeps.

    Attributes:
        model: in evaluation mode.
        tokenizer: of its words.
        recipe: it was trained by.
        data: it was trained on; features of another make are refused.
        step: the optimizer's steps that its training took.
    """

    model: Generator[Any]
    tokenizer: WordTokenizer
    recipe: Recipe
    data: DataSource
    step: int

    def write(self, folder: Path) -> None:
        """Write it, all or nothing."""
        write_folder(
            folder,
            {
                "model.safetensors": save_tensors(self.model.state_dict()),
                "tokenizer.json": self.tokenizer.to_json().encode(),
                "recipe.json": self.recipe.model_dump_json(indent=1).encode(),
                "training.json": json.dumps(
                    {"data": asdict(self.data), "step": self.step}, indent=1
                ).encode(),
            },
        )

    @classmethod
    def read(cls, folder: Path) -> TrainedModel:
        """The inverse of `write`.

        Raises:
            UserError: it is damaged.
        """
        files = read_folder(folder)
        tokenizer = WordTokenizer.from_json(files["tokenizer.json"].decode())
        recipe = parse_recipe(json.loads(files["recipe.json"]), f"{folder}/recipe.json")
        training = json.loads(files["training.json"])
        data = DataSource(**training["data"])
        model = build_model(recipe.model, data.feature_dim, len(tokenizer))
        model.load_state_dict(load(files["model.safetensors"]))
        return cls(model.eval(), tokenizer, recipe, data, training["step"])
