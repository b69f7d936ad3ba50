"""What a slot learns from: how much may be in quarantine, and whose snapshot it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.jobs.retraining import data as of_slot
from intertitle.jobs.retraining.config import RetrainConfig
from intertitle.jobs.retraining.data import SlotData
from intertitle.pipeline.errors import JobError
from intertitle.pipeline.feature_store.snapshot import ItemRecord
from intertitle.pipeline.precompute.options import PrecomputeReport

QUARANTINED = ItemRecord("key", "key.mp4", "video", stage="decode", error="empty", message="empty")


def slot_data(folder: Path, **settings: object) -> SlotData:
    config = {
        "model": "clips",
        "data": {"corpus": str(folder), "features": str(folder / "features"), **settings},
        "train": {"recipe": "mean_pool_video", "checkpoints": str(folder / "checkpoints")},
        "frozen": {"corpus": str(folder), "features": str(folder / "frozen-features")},
        "gate": {"metric": "meteor"},
    }
    return SlotData(RetrainConfig.model_validate(config), "pin")


def precomputed(monkeypatch: pytest.MonkeyPatch, stored: int, failed: int, published: str) -> None:
    """`precompute` ends so, after which the store's pointer names a snapshot."""
    report = PrecomputeReport("made", stored, 0, (QUARANTINED,) * failed, 0)
    monkeypatch.setattr(of_slot, "run_precompute", lambda *_: report)
    monkeypatch.setattr(of_slot, "pin_snapshot", lambda *_: published)


@pytest.mark.parametrize(
    ("failed", "allowed", "refused"),
    [(2, 0.1, False), (3, 0.1, True), (1, 0, True), (19, 0.95, False)],
)
def test_more_items_in_quarantine_than_allowed_end_a_slot(
    failed: int, allowed: float, refused: bool, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = slot_data(clips, allow_failed=allowed)
    precomputed(monkeypatch, 20 - failed, failed, "made")
    for make, store in (
        (data.make_features, "features"),
        (data.make_frozen_features, "frozen-features"),
    ):
        if not refused:
            make()
            continue
        told = (
            rf"{clips}/{store}: {failed} of 20 items in quarantine, allowed: a share of {allowed}"
        )
        with pytest.raises(JobError, match=told):
            make()


def test_a_snapshot_that_another_process_published_is_not_learned_from(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precomputed(monkeypatch, 20, 0, "another")
    with pytest.raises(JobError, match="another process published a snapshot meanwhile"):
        slot_data(clips).make_features()
