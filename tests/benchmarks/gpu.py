"""What a GPU does with trainings and searches: one table, and the same as JSON.

    python -m tests.benchmarks.gpu [--device cuda] [--quick] [--out gpu.json] [--limit 60]

It needs no data. Sections that take longer than their limit end early and say so. `--quick --device
cpu` runs in the test suite, so that it works when a GPU is at hand; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from intertitle.training.config.recipe import Recipe, load_recipe
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.task import Task
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model, task_of
from intertitle.training.search.beam import beam
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.numerics.precision import Precision
from intertitle.training.trainer.step import TrainingStep
from intertitle.training.trainer.workers.watchdog import Pulse
from tests.benchmarks.bare import Bare, BareTranslation, bare_step

RECIPES = ("show_and_tell", "attend_and_tell", "seq2seq_attention", "word_lm")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
BATCH_TOKENS, BEAM_ROWS = (1024, 16384, 65536), (64, 256, 1024)
VOCABULARY, DIM, CELLS, LENGTH = 3000, 1280, 49, 13
ROUNDS, STEPS = 5, 10
# Relative error of a parameter's gradient above which a precision is not offered by "auto".
LARGEST_ERROR = 1e-2


@dataclass(frozen=True)
class Setting:
    """What is measured, and on what."""

    device: torch.device
    recipes: tuple[str, ...]
    batch_tokens: tuple[int, ...]
    beam_rows: tuple[int, ...]
    rounds: int
    steps: int
    deadline: float

    def late(self) -> bool:
        """Whether the time of the section is over."""
        return time.monotonic() > self.deadline

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        """Seconds of a call, with all that it starts on the device."""
        self.wait()
        began = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - began


class OneBatch:
    """A split whose only batch is on the device."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._num_targets = int(batch.target_lengths.sum())

    def batch(self, rows: object) -> Batch:
        """Return the batch, whichever rows are chosen."""
        return self._batch

    def num_targets(self, rows: object) -> int:
        """Return the number of targets of the batch."""
        return self._num_targets


def make(task: Task, tokens: int, device: torch.device) -> Batch:
    """A batch of sentences of different lengths; running text has no other input."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(LENGTH - 3, LENGTH + 1, max(1, tokens // LENGTH))
    shape = {"nothing": (), "pooled": (1, DIM), "grid": (1, CELLS, DIM)}[task.visual_input]
    rows = [
        Row(
            rng.random(shape, np.float32) if shape else None,
            rng.integers(4, VOCABULARY, n).tolist() if task.has_source else (),
            rng.integers(4, VOCABULARY, n - 1).tolist(),
        )
        for n in lengths
    ]
    return make_batch(rows, sentences=True).to(device)


def recipe_of(name: str, precision: Precision, *, dropout: bool) -> Recipe:
    """A recipe with teacher forcing."""
    settings = [f"training.precision={precision}", "objective.kind=teacher_forcing"]
    if not dropout:
        settings.append("model.dropout=0")
        if name.endswith("tell"):
            settings.append("model.feature_dropout=0")
        if name == "word_lm":
            settings.append("model.embedding_dropout=0")
    return load_recipe(name, settings)


def step_of(recipe: Recipe, batch: Batch, device: torch.device) -> TrainingStep:
    """Our step over one batch."""
    sizes = Sizes(VOCABULARY, VOCABULARY, DIM)
    split: Any = OneBatch(batch)
    step = TrainingStep(recipe, split, VOCABULARY, sizes, device, Ranks(), {}, Pulse())
    step.model.train()
    return step


def run(step: TrainingStep) -> object:
    """One step; the row's number has no meaning."""
    step.carried = None
    return step.run(np.zeros(1, np.int64), 0, 1.0)


def machine(setting: Setting) -> Iterator[dict[str, object]]:
    """Versions, rate of matrix products, rate of copies."""
    cuda = setting.device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else "cpu"
    cudnn = torch.backends.cudnn.version() if cuda else None
    yield {"device": name, "torch": torch.__version__, "cudnn": cudnn}
    size = 8192 if cuda else 256
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        a = torch.randn(size, size, device=setting.device, dtype=dtype)
        setting.seconds(lambda a=a: a @ a)
        rate = 2 * size**3 / min(setting.seconds(lambda a=a: a @ a) for _ in range(5))
        yield {"product": str(dtype), "per_s": rate}
    for pinned in (False, True) if cuda else ():
        data = torch.empty(2**28, dtype=torch.uint8, pin_memory=pinned)
        seconds = min(setting.seconds(lambda d=data: d.to(setting.device)) for _ in range(3))
        yield {"copy": "pinned" if pinned else "pageable", "bytes_per_s": len(data) / seconds}


def precision(setting: Setting) -> Iterator[dict[str, object]]:
    """Error of each parameter's gradient, relative to float32."""
    for name in setting.recipes:
        for tokens in setting.batch_tokens:
            batch = make(task_of(load_recipe(name).model), tokens, setting.device)
            exact: dict[str, torch.Tensor] = {}
            for kind in PRECISIONS:
                if setting.late():
                    return
                step = step_of(recipe_of(name, kind, dropout=False), batch, setting.device)
                run(step)
                # The step has clipped them: only their directions are compared.
                found = {n: p.grad.double() for n, p in step.model.named_parameters()}
                norm = torch.stack([g.norm() for g in found.values()]).norm()
                found = {n: g / norm for n, g in found.items()}
                exact = exact or found
                errors = {n: float((found[n] - g).norm() / g.norm()) for n, g in exact.items()}
                worst = max(errors, key=errors.__getitem__)
                yield {
                    "recipe": name,
                    "tokens": tokens,
                    "precision": kind,
                    "largest_error": errors[worst],
                    "parameter": worst,
                    "offered": errors[worst] <= LARGEST_ERROR,
                }


def training(setting: Setting) -> Iterator[dict[str, object]]:
    """Our step and a bare loop over the same batch, in alternating rounds."""
    for name in setting.recipes:
        for tokens in setting.batch_tokens:
            batch = make(task_of(load_recipe(name).model), tokens, setting.device)
            ways: dict[str, Callable[[], object]] = {}
            for kind in PRECISIONS:
                step = step_of(recipe_of(name, kind, dropout=True), batch, setting.device)
                ways[f"ours, {kind}"] = lambda step=step: run(step)
            if name in ("show_and_tell", "seq2seq_attention"):
                model = load_recipe(name).model
                sizes = (VOCABULARY, model.embedding_size, model.hidden_size)
                bare: nn.Module = BareTranslation(*sizes)
                if name == "show_and_tell":
                    bare = Bare(*sizes, "whole")
                theirs = bare_step(bare.to(setting.device), [batch])
                ways["bare, float32"] = lambda theirs=theirs: theirs(0)
            seconds = dict.fromkeys(ways, 0.0)
            for call in ways.values():
                call()
            for _ in range(setting.rounds):
                for way, call in ways.items():
                    if setting.late():
                        return
                    seconds[way] += setting.seconds(
                        lambda call=call: [call() for _ in range(setting.steps)]
                    )
            targets = int(batch.target_lengths.sum()) * setting.rounds * setting.steps
            for way, spent in seconds.items():
                yield {"recipe": name, "tokens": tokens, "way": way, "per_s": targets / spent}


def search(setting: Setting) -> Iterator[dict[str, object]]:
    """Greedy search and a beam of 5 over many rows at once."""
    for name in setting.recipes:
        recipe = load_recipe(name)
        sizes = Sizes(VOCABULARY, VOCABULARY, DIM)
        model: Any = build_model(recipe.model, sizes).to(setting.device).eval()
        for rows in setting.beam_rows:
            batch = make(task_of(recipe.model), rows * LENGTH, setting.device)
            for width in (1, 5):
                if setting.late():
                    return
                spent = setting.seconds(
                    lambda b=batch, w=width, m=model: beam(m, b, w, LENGTH, 0.7, num=1)
                )
                yield {"recipe": name, "rows": rows, "beam": width, "per_s": len(batch) / spent}


SECTIONS = (machine, precision, training, search)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only that it runs")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--limit", type=float, default=100.0, help="seconds of a section")
    given = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {}
    for section in SECTIONS:
        setting = Setting(
            torch.device(given.device),
            RECIPES,
            (64,) if given.quick else BATCH_TOKENS,
            (2,) if given.quick else BEAM_ROWS,
            1 if given.quick else ROUNDS,
            1 if given.quick else STEPS,
            time.monotonic() + given.limit,
        )
        print(f"\n{section.__doc__}")
        rows = found.setdefault(section.__name__, [])
        for row in section(setting):
            rows.append(row)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if setting.late():
            print(f"ended after its limit of {given.limit:.0f} s")
    given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
