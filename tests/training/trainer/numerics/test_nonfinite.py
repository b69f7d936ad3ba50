"""A step whose loss or gradient is not finite changes nothing, is counted, and is never kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.pipeline.errors import JobError
from intertitle.training.data.batch import Batch
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.models.build import task_of
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, Progress
from intertitle.training.trainer.events import EpochReport, Report, SkippedStep
from intertitle.training.trainer.loop import TrainingLoop
from intertitle.training.trainer.numerics.nonfinite import (
    MAX_SKIPPED_IN_A_ROW,
    MIN_SKIPPED,
    count_skipped,
    count_step,
)
from tests.training.conftest import make_loop, open_data_ref, small_recipe
from tests.training.workers import two_workers

RECIPE = small_recipe("s2vt", "training.epochs=1", "optimizer.average_decay=0.9")


def overflow(batch: Batch) -> Batch:
    """The same batch with features whose products are infinite."""
    return replace(batch, features=batch.features * 1e38)


def state_of(loop: TrainingLoop) -> dict[str, torch.Tensor]:
    checkpoint = loop.checkpoint()
    groups = ("weights", "average", "optimizer")
    return {f"{g}/{n}": t.clone() for g in groups for n, t in getattr(checkpoint, g).items()}


def infinite_loss(loop: TrainingLoop, patch: pytest.MonkeyPatch) -> None:
    """Its gradient is finite."""
    forward = loop.step._loss.forward

    def forced(*given: Any) -> Any:
        loss, nats, carried = forward(*given)
        return loss + torch.inf, nats, carried

    patch.setattr(loop.step._loss, "forward", forced)


def infinite_gradient(loop: TrainingLoop, patch: pytest.MonkeyPatch) -> None:
    """Its loss is finite."""
    handle = loop.model.words.bias.register_hook(lambda gradient: gradient + torch.inf)  # type: ignore[union-attr, operator]
    patch.setattr(loop, "_unhook", handle.remove, raising=False)


def overflowing_batch(loop: TrainingLoop, patch: pytest.MonkeyPatch) -> None:
    batch = loop._train.batch
    patch.setattr(loop._train, "batch", lambda rows: overflow(batch(rows)))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fault", [overflowing_batch, infinite_loss, infinite_gradient])
def test_a_step_that_is_not_finite_changes_nothing(
    fault: Any,
    accumulate: int,
    things: DataRef,
    words: Vocabs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = RECIPE.training.model_copy(update={"accumulate": accumulate})
    loop = make_loop(things, words, RECIPE.model_copy(update={"training": settings}))
    loop.model.train()
    first, second, *_ = loop._sampler.epoch(0)
    nats, tokens, norm = loop.train_step(first, 0.1).tolist()
    assert nats > 0
    assert norm > 0
    before = state_of(loop)
    with monkeypatch.context() as patch:
        fault(loop, patch)
        _, tokens, norm = loop.train_step(second, 0.2).tolist()
    assert not math.isfinite(norm)
    assert tokens == loop._train.num_targets(second)
    after = state_of(loop)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_a_skipped_step_is_told_counted_and_the_training_goes_on(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, reports = make_loop(things, words, RECIPE), list[Report]()
    batch = loop._train.batch

    def fifth_overflows(rows: Any) -> Batch:
        made = batch(rows)
        return overflow(made) if loop.progress.step == 4 else made

    monkeypatch.setattr(loop._train, "batch", fifth_overflows)
    loop.run(reports.append)
    assert [r for r in reports if isinstance(r, SkippedStep)] == [SkippedStep(1, 5)]
    (epoch,) = [r for r in reports if isinstance(r, EpochReport)]
    assert epoch.figures["train/skipped_steps"] == 1
    assert epoch.step == len(loop._sampler.epoch(0))
    progress = loop.progress
    assert (progress.skipped, progress.skipped_in_a_row) == (1, 0)
    assert loop.checkpoint().first_not_finite() is None
    assert epoch.figures["train/nats_per_token"] < 10


def test_the_state_of_running_text_is_that_before_the_skipped_window(tmp_path: Path) -> None:
    recipe = small_recipe("char_lm", "training.batch_tokens=24", "training.window=12")
    lines = [f"{n} and {n + 1}" for n in range(30)]
    write_corpus(
        tmp_path,
        [],
        [
            Example(f"a.txt:{n:09}", split, None, None, (line,))
            for n, line in enumerate(lines)
            for split in ("train", "val")
            if (n > 25) == (split == "val")
        ],
    )
    data = open_data_ref(tmp_path, None, "nothing")
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task_of(recipe.model)))
    loop = make_loop(data, words, recipe)
    loop.model.train()
    first, second, *_ = loop._sampler.epoch(0)
    loop.train_step(first, 0.1)
    carried = loop.step.carried
    assert carried is not None and carried.c is not None
    loop.model.words.bias.register_hook(lambda gradient: gradient + torch.inf)  # type: ignore[union-attr, operator]
    _, _, norm = loop.train_step(second, 0.2).tolist()
    assert not math.isfinite(norm)
    after = loop.step.carried
    assert after is not None and after.c is not None
    assert torch.equal(after.h, carried.h) and torch.equal(after.c, carried.c)


def test_a_training_whose_steps_are_all_skipped_ends(things: DataRef, words: Vocabs) -> None:
    loop = make_loop(things, words, RECIPE)
    loop.model.words.bias.data.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(JobError, match=r"step 10: 10 steps in a row .*diverged.*learning_rate"):
        loop.run()


def test_too_many_skipped_steps_in_all_end_a_training() -> None:
    progress = Progress()
    for _ in range(MIN_SKIPPED):
        progress = count_step(count_skipped(progress))
    with pytest.raises(JobError, match=f"{MIN_SKIPPED + 1} of {2 * MIN_SKIPPED + 1} steps"):
        count_skipped(progress)
    # A twentieth of many steps is allowed.
    late = replace(progress, step=100 * MIN_SKIPPED)
    assert count_skipped(late).skipped == MIN_SKIPPED + 1
    in_a_row = Progress(step=10_000)
    for _ in range(MAX_SKIPPED_IN_A_ROW - 1):
        in_a_row = count_skipped(in_a_row)
    assert count_step(in_a_row).skipped_in_a_row == 0
    with pytest.raises(JobError, match=f"{MAX_SKIPPED_IN_A_ROW} steps in a row"):
        count_skipped(in_a_row)


@pytest.mark.parametrize("group", ["weights", "average", "best", "optimizer", "rnn_state"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_kept_and_a_resume_passes_over_it(
    group: str, value: float, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint(Progress(step=5), {"weight": torch.zeros(3)}))
    bad = replace(
        Checkpoint(Progress(step=10), {"weight": torch.zeros(3)}),
        **{group: {"a tensor": torch.tensor([0.0, value])}},
    )
    with pytest.raises(JobError, match=f"{group}: a tensor is not finite after step 10"):
        checkpoints.save(bad)
    kept = ["checkpoint_00000_000000005"]
    assert checkpoints.names() == kept

    bad.write(tmp_path / "checkpoint_00000_000000010")
    name, damages = checkpoints.newest_valid()
    assert name == kept[0]
    (damage,) = damages
    assert f"checkpoint_00000_000000010: {group}: a tensor is not finite" in damage


# One of two workers, of which one meets a batch that overflows.
WORKER = """
from dataclasses import replace
from intertitle.pipeline.errors import UserError
from intertitle.training.trainer.workers.versions import check_versions, versions_here

loop = make("recipe")
batch = loop._train.batch

def overflowing(rows):
    made = batch(rows)
    if ranks.rank == 1 and loop.progress.step in (2, 5):
        return replace(made, features=made.features * 1e38)
    return made

loop._train.batch = overflowing
loop.run()
loop.checkpoint().write(out / f"worker-{ranks.rank}")
refused = ""
if ranks.rank:
    torch.__version__ = "1.0.0"
try:
    check_versions(ranks.gather(versions_here()))
except UserError as error:
    refused = str(error)
(out / f"refused-{ranks.rank}").write_text(refused)
"""


def test_all_workers_skip_the_steps_of_one_and_refuse_one_of_another_version(
    things: DataRef, words: Vocabs, tmp_path: Path
) -> None:
    with two_workers(WORKER, things, words, tmp_path, recipe=RECIPE.model_dump()):
        pass
    one, other = (Checkpoint.read(tmp_path / f"worker-{rank}") for rank in range(2))
    assert one.progress.skipped == other.progress.skipped == 2
    assert one.first_not_finite() is None
    for name, weights in one.weights.items():
        assert torch.equal(weights, other.weights[name]), name
    for rank in range(2):
        assert "worker 1 on " in (refused := (tmp_path / f"refused-{rank}").read_text())
        assert f"has torch 1.0.0, allowed: {torch.__version__}, as worker 0" in refused
