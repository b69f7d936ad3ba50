"""One optimizer step of a worker. Only objectives that sample from the model wait for the device.

What the device finds out, such as whether the gradient is finite, it also acts on; the results of a
step are a small tensor, which the loop reads when it has something to report.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.arrays.loader import Loader
from intertitle.training.data.batch import Batch
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Rows, share
from intertitle.training.data.task import VisualInput
from intertitle.training.models.base import Model, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.rnn import RNNState
from intertitle.training.trainer.batch_transforms import consensus_weights, make_batch_transform
from intertitle.training.trainer.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from intertitle.training.trainer.distributed import (
    Ranks,
    gather_stream_states,
    split_stream_states,
)
from intertitle.training.trainer.losses import SequenceLoss
from intertitle.training.trainer.numerics.precision import LossScale, autocast, precision_of
from intertitle.training.trainer.optim import (
    ParameterAverage,
    learning_rate,
    make_optimizer,
    step_if,
)
from intertitle.training.trainer.workers.watchdog import Pulse, Stage

# Number of training examples that the scale of the features is estimated from; a grid has many
# vectors per frame.
MEASURED_EXAMPLES: dict[VisualInput, int] = {"pooled": 5000, "grid": 500}


class TrainingStep:
    """A model with its optimizer, and all that a step changes.

    Args:
        recipe: recipe of the training.
        train: split to train on; its weights are set if the objective has some.
        vocabulary: size of the target vocabulary.
        sizes: sizes of the model that depend on the data.
        device: device to compute on.
        ranks: rank of this worker.
        initial: weights to initialize the model with, by name.
        pulse: progress that is reported to the watchdog.

    Attributes:
        model: model that is trained.
        average: running average of the weights, or None.
        carried: recurrent state after the last window of running text, or None.
        loader: loader of the batches; `begin` prepares those of an epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Dataset | LanguageModelDataset,
        vocabulary: int,
        sizes: Sizes,
        device: torch.device,
        ranks: Ranks,
        initial: Mapping[str, Tensor],
        pulse: Pulse,
    ) -> None:
        self._recipe, self._train = recipe, train
        self._device, self._ranks, self._pulse = device, ranks, pulse
        torch.manual_seed(recipe.training.seed)
        self.model: Model = build_model(recipe.model, sizes)
        if isinstance(train, Dataset) and train.task.visual_input != "nothing":
            sampled = train.sample_features(MEASURED_EXAMPLES[train.task.visual_input])
            self.model.fit_normalizer([torch.tensor(features) for features in sampled])
        self.model.load_state_dict(initial, strict=False)
        self.model.to(device)
        ranks.broadcast_weights(self.model)
        decay = recipe.optimizer.average_decay
        self.average = ParameterAverage(self.model, decay) if decay else None
        self._optimizer = make_optimizer(self.model, recipe.optimizer)
        self._loss = SequenceLoss(self.model, vocabulary, recipe.optimizer.label_smoothing)
        self._precision = precision_of(recipe.training)
        self._loss_scale = LossScale(self._precision, device)
        if recipe.objective.kind == "consensus":
            assert isinstance(train, Dataset)
            train.weights = consensus_weights(train.references())
        self._transform = make_batch_transform(recipe, self.model, train)
        self.carried: RNNState | None = None
        if isinstance(train, Dataset):
            train.place_features(device, recipe.training.features_on)
        self.loader = Loader(self._assemble, device)

    def run(self, rows: Rows, number: int, epochs: float) -> Tensor:
        """Run one optimizer step; it has no effect if the loss or the gradient is not finite.

        Then the weights, the optimizer, the average and the recurrent state stay unchanged. All
        workers skip the same steps: a loss that is not finite makes the gradient not finite, and
        the workers add up their gradients.

        Args:
            rows: rows of the batch over all workers; this worker takes its share.
            number: number of the step, from 0.
            epochs: number of epochs completed after the step, with a fraction.

        Returns:
            The sum of -log p of this worker's targets, in nats, their number, and the norm of the
            gradient, which is not finite if the step had no effect; float64, [3], on the device.
        """
        settings, config = self._recipe.training, self._recipe.optimizer
        seed = np.random.SeedSequence((settings.seed, number, self._ranks.rank))
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
        scale, done = 1 / self._train.num_targets(rows), epochs / settings.epochs
        self._optimizer.zero_grad(set_to_none=True)
        carried = self.carried
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for part, batch in zip(self._parts(rows), self.loader.take(rows), strict=True):
            sums += self._backward(part, batch.to(self._device), scale, done)
        self._ranks.sum_gradients(self.model)
        self._loss_scale.unscale(self.model)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        finite = norm.isfinite()
        self._loss_scale.update(finite)
        failpoint("train-step", f"{number}-{self._ranks.rank}")
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, done)
        step_if(finite, self._optimizer)
        if self.average:
            self.average.update(self.model, number, finite)
        if self.carried is not None:
            self.carried = self.carried.where(finite, carried)
        return torch.cat([sums, norm[None].double()])

    def _parts(self, rows: Rows) -> list[Rows]:
        """Return this worker's share of a batch, in the parts that are computed one by one."""
        own_rows = share(rows, self._ranks.rank, self._ranks.world_size)
        parts = np.array_split(own_rows, self._recipe.training.accumulate)
        return [part for part in parts if len(part)]

    def _assemble(self, rows: Rows) -> list[Batch]:
        return [self._train.batch(part) for part in self._parts(rows)]

    def _backward(self, rows: Rows, batch: Batch, scale: float, done: float) -> Tensor:
        """Add the gradient of some rows.

        Args:
            rows: rows of the training split.
            batch: batch of these rows, on the device.
            scale: factor of the loss.
            done: completed fraction of the training, 0..1.

        Returns:
            The sum of the targets' -log p, in nats, and the number of targets, float64, [2].
        """
        if self._transform and isinstance(self._train, Dataset):
            # Sampled in the precision that is differentiated; a context of its own, because
            # autocast keeps the weights that it casts without gradients.
            with autocast(self._precision, self._device):
                batch = self._transform(batch, self._train.example_index(rows), done)
        self._pulse.enter(Stage.COMPUTING)
        with autocast(self._precision, self._device):
            loss, nats, self.carried = self._loss(batch, self.carried)
        # The loss may be infinite although its gradient is finite: such a gradient becomes NaN.
        finite = (loss.detach() + nats).isfinite()
        factor = scale * self._loss_scale.factor
        (loss * torch.where(finite, factor, torch.nan)).backward()
        return torch.stack([nats.detach().double(), batch.target_lengths.sum().double()])

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state from a checkpoint of the same recipe."""
        self.model.load_state_dict(checkpoint.weights)
        if self.average:
            self.average.model.load_state_dict(checkpoint.average)
        restore_optimizer(self._optimizer, checkpoint.optimizer)
        self._loss_scale.restore(checkpoint.loss_scale)
        carried = split_stream_states(checkpoint.rnn_state, self._ranks)
        self.carried = carried and carried.to(self._device)

    def gather_states(self) -> dict[str, Tensor]:
        """Return the recurrent states of all workers, which all must call this."""
        return gather_stream_states(self.carried, self._ranks)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the state of this worker by the names of a checkpoint's attributes, not copied."""
        return {
            "weights": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average else {},
            "optimizer": optimizer_tensors(self._optimizer),
            "loss_scale": self._loss_scale.state(),
        }
