"""What a training tells of itself as it goes."""

from __future__ import annotations

from dataclasses import dataclass

from training.evaluation.sample import Sample


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a training goes, about once a second.

    Attributes:
        epoch: counted from 1.
        step: the optimizer's steps done.
        done: share of all the training, 0..1.
        nats_per_token: of this worker's last batch.
        tokens_per_s: tokens told by all workers.
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
        samples: what the model tells of a few validation examples.
    """

    epoch: int
    step: int
    figures: dict[str, float]
    is_best: bool
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class SkippedStep:
    """A step was skipped, as its loss or its gradient was not finite.

    Attributes:
        epoch: counted from 1.
        step: counted from 1.
    """

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class FellBack:
    """The newest checkpoint was damaged, and the training goes on from an older one.

    Attributes:
        used: the older one's name.
        damages: what is wrong with each newer one; they are now called damaged_checkpoint_*.
    """

    used: str
    damages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """Something of the data is not used as a user may expect.

    Attributes:
        text: one line.
    """

    text: str


@dataclass(frozen=True, slots=True)
class NotKept:
    """There was no space for a checkpoint; the training goes on, and its last one is still there.

    Attributes:
        step: that it was of.
        reason: names the place.
    """

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerHung:
    """A worker made no progress and was ended; the training goes on from its last checkpoint.

    Attributes:
        rank: of the worker.
        step: that it was at, counted from 1.
        seconds: without progress.
    """

    rank: int
    step: int
    seconds: float


Report = StepReport | EpochReport | SkippedStep | FellBack | NotKept | WorkerHung | Warned
