"""The training loop that each worker runs, from the first step to the last. It does not use Ray."""

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

from intertitle.pipeline.errors import JobError
from intertitle.pipeline.failpoints import failpoint
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.dataset import Dataset, make_sampler
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Cursor, Rows, share
from intertitle.training.data.task import VisualInput
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.sufficient_stats import SMALLER_IS_BETTER
from intertitle.training.models.base import Model, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.rnn import RNNState
from intertitle.training.trainer.batch_transforms import make_batch_transform
from intertitle.training.trainer.checkpoint import (
    Checkpoint,
    Progress,
    optimizer_tensors,
    restore_optimizer,
)
from intertitle.training.trainer.distributed import Ranks, gather_stream_states, split_stream_states
from intertitle.training.trainer.events import EpochReport, Report, SkippedStep, StepReport
from intertitle.training.trainer.losses import SequenceLoss
from intertitle.training.trainer.nonfinite import count_skipped, count_step
from intertitle.training.trainer.optim import ParameterAverage, learning_rate, make_optimizer
from intertitle.training.trainer.validator import Validator
from intertitle.training.trainer.workers.watchdog import Pulse, Stage

# Number of training examples that the scale of the features is estimated from; a grid has many
# vectors per frame.
MEASURED_EXAMPLES: dict[VisualInput, int] = {"nothing": 0, "pooled": 5000, "grid": 500}
REPORT_EVERY_S = 1.0


class TrainingLoop:
    """Training loop of one worker.

    Args:
        recipe: recipe of the training.
        vocabularies: vocabularies of the texts.
        train: split to train on.
        val: split to measure on after each epoch.
        sizes: sizes of the model that depend on the data.
        device: device to compute on.
        ranks: rank of this worker, for communication with the others.
        initial: weights to initialize the model with, by name; missing ones are initialized at
            random.
        pulse: progress that is reported to the watchdog.

    Attributes:
        model: model that is trained.
        stopped: whether the training ended because a stop was requested.
    """

    def __init__(
        self,
        recipe: Recipe,
        vocabularies: Vocabs,
        train: Dataset | LanguageModelDataset,
        val: Dataset | LanguageModelDataset,
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
        if isinstance(train, Dataset) and train.task.visual_input != "nothing":
            sampled = train.sample_features(MEASURED_EXAMPLES[train.task.visual_input])
            self.model.fit_normalizer([torch.tensor(features) for features in sampled])
        self.model.load_state_dict(initial or {}, strict=False)
        self.model.to(device)
        decay = recipe.optimizer.average_decay
        self._average = ParameterAverage(self.model, decay) if decay else None
        self._optimizer = make_optimizer(self.model, recipe.optimizer)
        forcing = SequenceLoss(
            self.model, len(vocabularies.target), recipe.optimizer.label_smoothing
        )
        self._forcing: nn.Module = (
            forcing if ranks.world_size == 1 else DistributedDataParallel(forcing)
        )
        self._lesson = make_batch_transform(recipe, self.model, train)
        self._sampler = make_sampler(train, settings)
        self._progress = Progress()
        self._carried: RNNState | None = None
        self._all_carried: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._validator = Validator(recipe, val, vocabularies.target, ranks, self._pulse)
        self.stopped = False

    @property
    def progress(self) -> Progress:
        """Progress of the training so far."""
        return self._progress

    def checkpoint(self) -> Checkpoint:
        """Return the whole state of the training; the tensors are not copied."""
        return Checkpoint(
            self._progress,
            self.model.state_dict(),
            self._average.model.state_dict() if self._average else {},
            self._best,
            optimizer_tensors(self._optimizer),
            self._all_carried,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint of the same recipe."""
        self._progress = checkpoint.progress
        if self._ranks.rank:
            # The checkpoint has the sums over all workers: only the first one continues with them.
            self._progress = replace(self._progress, epoch_nats=0.0, epoch_words=0)
        self.model.load_state_dict(checkpoint.weights)
        if self._average:
            self._average.model.load_state_dict(checkpoint.average)
        self._best = {name: tensor.to(self._device) for name, tensor in checkpoint.best.items()}
        restore_optimizer(self._optimizer, checkpoint.optimizer)
        carried = split_stream_states(checkpoint.rnn_state, self._ranks)
        self._carried = carried and carried.to(self._device)

    def run(
        self,
        on_report: Callable[[Report], None] = lambda _: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until the recipe's limits are reached, or until a stop is requested.

        Args:
            on_report: callback for reports, called on every worker.
            on_checkpoint: callback that saves the result of `checkpoint`, called on every worker at
                the same steps.
            should_stop: function that is called before each step, on every worker; if it returns
                true on any of them, all end after a last checkpoint, and `stopped` is set.
        """
        while not (self.stopped or self._is_out_of_steps() or self._is_out_of_epochs()):
            self._run_epoch(on_report, on_checkpoint, should_stop)
            # Save before measuring, which may take longer than a scheduler waits after SIGTERM.
            self._save_checkpoint(on_checkpoint)
            if not (self.stopped or self._is_out_of_steps()):
                self._pulse.at(self._progress.step, Stage.MEASURING)
                on_report(self._end_epoch())
                self._save_checkpoint(on_checkpoint)

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
        """Run the remaining steps of the current epoch."""
        settings, epoch = self._recipe.training, self._progress.cursor.epoch
        batches = self._sampler.epoch(epoch)
        self.model.train()
        last_report, tokens_since = time.perf_counter(), 0
        for batch in range(self._progress.cursor.batch, len(batches)):
            self._pulse.at(self._progress.step + 1, Stage.STARTING)
            if self._ranks.any(should_stop(), self._device):
                self.stopped = True
                return
            self._pulse.enter(Stage.LOADING)
            rows, epochs = batches[batch], epoch + (batch + 1) / len(batches)
            nats, tokens = self.train_step(rows, epochs)
            self._progress = replace(self._progress, cursor=Cursor(epoch, batch + 1))
            if math.isfinite(nats):
                self._progress = replace(
                    count_step(self._progress),
                    epoch_nats=self._progress.epoch_nats + nats,
                    epoch_words=self._progress.epoch_words + tokens,
                )
            else:
                on_report(SkippedStep(epoch + 1, self._progress.step + 1))
                self._progress = count_skipped(self._progress)
            tokens_since += self._train.num_targets(rows)
            now = time.perf_counter()
            if now - last_report >= REPORT_EVERY_S:
                on_report(
                    StepReport(
                        epoch=epoch + 1,
                        step=self._progress.step,
                        fraction_done=epochs / settings.epochs,
                        nats_per_token=nats / max(1, tokens),
                        tokens_per_s=tokens_since / (now - last_report),
                    )
                )
                last_report, tokens_since = now, 0
            if self._is_out_of_steps():
                return
            if self._progress.step % settings.checkpoint_steps == 0:
                self._save_checkpoint(on_checkpoint)

    def _save_checkpoint(self, on_checkpoint: Callable[[], None]) -> None:
        """Save a checkpoint, that of the first worker, with the sums and states of all workers."""
        sums = self._ranks.gather((self._progress.epoch_nats, self._progress.epoch_words))
        if self._ranks.rank:
            sums = []
        self._progress = replace(
            self._progress,
            epoch_nats=sum((n for n, _ in sums), 0.0),
            epoch_words=sum(w for _, w in sums),
        )
        self._all_carried = gather_stream_states(self._carried, self._ranks)
        on_checkpoint()

    def train_step(self, rows: Rows, epochs: float) -> tuple[float, int]:
        """Run one optimizer step; it is skipped if the loss or the gradient is not finite.

        A skipped step leaves the weights, the optimizer, the average and the recurrent state
        unchanged. All workers skip the same steps: a loss that is not finite makes the gradient not
        finite, and the workers average their gradients.

        Args:
            rows: rows of the batch over all workers; this worker takes its share.
            epochs: number of epochs completed after the step, with a fraction.

        Returns:
            The sum of -log p of this worker's targets, in nats, and their number; the sum is NaN if
            the step was skipped.
        """
        settings, config = self._recipe.training, self._recipe.optimizer
        seed = np.random.SeedSequence((settings.seed, self._progress.step, self._ranks.rank))
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        # DistributedDataParallel averages gradients over the workers. With this scale, the average
        # is the gradient of the mean over the targets of all workers.
        scale = self._ranks.world_size / self._train.num_targets(rows)
        done = epochs / settings.epochs
        self._optimizer.zero_grad(set_to_none=True)
        carried = self._carried
        own_rows = share(rows, self._ranks.rank, self._ranks.world_size)
        parts = [part for part in np.array_split(own_rows, settings.accumulate) if len(part)]
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for part in parts[:-1]:
            with self._unsynchronized():
                sums += self._backward(part, scale, done)
        # A worker whose share is empty computes a row that does not count, so that the workers stay
        # synchronized.
        sums += self._backward(parts[-1] if parts else rows[:1], scale, done, counts=bool(parts))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        # The only place in a step that waits for the device.
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
        """Return a context in which gradients accumulate on this worker only.

        The backward pass of the last part, outside of this context, synchronizes all workers.
        """
        if isinstance(self._forcing, DistributedDataParallel):
            return self._forcing.no_sync()
        return contextlib.nullcontext()

    def _backward(self, rows: Rows, scale: float, done: float, *, counts: bool = True) -> Tensor:
        """Add the gradient of some rows.

        Args:
            rows: rows of the training split.
            scale: factor of the loss.
            done: completed fraction of the training, 0..1.
            counts: whether the targets count; otherwise the gradient is 0.

        Returns:
            The sum of the targets' -log p, in nats, and the number of targets, float64, [2].
        """
        batch = self._train.batch(rows)
        if not counts:
            batch = replace(batch, target_lengths=torch.zeros_like(batch.target_lengths))
        batch = batch.to(self._device)
        if self._lesson and counts and isinstance(self._train, Dataset):
            batch = self._lesson(batch, self._train.example_index(rows), done)
        self._pulse.enter(Stage.COMPUTING)
        with self._precision():
            loss, nats, carried = self._forcing(batch, self._carried if counts else None)
        if counts:
            self._carried = carried
        # The loss may be infinite although its gradient is finite: such a gradient becomes NaN.
        finite = (loss.detach() + nats).isfinite()
        (loss * torch.where(finite, scale, torch.nan)).backward()
        return torch.stack([nats.detach().double(), batch.target_lengths.sum().double()])

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        """Return an autocast context: bfloat16 on a GPU, where it is fast; float32 on a CPU."""
        on_gpu = self._device.type == "cuda"
        precision: contextlib.AbstractContextManager[None] = torch.autocast(
            self._device.type, torch.bfloat16, enabled=on_gpu
        )
        return precision

    def _end_epoch(self) -> EpochReport:
        """Measure the model, compare it with the best epoch's, and advance to the next epoch."""
        progress, settings = self._progress, self._recipe.training
        monitor, epoch = settings.monitor, progress.cursor.epoch + 1
        evaluated = self._average.model if self._average else self.model
        evaluated.eval()
        sums = self._ranks.gather((progress.epoch_nats, progress.epoch_words))
        measured, samples = self._validator.measure(evaluated)
        nats, tokens = sum(n for n, _ in sums), sum(w for _, w in sums)
        figures = {
            # An epoch in which all steps were skipped has no training loss.
            **({"train/nats_per_token": nats / tokens} if tokens else {}),
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
