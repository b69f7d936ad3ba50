"""The training loop that each worker runs, from the first step to the last. It does not use Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.dataset import Dataset, make_sampler
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Cursor, Rows
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.metrics.sufficient_stats import smaller_is_better
from intertitle.training.evaluation.phase import Phase
from intertitle.training.models.base import Model, Sizes
from intertitle.training.trainer.checkpoint import Checkpoint, Progress
from intertitle.training.trainer.distributed import Ranks, StopVote
from intertitle.training.trainer.events import EpochReport, Report, SkippedStep, StepReport
from intertitle.training.trainer.numerics.nonfinite import count_skipped, count_step
from intertitle.training.trainer.optim import learning_rate
from intertitle.training.trainer.step import TrainingStep
from intertitle.training.trainer.validator import Validator
from intertitle.training.trainer.workers.watchdog import Pulse, Stage

REPORT_EVERY_S = 1.0
# Maximum number of steps whose results are left on the device: a training that has diverged ends
# after about as many.
MAX_UNREAD = 100


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
        step: model and optimizer.
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
        self._recipe, self._train, self._ranks = recipe, train, ranks
        vocabulary = len(vocabularies.target)
        self.step = TrainingStep(
            recipe, train, vocabulary, sizes, device, ranks, initial or {}, self._pulse
        )
        self._sampler = make_sampler(train, recipe.training, recipe.training.sampler)
        # Up to the last step whose results were read, and the results of the steps since then.
        self._progress = Progress()
        self._unread: list[Tensor] = []
        self._last_nats_per_token = math.nan
        self._all_carried: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._validator = Validator(recipe, val, vocabularies.target, ranks, self._pulse)
        self._vote = StopVote(ranks)
        self._report: Callable[[Report], None] = lambda _: None
        self.stopped = False

    @property
    def model(self) -> Model:
        """Model that is trained."""
        return self.step.model

    @property
    def progress(self) -> Progress:
        """Progress of the training so far; sums over its steps lack the last, unread ones."""
        cursor = self._progress.cursor
        return replace(
            self._progress,
            cursor=replace(cursor, batch=cursor.batch + len(self._unread)),
            step=self._num_steps,
        )

    @property
    def _num_steps(self) -> int:
        """Number of steps so far."""
        return self._progress.step + len(self._unread)

    def checkpoint(self) -> Checkpoint:
        """Return the whole state of the training; the tensors are not copied."""
        return Checkpoint(
            self._progress, best=self._best, rnn_state=self._all_carried, **self.step.tensors()
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint of the same recipe."""
        self._progress = checkpoint.progress
        if self._ranks.rank:
            # The checkpoint has the sums over all workers: only the first one continues with them.
            self._progress = replace(self._progress, epoch_nats=0.0, epoch_words=0)
        self._best = dict(checkpoint.best)
        self.step.restore(checkpoint)

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
                true on any of them, all end after a last checkpoint, and `stopped` is set. Several
                workers take one more step before.
        """
        self._report = on_report
        while not (self.stopped or self._is_out_of_steps() or self._is_out_of_epochs()):
            self._run_epoch(on_checkpoint, should_stop)
            # Save before measuring, which may take longer than a scheduler waits after SIGTERM.
            self._save_checkpoint(on_checkpoint)
            if not (self.stopped or self._is_out_of_steps()):
                self._pulse.at(self.progress.step, Stage.MEASURING)
                on_report(Phase("validating"))
                on_report(self._end_epoch())
                self._save_checkpoint(on_checkpoint)

    def _is_out_of_steps(self) -> bool:
        max_steps = self._recipe.training.max_steps
        return max_steps is not None and self.progress.step >= max_steps

    def _is_out_of_epochs(self) -> bool:
        settings, progress = self._recipe.training, self._progress
        done = progress.cursor.epoch
        return done >= settings.epochs or done - progress.best_epoch >= settings.patience

    def _run_epoch(
        self, on_checkpoint: Callable[[], None], should_stop: Callable[[], bool]
    ) -> None:
        """Run the remaining steps of the current epoch."""
        settings, epoch = self._recipe.training, self._progress.cursor.epoch
        batches = self._sampler.epoch(epoch)
        self.step.loader.begin(batches[self._progress.cursor.batch :])
        self.model.train()
        last_report, tokens_since = time.perf_counter(), 0
        for batch in range(self._progress.cursor.batch, len(batches)):
            self._pulse.at(self._num_steps + 1, Stage.STARTING)
            if self._vote.stops(should_stop()):
                self.stopped = True
                return
            self._pulse.enter(Stage.LOADING)
            rows, epochs = batches[batch], epoch + (batch + 1) / len(batches)
            self._unread.append(self.train_step(rows, epochs))
            tokens_since += self._train.num_targets(rows)
            now = time.perf_counter()
            if now - last_report >= REPORT_EVERY_S:
                self._read_results()
                self._report(
                    StepReport(
                        epoch=epoch + 1,
                        step=self._progress.step,
                        fraction_done=epochs / settings.epochs,
                        nats_per_token=self._last_nats_per_token,
                        tokens_per_s=tokens_since / (now - last_report),
                    )
                )
                last_report, tokens_since = now, 0
            elif len(self._unread) >= MAX_UNREAD:
                self._read_results()
            if self._is_out_of_steps():
                return
            if self._num_steps % settings.checkpoint_steps == 0:
                self._save_checkpoint(on_checkpoint)
        self.stopped = self._vote.read()

    def train_step(self, rows: Rows, epochs: float) -> Tensor:
        """Run one step; see `TrainingStep.run`."""
        return self.step.run(rows, self._num_steps, epochs)

    def _read_results(self) -> None:
        """Read the results of the steps since the last call, which waits for the device.

        Raises:
            JobError: too many of the steps had no effect.
        """
        results = torch.stack(self._unread).tolist() if self._unread else []
        self._unread = []
        for nats, tokens, norm in results:
            cursor = self._progress.cursor
            self._progress = replace(self._progress, cursor=Cursor(cursor.epoch, cursor.batch + 1))
            if math.isfinite(norm):
                self._progress = replace(
                    count_step(self._progress),
                    epoch_nats=self._progress.epoch_nats + nats,
                    epoch_words=self._progress.epoch_words + int(tokens),
                )
            else:
                nats = math.nan
                self._report(SkippedStep(cursor.epoch + 1, self._progress.step + 1))
                self._progress = count_skipped(self._progress)
            self._last_nats_per_token = nats / max(1, tokens)

    def _save_checkpoint(self, on_checkpoint: Callable[[], None]) -> None:
        """Save a checkpoint, that of the first worker, with the sums and states of all workers."""
        self._read_results()
        sums = self._ranks.gather((self._progress.epoch_nats, self._progress.epoch_words))
        if self._ranks.rank:
            sums = []
        self._progress = replace(
            self._progress,
            epoch_nats=sum((n for n, _ in sums), 0.0),
            epoch_words=sum(w for _, w in sums),
        )
        self._all_carried = self.step.gather_states()
        on_checkpoint()

    def _end_epoch(self) -> EpochReport:
        """Measure the model, compare it with the best epoch's, and advance to the next epoch."""
        progress, settings = self._progress, self._recipe.training
        monitor, epoch = settings.monitor, progress.cursor.epoch + 1
        evaluated = self.step.average.model if self.step.average else self.model
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
        if f"val/{monitor}" not in figures:
            reason = self._validator.not_measured.get(monitor, "it does not apply to the data")
            raise UserError(f"training.monitor: {monitor!r} is not measured: {reason}")
        value, best = figures[f"val/{monitor}"], progress.best_value
        is_best = best is None or (value < best if smaller_is_better(monitor) else value > best)
        if is_best:
            self._best = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in evaluated.state_dict().items()
            }
        self.step.carried = None
        self._progress = Progress(
            cursor=Cursor(epoch, 0),
            step=progress.step,
            best_epoch=epoch if is_best else progress.best_epoch,
            best_value=value if is_best else best,
            history=(*progress.history, {"epoch": float(epoch), **figures}),
            skipped=progress.skipped,
            skipped_in_a_row=progress.skipped_in_a_row,
        )
        search = self._validator.search_name
        return EpochReport(epoch, progress.step, figures, is_best, samples, search)
