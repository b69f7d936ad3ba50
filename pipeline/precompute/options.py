"""What a call of `precompute` is asked, what it says on the way, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.errors import UserError
from pipeline.limits import Limits
from pipeline.sampling import Sampling
from pipeline.shards import SUFFIXES, Format
from pipeline.snapshot import ItemRecord


@dataclass(frozen=True, slots=True)
class PrecomputeOptions:
    """How features are made.

    Attributes:
        backbone: name of the network.
        sampling: which frames of a video.
        features: "pooled", a vector a frame, or "grid", one for every cell of the last grid.
        format: of the shards, "arrow" or "webdataset".
        shard_items: how many items a shard holds.
        workers: how many backbone workers; None is one a GPU, or one a core without GPUs.
        limits: what an item may cost.
        stop_failed: the share of failures that ends a call, once it has seen enough items.
        stop_internal: how many items may fail with an error that nobody foresaw, a defect of the
            program, before the call is ended.
        retry_failed: whether items in quarantine are tried again, changed or not.
    """

    backbone: str
    sampling: Sampling
    features: str = "pooled"
    format: Format = "arrow"
    shard_items: int = 256
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)
    stop_failed: float = 0.5
    stop_internal: int = 20
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise UserError(f"format: {self.format!r}, allowed: {', '.join(SUFFIXES)}")
        if self.stop_internal < 0:
            raise UserError(f"stop_internal: {self.stop_internal}, allowed: 0 or more")
        for name, value in (("shard_items", self.shard_items), ("workers", self.workers)):
            if value is not None and value < 1:
                raise UserError(f"{name}: {value}, allowed: 1 or more")


@dataclass(frozen=True, slots=True)
class PrecomputeReport:
    """What a call did; stored and quarantined items are together every item of the corpus.

    Attributes:
        snapshot: the id of the snapshot it published, or found up to date.
        stored: how many items have features.
        degraded: how many of these are of damaged files, of which only a part could be read.
        quarantined: the items that have none, and why.
        missing_files: of how many stored items the file is away; their features stay.
        skipped: how many, of all, were as they had been and were left alone.
    """

    snapshot: str
    stored: int
    degraded: int
    quarantined: tuple[ItemRecord, ...]
    skipped: int
    missing_files: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is: items `done` of `total`, of which `failed` go to quarantine."""

    done: int
    total: int
    failed: int
