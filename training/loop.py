"""A training from its first step to its last, on one of several workers; Ray is not known here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import JobError
from training.checkpoint import Checkpoint, Progress, optimizer_tensors, restore_optimizer
from training.config import Recipe, SearchConfig
from training.data.dataset import Dataset
from training.data.sampler import BatchSampler, Cursor, Rows, share
from training.data.tokenizer import WordTokenizer
from training.evaluation.evaluate import Sample, make_samples, search_examples
from training.evaluation.metrics import QUICK_METRICS, CaptionScorer
from training.models.build import build_model
from training.models.generator import Generator
from training.optimization import TeacherForcing, WeightAverage, learning_rate, make_optimizer

T = TypeVar("T")

# The figures that are better when they are smaller.
SMALLER_IS_BETTER = frozenset({"nats_per_token"})
NUM_SAMPLES = 8
MEASURED_EXAMPLES = 5000
REPORT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Ranks:
    """This worker among its fellows, who share one process group."""

    rank: int = 0
    world_size: int = 1

    def gather(self, value: T) -> list[T]:
        """Everyone's value, by rank."""
        if self.world_size == 1:
            return [value]
        values = [value] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """Rank 0's value."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        return values[0]


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a training goes, about once a second.

    Attributes:
        epoch: counted from 1.
        step: the optimizer's steps done.
        done: share of all the training, 0..1.
        nats_per_token: of this worker's last batch.
        tokens_per_s: words and <eos> of all workers.
    """

    epoch: int
    step: int
    done: float
    nats_per_token: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How an epoch went.

    Attributes:
        epoch: counted from 1.
        step: the optimizer's steps done.
        figures: by name, "train/..." and "val/...".
        is_best: so far.
        samples: what the model says of a few validation examples.
    """

    epoch: int
    step: int
    figures: dict[str, float]
    is_best: bool
    samples: tuple[Sample, ...]


Report = StepReport | EpochReport


class TrainingLoop:
    """One worker's part of a training.

    Args:
        recipe: what to do.
        tokenizer: of the words.
        train: the split to learn from.
        val: the split to be measured on.
        feature_dim: D.
        device: where to compute.
        ranks: this worker among its fellows.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: WordTokenizer,
        train: Dataset,
        val: Dataset,
        feature_dim: int,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self._recipe, self._tokenizer = recipe, tokenizer
        self._train, self._val = train, val
        self._device, self._ranks = device, ranks
        settings = recipe.training
        torch.manual_seed(settings.seed)
        self.model: Generator[Any] = build_model(recipe.model, feature_dim, len(tokenizer))
        self.model.measure([torch.tensor(f) for f in train.some_features(MEASURED_EXAMPLES)])
        self.model.to(device)
        decay = recipe.optimizer.average_decay
        self._average = WeightAverage(self.model, decay) if decay else None
        self._optimizer = make_optimizer(self.model, recipe.optimizer)
        forcing = TeacherForcing(self.model, recipe.optimizer.label_smoothing)
        self._forcing: nn.Module = (
            forcing if ranks.world_size == 1 else DistributedDataParallel(forcing)
        )
        self._sampler = BatchSampler(
            train.lengths, settings.batch_tokens, settings.pool_batches, settings.seed
        )
        self._progress = Progress()
        self._best: dict[str, torch.Tensor] = {}
        self._scorer: CaptionScorer | None = None

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    def checkpoint(self) -> Checkpoint:
        """All of the training's state; the tensors are its own, not copies."""
        return Checkpoint(
            self._progress,
            self.model.state_dict(),
            self._average.model.state_dict() if self._average else {},
            self._best,
            optimizer_tensors(self._optimizer),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same recipe."""
        self._progress = checkpoint.progress
        if self._ranks.rank:
            # The first worker goes on with the sums of all.
            self._progress = replace(self._progress, epoch_nats=0.0, epoch_words=0)
        self.model.load_state_dict(checkpoint.weights)
        if self._average:
            self._average.model.load_state_dict(checkpoint.average)
        self._best = {name: tensor.to(self._device) for name, tensor in checkpoint.best.items()}
        restore_optimizer(self._optimizer, checkpoint.optimizer)

    def run(
        self,
        on_report: Callable[[Report], None] = lambda _: None,
        on_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Train until the recipe says to stop.

        Args:
            on_report: told how it goes; on every worker.
            on_checkpoint: called on every worker at the same steps, when `checkpoint` should be
                kept.
        """
        while not (self._is_out_of_steps() or self._is_out_of_epochs()):
            self._run_epoch(on_report, on_checkpoint)
            if not self._is_out_of_steps():
                on_report(self._end_epoch())
            self._keep(on_checkpoint)

    def _is_out_of_steps(self) -> bool:
        max_steps = self._recipe.training.max_steps
        return max_steps is not None and self._progress.step >= max_steps

    def _is_out_of_epochs(self) -> bool:
        settings, progress = self._recipe.training, self._progress
        done = progress.cursor.epoch
        return done >= settings.epochs or done - progress.best_epoch >= settings.patience

    def _run_epoch(
        self, on_report: Callable[[Report], None], on_checkpoint: Callable[[], None]
    ) -> None:
        """The steps that are left of this epoch."""
        settings, epoch = self._recipe.training, self._progress.cursor.epoch
        batches = self._sampler.epoch(epoch)
        self.model.train()
        told, words_since = time.perf_counter(), 0
        for batch in range(self._progress.cursor.batch, len(batches)):
            rows, epochs = batches[batch], epoch + (batch + 1) / len(batches)
            nats, words = self.train_step(rows, epochs)
            self._progress = replace(
                self._progress,
                cursor=Cursor(epoch, batch + 1),
                step=self._progress.step + 1,
                epoch_nats=self._progress.epoch_nats + nats,
                epoch_words=self._progress.epoch_words + words,
            )
            words_since += self._train.num_targets(rows)
            now = time.perf_counter()
            if now - told >= REPORT_EVERY_S:
                on_report(
                    StepReport(
                        epoch=epoch + 1,
                        step=self._progress.step,
                        done=epochs / settings.epochs,
                        nats_per_token=nats / max(1, words),
                        tokens_per_s=words_since / (now - told),
                    )
                )
                told, words_since = now, 0
            if self._is_out_of_steps():
                return
            if self._progress.step % settings.checkpoint_steps == 0:
                self._keep(on_checkpoint)

    def _keep(self, on_checkpoint: Callable[[], None]) -> None:
        """Have a checkpoint kept: the first worker's, which brings what all have summed."""
        sums = self._ranks.gather((self._progress.epoch_nats, self._progress.epoch_words))
        if self._ranks.rank:
            sums = []
        self._progress = replace(
            self._progress,
            epoch_nats=sum((n for n, _ in sums), 0.0),
            epoch_words=sum(w for _, w in sums),
        )
        on_checkpoint()

    def train_step(self, rows: Rows, epochs: float) -> tuple[float, int]:
        """One step of the optimizer.

        Args:
            rows: of the batch of all workers; this one takes its share.
            epochs: done after the step, with its fraction.

        Returns:
            The sum of -log p of this worker's words, in nats, and their number.
        """
        settings, config = self._recipe.training, self._recipe.optimizer
        seed = np.random.SeedSequence((settings.seed, self._progress.step, self._ranks.rank))
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        mine = share(rows, self._ranks.rank, self._ranks.world_size)
        # A worker without a row of its own keeps step with one that does not count.
        batch = self._train.batch(mine if len(mine) else rows[:1])
        if not len(mine):
            batch = replace(batch, num_targets=torch.zeros_like(batch.num_targets))
        loss, nats = self._forcing(batch.to(self._device))
        # Workers average their gradients: so scaled, the average is the gradient of the mean over
        # the words of all of them.
        scale = self._ranks.world_size / self._train.num_targets(rows)
        self._optimizer.zero_grad(set_to_none=True)
        (loss * scale).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, epochs / settings.epochs)
        self._optimizer.step()
        if self._average:
            self._average.update(self.model, self._progress.step)
        return float(nats), int(batch.num_targets.sum())

    def _end_epoch(self) -> EpochReport:
        """Measure, compare with the best epoch, and move on to the next."""
        progress, settings = self._progress, self._recipe.training
        monitor, epoch = settings.monitor, progress.cursor.epoch + 1
        evaluated = self._average.model if self._average else self.model
        evaluated.eval()
        sums = self._ranks.gather((progress.epoch_nats, progress.epoch_words))
        figures = {
            "train/nats_per_token": sum(n for n, _ in sums) / max(1, sum(w for _, w in sums)),
            "train/learning_rate": learning_rate(self._recipe.optimizer, epoch / settings.epochs),
            "val/nats_per_token": self._validation_nats(evaluated),
        }
        for name in ("train/nats_per_token", "val/nats_per_token"):
            if not math.isfinite(figures[name]):
                raise JobError(
                    f"{name} is {figures[name]} in epoch {epoch}: the training has diverged; "
                    "a smaller optimizer.learning_rate or optimizer.clip_norm may help"
                )
        scores, samples = self._validation_scores(evaluated)
        figures |= {f"val/{name}": value for name, value in scores.items()}

        value, best = figures[f"val/{monitor}"], progress.best_value
        is_best = best is None or (value < best if monitor in SMALLER_IS_BETTER else value > best)
        if is_best:
            self._best = {k: v.detach().clone() for k, v in evaluated.state_dict().items()}
        self._progress = Progress(
            cursor=Cursor(epoch, 0),
            step=progress.step,
            best_epoch=epoch if is_best else progress.best_epoch,
            best_value=value if is_best else best,
            history=(*progress.history, {"epoch": float(epoch), **figures}),
        )
        return EpochReport(epoch, progress.step, figures, is_best, samples)

    @torch.inference_mode()
    def _validation_nats(self, model: Generator[Any]) -> float:
        """-log p of a validation word, in nats, over all workers."""
        settings, forcing = self._recipe.training, TeacherForcing(model, 0.0)
        sampler = BatchSampler(self._val.lengths, settings.batch_tokens, settings.pool_batches, 0)
        nats, words = 0.0, 0
        for rows in sampler.epoch(0)[self._ranks.rank :: self._ranks.world_size]:
            batch = self._val.batch(rows)
            nats += float(forcing(batch.to(self._device))[0])
            words += int(batch.num_targets.sum())
        sums = self._ranks.gather((nats, words))
        return sum(n for n, _ in sums) / sum(w for _, w in sums)

    def _validation_scores(
        self, model: Generator[Any]
    ) -> tuple[dict[str, float], tuple[Sample, ...]]:
        """Greedy sentences of all workers, scored by the first."""
        mine = range(len(self._val.examples))[self._ranks.rank :: self._ranks.world_size]
        search = SearchConfig(beam_size=1, max_words=self._recipe.search.max_words)
        found = search_examples(model, self._val, mine, search)
        parts = self._ranks.gather(dict(zip(mine, found, strict=True)))
        scored: tuple[dict[str, float], tuple[Sample, ...]] | None = None
        if self._ranks.rank == 0:
            samples = make_samples(
                self._val, {n: h for part in parts for n, h in part.items()}, self._tokenizer
            )
            self._scorer = self._scorer or CaptionScorer([s.references for s in samples])
            scores = self._scorer.score([s.hypothesis for s in samples], QUICK_METRICS)
            scored = (scores.values, tuple(samples[:: max(1, len(samples) // NUM_SAMPLES)]))
        scored = self._ranks.from_first(scored)
        assert scored is not None
        return scored[0], scored[1][:NUM_SAMPLES]
