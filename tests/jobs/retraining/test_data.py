"""What a slot learns from: how much may be in quarantine, and whose snapshot it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from intertitle.jobs.retraining import data as of_slot
from intertitle.jobs.retraining.config import RetrainConfig
from intertitle.jobs.retraining.data import SlotData, pin_new
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import JobError
from intertitle.pipeline.feature_store.snapshot import ItemRecord
from intertitle.pipeline.precompute.options import PrecomputeOptions, PrecomputeReport
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.precompute.planning import all_rejected, make_corpus

QUARANTINED = ItemRecord("key", "key.mp4", "video", stage="decode", error="empty", message="empty")


def slot_config(folder: Path, **settings: object) -> RetrainConfig:
    config = {
        "model": "clips",
        "data": {"corpus": str(folder), "features": str(folder / "features"), **settings},
        "train": {"recipe": "mean_pool_video", "checkpoints": str(folder / "checkpoints")},
        "frozen": {"corpus": str(folder), "features": str(folder / "frozen-features")},
        "gate": {"metric": "meteor"},
    }
    return RetrainConfig.model_validate(config)


def slot_data(folder: Path, **settings: object) -> SlotData:
    return SlotData(slot_config(folder, **settings), "pin")


def precomputed(monkeypatch: pytest.MonkeyPatch, stored: int, failed: int, published: str) -> None:
    """`precompute` ends so, after which the store's pointer names a snapshot."""
    report = PrecomputeReport("made", stored, 0, (QUARANTINED,) * failed, 0)
    monkeypatch.setattr(of_slot, "run_precompute", lambda *_: report)
    monkeypatch.setattr(of_slot, "pin_snapshot", lambda *_: published)


def test_each_store_is_computed_by_its_network_and_pinned(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"features": ["frames", "motion"], "backbone": ["one", "two"]}
    frozen = {"corpus": str(clips), "features": ["frozen-frames", "frozen-motion"]}
    tree = slot_config(clips).model_dump() | {"frozen": frozen}
    tree["data"] |= settings
    data = SlotData(RetrainConfig.model_validate(tree), "pin")
    precomputed(monkeypatch, 20, 0, "made")
    computed = []

    def run_precompute(_: Corpus, store: UPath, options: PrecomputeOptions) -> PrecomputeReport:
        computed.append((store.name, options.backbone))
        return PrecomputeReport("made", 20, 0, (), 0)

    monkeypatch.setattr(of_slot, "run_precompute", run_precompute)
    data.make_features()
    assert computed == [("frames", "one"), ("motion", "two")]
    data.make_frozen_features()
    assert computed[2:] == [("frozen-frames", "one"), ("frozen-motion", "two")]


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


def test_a_corpus_keeps_its_languages_when_a_slot_imports_it(tmp_path: Path) -> None:
    for language in ("en", "zh"):
        (tmp_path / f"train.{language}").write_text("one\ntwo\n")
    config = slot_config(
        tmp_path,
        format="parallel",
        source=[str(tmp_path)],
        source_language="en",
        target_language="zh",
    )
    pin = pin_new(config, "night")
    assert Corpus(tmp_path, pin).target_language == Corpus(tmp_path).target_language == "zh"


def test_a_file_that_stays_unreadable_is_no_new_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, store = make_corpus(tmp_path, "ab"), as_path(tmp_path / "features")
    (store / "shards").mkdir(parents=True)
    snapshot = all_rejected(corpus, store, "unavailable")
    monkeypatch.setattr(of_slot, "current_snapshot", lambda _: snapshot)
    assert slot_data(tmp_path).has_features()
    (tmp_path / "a.png").write_text("repaired")
    assert not slot_data(tmp_path).has_features()
