"""Options, progress events and report of `precompute`."""

from __future__ import annotations

from dataclasses import dataclass, field

from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.shards import SUFFIXES, Format
from intertitle.pipeline.feature_store.snapshot import ItemRecord


@dataclass(frozen=True, slots=True)
class PrecomputeOptions:
    """Options of `precompute`.

    Attributes:
        backbone: name of the backbone.
        sampling: rule that selects the frames of a video.
        features: "pooled", one vector per frame, or "grid", one vector per cell of the backbone's
            last feature map.
        format: file format of the shards, "arrow" or "webdataset".
        shard_items: number of items per shard.
        workers: number of backbone workers; None starts one per GPU, or one per CPU core without
            GPUs.
        limits: limits on the resources that decoding an item may use.
        stop_failed: share of failed items above which the call ends, once enough items were tried.
        stop_internal: maximum number of items that may fail with an unexpected error, a defect of
            the program, before the call ends.
        retry_failed: whether quarantined items are tried again even if their files are unchanged.
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
    """Result of `precompute`; every item of the corpus is either stored or quarantined.

    Attributes:
        snapshot: id of the snapshot that was published or was already up to date.
        stored: number of items that have features.
        degraded: number of stored items whose files are damaged and could be read only in part.
        quarantined: records of the items without features, with the reasons.
        missing_files: number of stored items whose files are missing; their features stay.
        skipped: number of items, stored or quarantined, that were unchanged and not processed.
    """

    snapshot: str
    stored: int
    degraded: int
    quarantined: tuple[ItemRecord, ...]
    skipped: int
    missing_files: int = 0


@dataclass(frozen=True, slots=True)
class PrecomputeProgress:
    """Progress of a call: `done` of `total` items are finished, `failed` of them quarantined."""

    done: int
    total: int
    failed: int
