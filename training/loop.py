"""A training from its first step to its last, on one of several workers; Ray is not known here."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import JobError
from pipeline.failpoints import failpoint
from training.checkpoint import Checkpoint, Progress, optimizer_tensors, restore_optimizer
from training.config import Recipe
from training.data.dataset import Dataset, make_sampler
from training.data.sampler import Cursor, Rows, share
from training.data.stream import StreamDataset
from training.data.task import Sees
from training.data.vocabularies import Vocabularies
from training.evaluation.statistics import SMALLER_IS_BETTER
from training.lanes import deal_lanes, gather_lanes
from training.lessons import make_lesson
from training.models.build import build_model
from training.models.cells import CellState
from training.models.generator import Model, Sizes
from training.objectives import TeacherForcing
from training.optimization import WeightAverage, learning_rate, make_optimizer
from training.ranks import Ranks
from training.reports import EpochReport, Report, SkippedStep, StepReport
from training.skipping import count_skipped, count_step
from training.validation import Validator
from training.watchdog import Pulse, Stage

# Training examples whose features tell their scale; a grid has many vectors.
MEASURED_EXAMPLES: dict[Sees, int] = {"nothing": 0, "pooled": 5000, "grid": 500}
REPORT_EVERY_S = 1.0


class TrainingLoop:
    """One worker's part of a training.

    Args:
        recipe: what to do.
        vocabularies: of the texts.
        train: the split to learn from.
        val: the split to be measured on.
        sizes: of the model.
        device: where to compute.
        ranks: this worker among its fellows.
        initial: weights to begin with; those it lacks are drawn.
        pulse: told where the training is.

    Attributes:
        model: that learns.
        stopped: whether it ended because it was asked to.
    """

    def __init__(
        self,
        recipe: Recipe,
        vocabularies: Vocabularies,
        train: Dataset | StreamDataset,
        val: Dataset | StreamDataset,
        sizes: Sizes,
        device: torch.device,
        ranks: Ranks,
        initial: Mapping[str, Tensor] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse or Pulse()
        self._recipe, self._train = recipe, train
        self._device, self._ranks = device, ranks
        settings = recipe.training
        torch.manual_seed(settings.seed)
        self.model: Model = build_model(recipe.model, sizes)
        if isinstance(train, Dataset) and train.task.sees != "nothing":
            some = train.some_features(MEASURED_EXAMPLES[train.task.sees])
            self.model.measure([torch.tensor(features) for features in some])
        self.model.load_state_dict(initial or {}, strict=False)
        self.model.to(device)
        decay = recipe.optimizer.average_decay
        self._average = WeightAverage(self.model, decay) if decay else None
        self._optimizer = make_optimizer(self.model, recipe.optimizer)
        forcing = TeacherForcing(
            self.model, len(vocabularies.target), recipe.optimizer.label_smoothing
        )
        self._forcing: nn.Module = (
            forcing if ranks.world_size == 1 else DistributedDataParallel(forcing)
        )
        self._lesson = make_lesson(recipe, self.model, train)
        self._sampler = make_sampler(train, settings)
        self._progress = Progress()
        self._carried: CellState | None = None
        self._all_carried: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._validator = Validator(recipe, val, vocabularies.target, ranks, self._pulse)
        self.stopped = False

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
            self._all_carried,
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
        carried = deal_lanes(checkpoint.carried, self._ranks)
        self._carried = carried and carried.to(self._device)

    def run(
        self,
        on_report: Callable[[Report], None] = lambda _: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until the recipe says to stop, or somebody does.

        Args:
            on_report: told how it goes; on every worker.
            on_checkpoint: called on every worker at the same steps, when `checkpoint` should be
                kept.
            should_stop: asked before each step, on every worker; when it is so on one of them, all
                end after a last checkpoint, and `stopped` is set.
        """
        while not (self.stopped or self._is_out_of_steps() or self._is_out_of_epochs()):
            self._run_epoch(on_report, on_checkpoint, should_stop)
            # Before it is measured, which may take longer than a scheduler waits after SIGTERM.
            self._keep(on_checkpoint)
            if not (self.stopped or self._is_out_of_steps()):
                self._pulse.at(self._progress.step, Stage.MEASURING)
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
        self,
        on_report: Callable[[Report], None],
        on_checkpoint: Callable[[], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """The steps that are left of this epoch."""
        settings, epoch = self._recipe.training, self._progress.cursor.epoch
        batches = self._sampler.epoch(epoch)
        self.model.train()
        told, words_since = time.perf_counter(), 0
        for batch in range(self._progress.cursor.batch, len(batches)):
            self._pulse.at(self._progress.step + 1, Stage.STARTING)
            if self._ranks.any(should_stop(), self._device):
                self.stopped = True
                return
            self._pulse.enter(Stage.LOADING)
            rows, epochs = batches[batch], epoch + (batch + 1) / len(batches)
            nats, words = self.train_step(rows, epochs)
            self._progress = replace(self._progress, cursor=Cursor(epoch, batch + 1))
            if math.isfinite(nats):
                self._progress = replace(
                    count_step(self._progress),
                    epoch_nats=self._progress.epoch_nats + nats,
                    epoch_words=self._progress.epoch_words + words,
                )
            else:
                on_report(SkippedStep(epoch + 1, self._progress.step + 1))
                self._progress = count_skipped(self._progress)
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
        self._all_carried = gather_lanes(self._carried, self._ranks)
        on_checkpoint()

    def train_step(self, rows: Rows, epochs: float) -> tuple[float, int]:
        """One step of the optimizer; skipped if the loss or the gradient is not finite.

        A skipped step leaves weights, optimizer, average and carried state as they were. All
        workers skip the same steps: a loss that is not finite makes the gradient so, which the
        workers average.

        Args:
            rows: of the batch of all workers; this one takes its share.
            epochs: done after the step, with its fraction.

        Returns:
            The sum of -log p of this worker's targets, in nats, and their number; NaN for the sum
            if the step was skipped.
        """
        settings, config = self._recipe.training, self._recipe.optimizer
        seed = np.random.SeedSequence((settings.seed, self._progress.step, self._ranks.rank))
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        # Workers average their gradients: so scaled, the average is the gradient of the mean over
        # the targets of all of them.
        scale = self._ranks.world_size / self._train.num_targets(rows)
        done = epochs / settings.epochs
        self._optimizer.zero_grad(set_to_none=True)
        carried = self._carried
        mine = share(rows, self._ranks.rank, self._ranks.world_size)
        parts = [part for part in np.array_split(mine, settings.accumulate) if len(part)]
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for part in parts[:-1]:
            with self._unsynchronized():
                sums += self._learn(part, scale, done)
        # A worker without a row of its own keeps step with one that does not count.
        sums += self._learn(parts[-1] if parts else rows[:1], scale, done, counts=bool(parts))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        # The one place in a step that waits for the device.
        nats, tokens, gradient = torch.cat([sums, norm[None].double()]).tolist()
        failpoint("train-step", f"{self._progress.step}-{self._ranks.rank}")
        if not math.isfinite(gradient):
            self._carried = carried
            return math.nan, int(tokens)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, done)
        self._optimizer.step()
        if self._average:
            self._average.update(self.model, self._progress.step)
        return nats, int(tokens)

    def _unsynchronized(self) -> contextlib.AbstractContextManager[None]:
        """Gradients of a part add up here; the last part's pass brings all workers' together."""
        if isinstance(self._forcing, DistributedDataParallel):
            return self._forcing.no_sync()
        return contextlib.nullcontext()

    def _learn(self, rows: Rows, scale: float, done: float, *, counts: bool = True) -> Tensor:
        """Add the gradient of some rows; their nats, and the number of their targets, [2]."""
        batch = self._train.batch(rows)
        if not counts:
            batch = replace(batch, num_targets=torch.zeros_like(batch.num_targets))
        batch = batch.to(self._device)
        if self._lesson and counts and isinstance(self._train, Dataset):
            batch = self._lesson(batch, self._train.owners(rows), done)
        self._pulse.enter(Stage.COMPUTING)
        with self._precision():
            loss, nats, carried = self._forcing(batch, self._carried if counts else None)
        if counts:
            self._carried = carried
        # A loss may be infinite where its gradient is not.
        finite = (loss.detach() + nats).isfinite()
        (loss * torch.where(finite, scale, torch.nan)).backward()
        return torch.stack([nats.detach().double(), batch.num_targets.sum().double()])

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        """bfloat16 where it is fast, on a GPU; float32 on a CPU."""
        on_gpu = self._device.type == "cuda"
        precision: contextlib.AbstractContextManager[None] = torch.autocast(
            self._device.type, torch.bfloat16, enabled=on_gpu
        )
        return precision

    def _end_epoch(self) -> EpochReport:
        """Measure, compare with the best epoch, and move on to the next."""
        progress, settings = self._progress, self._recipe.training
        monitor, epoch = settings.monitor, progress.cursor.epoch + 1
        evaluated = self._average.model if self._average else self.model
        evaluated.eval()
        sums = self._ranks.gather((progress.epoch_nats, progress.epoch_words))
        measured, samples = self._validator.measure(evaluated)
        nats, words = sum(n for n, _ in sums), sum(w for _, w in sums)
        figures = {
            # An epoch whose steps were all skipped has none.
            **({"train/nats_per_token": nats / words} if words else {}),
            "train/learning_rate": learning_rate(self._recipe.optimizer, epoch / settings.epochs),
            **({"train/skipped_steps": float(progress.skipped)} if progress.skipped else {}),
            **{f"val/{name}": value for name, value in measured.items()},
        }
        if not math.isfinite(figures["val/nats_per_token"]):
            raise JobError(
                f"val/nats_per_token is {figures['val/nats_per_token']} in epoch {epoch}: the "
                "training has diverged; a smaller optimizer.learning_rate or optimizer.clip_norm "
                "may help"
            )
        value, best = figures[f"val/{monitor}"], progress.best_value
        is_best = best is None or (value < best if monitor in SMALLER_IS_BETTER else value > best)
        if is_best:
            self._best = {k: v.detach().clone() for k, v in evaluated.state_dict().items()}
        self._carried = None
        self._progress = Progress(
            cursor=Cursor(epoch, 0),
            step=progress.step,
            best_epoch=epoch if is_best else progress.best_epoch,
            best_value=value if is_best else best,
            history=(*progress.history, {"epoch": float(epoch), **figures}),
            skipped=progress.skipped,
            skipped_in_a_row=progress.skipped_in_a_row,
        )
        return EpochReport(epoch, progress.step, figures, is_best, samples)
