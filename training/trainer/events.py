"""Events that a training reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from intertitle.training.evaluation.phase import Phase
from intertitle.training.evaluation.sample import Sample


@dataclass(frozen=True, slots=True)
class StepReport:
    """Progress of a training, reported about once a second.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of completed optimizer steps.
        fraction_done: completed fraction of the whole training, 0..1.
        nats_per_token: mean negative log-likelihood of this worker's last batch.
        tokens_per_s: target tokens per second, over all workers.
    """

    epoch: int
    step: int
    fraction_done: float
    nats_per_token: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Results of an epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of completed optimizer steps.
        figures: values by name, "train/..." and "val/...".
        search: search of the validation's predictions, such as "greedy search"; "" without one.
        is_best: whether it is the best epoch so far.
        samples: model outputs for a few validation examples.
    """

    epoch: int
    step: int
    figures: dict[str, float]
    is_best: bool
    samples: tuple[Sample, ...]
    search: str = ""


@dataclass(frozen=True, slots=True)
class SkippedStep:
    """A step that was skipped because its loss or its gradient was not finite.

    Attributes:
        epoch: number of the epoch, from 1.
        step: number of the step, from 1.
    """

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class CheckpointFallback:
    """The newest checkpoint was damaged, and the training resumes from an older one.

    Attributes:
        used: name of the older checkpoint.
        damages: error of each newer checkpoint; these are now named damaged_checkpoint_*.
    """

    used: str
    damages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """A part of the data is not used as a user may expect.

    Attributes:
        text: warning, one line.
    """

    text: str


@dataclass(frozen=True, slots=True)
class NotKept:
    """A checkpoint was not written because there was no space.

    The training continues, and its previous checkpoint still exists.

    Attributes:
        step: step of the checkpoint.
        reason: error message, which names the path.
    """

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerHung:
    """A worker made no progress and was killed; the training resumes from its last checkpoint.

    Attributes:
        rank: rank of the worker.
        step: step in which it hung, from 1.
        seconds: time without progress.
    """

    rank: int
    step: int
    seconds: float


Report = (
    Phase
    | StepReport
    | EpochReport
    | SkippedStep
    | CheckpointFallback
    | NotKept
    | WorkerHung
    | Warned
)
