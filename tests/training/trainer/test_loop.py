"""A training on one and on two workers, stopped and resumed; without Ray."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import NotMeasuredError
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.sampler import BatchSampler
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.metrics import caption_metrics
from intertitle.training.trainer import loop as loop_module
from intertitle.training.trainer.checkpoint import TENSOR_GROUPS, Checkpoint
from intertitle.training.trainer.events import EpochReport, Report, StepReport
from intertitle.training.trainer.validator import NUM_SAMPLES
from tests.training.conftest import (
    COLOURS,
    coloured_things,
    make_loop,
    small_recipe,
    split_of,
    write_data,
)
from tests.training.metric_names import QUICK_METRICS
from tests.training.workers import run_workers

# Everything that has a state is on: dropout, the running average, a schedule.
RECIPE = small_recipe(
    "s2vt",
    "training.epochs=3",
    "optimizer.average_decay=0.9",
    "optimizer.label_smoothing=0.1",
    "optimizer.weight_decay=0.01",
)


def with_training(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor
        for part in TENSOR_GROUPS
        for name, tensor in getattr(checkpoint, part).items()
    }


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    """Bit for bit."""
    assert one.progress == other.progress
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class Uninterrupted:
    """A whole training, with every checkpoint it kept."""

    def __init__(self, data: DataRef, words: Vocabs, folder: Path) -> None:
        loop = make_loop(data, words, with_training(RECIPE, checkpoint_steps=5))
        self.reports: list[Report] = []
        self.kept: list[Path] = []

        def keep() -> None:
            self.kept.append(folder / f"{len(self.kept)}")
            loop.checkpoint().write(self.kept[-1])

        loop.run(self.reports.append, keep)
        self.end = Checkpoint.read(self.kept[-1])
        self.epochs = [report for report in self.reports if isinstance(report, EpochReport)]


@pytest.fixture(scope="module")
def whole(
    things: DataRef, words: Vocabs, tmp_path_factory: pytest.TempPathFactory
) -> Uninterrupted:
    return Uninterrupted(things, words, tmp_path_factory.mktemp("whole"))


def resume(data: DataRef, words: Vocabs, recipe: Recipe, folder: Path) -> Checkpoint:
    loop = make_loop(data, words, recipe)
    loop.restore(Checkpoint.read(folder))
    loop.run()
    return loop.checkpoint()


@pytest.mark.parametrize("steps_into_the_second_epoch", [2, 0])
def test_a_stop_and_a_resume_equal_an_uninterrupted_run(
    whole: Uninterrupted,
    things: DataRef,
    words: Vocabs,
    tmp_path: Path,
    steps_into_the_second_epoch: int,
) -> None:
    max_steps = whole.epochs[0].step + steps_into_the_second_epoch
    part = make_loop(things, words, with_training(RECIPE, max_steps=max_steps))
    part.run()
    part.checkpoint().write(tmp_path / "part")
    assert part.progress.step == max_steps
    assert len(part.progress.history) == (1 if steps_into_the_second_epoch else 0)
    assert_same(resume(things, words, RECIPE, tmp_path / "part"), whole.end)


def test_any_checkpoint_leads_to_the_same_end(
    whole: Uninterrupted, things: DataRef, words: Vocabs
) -> None:
    cursors = [Checkpoint.read(folder).progress.cursor for folder in whole.kept]
    in_an_epoch = next(n for n, at in enumerate(cursors) if at.epoch == 2 and at.batch)
    after_an_epoch = next(n for n, at in enumerate(cursors) if at.epoch == 2 and not at.batch)
    for chosen in (in_an_epoch, after_an_epoch):
        assert_same(resume(things, words, RECIPE, whole.kept[chosen]), whole.end)


def test_a_finished_training_has_nothing_left_to_do(
    whole: Uninterrupted, things: DataRef, words: Vocabs
) -> None:
    assert_same(resume(things, words, RECIPE, whole.kept[-1]), whole.end)


def test_checkpoints_are_kept_every_few_steps_and_before_and_after_each_measurement(
    whole: Uninterrupted,
) -> None:
    last = whole.epochs[-1].step
    steps = [Checkpoint.read(folder).progress.step for folder in whole.kept]
    ends = [epoch.step for epoch in whole.epochs]
    assert steps == sorted([*range(5, last + 1, 5), *ends, *ends])


def test_an_epoch_takes_every_batch_once_and_reports_what_it_measured(
    whole: Uninterrupted, things: DataRef, words: Vocabs
) -> None:
    lengths = split_of(things, "train", words, 8).lengths
    sampler = BatchSampler(lengths, RECIPE.training.batch_tokens, RECIPE.training.pool_batches, 0)
    batches = [len(sampler.epoch(number)) for number in range(3)]
    assert [report.step for report in whole.epochs] == [sum(batches[: n + 1]) for n in range(3)]
    assert [report.epoch for report in whole.epochs] == [1, 2, 3]
    history = whole.end.progress.history
    assert [dict(figures) for figures in history] == [
        {"epoch": report.epoch, **report.figures} for report in whole.epochs
    ]
    figures = whole.epochs[-1].figures
    assert {"train/nats_per_token", "val/nats_per_token", "val/cider", "val/bleu_4"} <= set(figures)
    assert figures["train/nats_per_token"] < history[0]["train/nats_per_token"]
    samples = whole.epochs[-1].samples
    assert 2 <= len(samples) <= NUM_SAMPLES
    assert samples[0].id == "about-item 0"
    assert samples[0].references == ("A red ball.",)


def test_a_monitor_that_cannot_be_measured_ends_the_training_with_the_reason(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise NotMeasuredError("its words are those of another language")

    monkeypatch.setattr(caption_metrics, "CIDER", replace(caption_metrics.CIDER, measure=refuse))
    loop = make_loop(things, words, with_training(RECIPE, monitor="cider"))
    reason = "training.monitor: 'cider' is not measured: its words are those of another language"
    with pytest.raises(UserError, match=reason):
        loop.run()


@pytest.mark.parametrize("monitor", ["nats_per_token", "sacrebleu"])
def test_captions_are_measured_after_each_epoch_by_quick_metrics_and_the_monitor(
    things: DataRef, words: Vocabs, monitor: str
) -> None:
    loop = make_loop(things, words, with_training(RECIPE, epochs=1, monitor=monitor))
    loop.run()
    (figures,) = loop.progress.history
    measured = {name.removeprefix("val/") for name in figures if name.startswith("val/")}
    assert measured == {*QUICK_METRICS, "nats_per_token", monitor}


def test_the_validation_loss_is_the_mean_over_all_words(
    whole: Uninterrupted, things: DataRef, words: Vocabs
) -> None:
    model = make_loop(things, words, RECIPE).model
    model.load_state_dict(whole.end.average)
    val = split_of(things, "val", words, 8)
    batch = val.batch(range(len(val)))
    with torch.inference_mode():
        log_probs = torch.log_softmax(model.eval().logits(model.forward(batch)), -1)
    of_words = -log_probs.gather(2, batch.targets[..., None])[..., 0]
    counts = torch.arange(of_words.shape[1]) < batch.target_lengths[:, None]
    expected = float(of_words[counts].mean())
    assert whole.epochs[-1].figures["val/nats_per_token"] == pytest.approx(expected, rel=1e-4)


def test_another_seed_is_another_training(
    whole: Uninterrupted, things: DataRef, words: Vocabs
) -> None:
    first = whole.epochs[0].step
    loops = [
        make_loop(things, words, with_training(RECIPE, seed=seed, max_steps=first))
        for seed in (0, 0, 1)
    ]
    for loop in loops:
        loop.run()
    one, same, other = (loop.checkpoint() for loop in loops)
    assert_same(one, same)
    assert not torch.equal(one.weights["words.bias"], other.weights["words.bias"])


def test_steps_report_how_far_the_training_is(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "REPORT_EVERY_S", 0.0)
    reports: list[Report] = []
    loop = make_loop(things, words, with_training(RECIPE, epochs=2))
    loop.run(reports.append)
    steps = [report for report in reports if isinstance(report, StepReport)]
    assert [report.step for report in steps] == list(range(1, loop.progress.step + 1))
    done = [report.fraction_done for report in steps]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert all(r.nats_per_token > 0 and r.tokens_per_s > 0 for r in steps)


def test_training_stops_when_it_no_longer_gets_better_and_keeps_its_best(
    tmp_path: Path, words: Vocabs
) -> None:
    # In validation red is called green, and so on: the better it learns, the worse it gets.
    swapped = dict(zip(COLOURS, COLOURS[1:] + COLOURS[:1], strict=True))
    shown = [
        s
        if s.split == "train"
        else replace(
            s, targets=tuple(" ".join(swapped.get(w, w) for w in t.split()) for t in s.targets)
        )
        for s in coloured_things(60)
    ]
    data = write_data(tmp_path, shown)
    recipe = with_training(
        small_recipe("s2vt", "optimizer.decay=none", "optimizer.learning_rate=0.02"),
        epochs=30,
        patience=2,
        monitor="nats_per_token",
    )
    loop = make_loop(data, words, recipe)
    weights: list[dict[str, torch.Tensor]] = []

    def keep(report: Report) -> None:
        if isinstance(report, EpochReport):
            weights.append({k: v.clone() for k, v in loop.model.state_dict().items()})

    loop.run(keep)
    progress, best = loop.progress, loop.checkpoint().best
    values = [figures["val/nats_per_token"] for figures in progress.history]
    assert progress.best_value == min(values)
    assert progress.best_epoch == 1 + values.index(min(values))
    assert len(values) == progress.best_epoch + 2 < 30
    kept = weights[progress.best_epoch - 1]
    assert all(torch.equal(best[name], kept[name]) for name in kept)
    assert not torch.equal(best["words.bias"], weights[-1]["words.bias"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_is_clipped_to_its_norm_and_no_further(
    accumulate: int, things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def norm_of_step(clip_norm: float) -> float:
        """What the optimizer gets to see."""
        recipe = small_recipe("s2vt", f"optimizer.clip_norm={clip_norm}")
        loop = make_loop(things, words, with_training(recipe, accumulate=accumulate))
        norms: list[float] = []

        def step() -> None:
            gradients = [p.grad for p in loop.model.parameters() if p.grad is not None]
            norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

        monkeypatch.setattr(loop.step._optimizer, "step", step)
        loop.train_step(loop._sampler.epoch(0)[0], 0.5)
        return norms[0]

    whole = norm_of_step(1e6)
    assert whole > 0.1
    assert norm_of_step(whole * 1.01) == pytest.approx(whole, rel=1e-6)
    assert norm_of_step(whole / 2) == pytest.approx(whole / 2, rel=1e-4)


@pytest.fixture(scope="module")
def together(
    things: DataRef, words: Vocabs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Path]:
    """What two workers left of a training without dropout."""
    recipe = small_recipe(
        "s2vt",
        "model.dropout=0",
        "model.feature_dropout=0",
        "training.epochs=1",
        "training.batch_tokens=24",
        "optimizer.label_smoothing=0.1",
    )
    out = tmp_path_factory.mktemp("together")
    run_workers(things, words, (recipe, with_training(recipe, max_steps=10)), out)
    return recipe, out


def test_two_workers_train_like_one_even_where_one_of_them_has_no_row(
    together: tuple[Recipe, Path], things: DataRef, words: Vocabs
) -> None:
    recipe, out = together
    lengths = split_of(things, "train", words, 8).lengths
    sampler = BatchSampler(lengths, 24, recipe.training.pool_batches, 0)
    assert any(len(rows) == 1 for rows in sampler.epoch(0))

    alone = make_loop(things, words, recipe)
    alone.run()
    two, one = Checkpoint.read(out / "whole"), alone.checkpoint()
    assert two.progress.step == one.progress.step
    for figures, expected in zip(two.progress.history, one.progress.history, strict=True):
        assert figures == pytest.approx(expected, abs=1e-4)
    for name, expected in one.weights.items():
        assert torch.allclose(two.weights[name], expected, atol=1e-5), name


def test_two_workers_resume_as_if_they_had_never_stopped(together: tuple[Recipe, Path]) -> None:
    _, out = together
    assert Checkpoint.read(out / "part").progress.step == 10
    resumed, whole = (Checkpoint.read(out / name) for name in ("resumed", "whole"))
    # Sums of the same numbers in another order.
    for figures, expected in zip(resumed.progress.history, whole.progress.history, strict=True):
        assert figures == pytest.approx(expected, rel=1e-12)
    assert_same(replace(resumed, progress=whole.progress), whole)


def test_a_batch_in_parts_is_the_same_step(things: DataRef, words: Vocabs) -> None:
    recipe = small_recipe("s2vt", "model.dropout=0", "model.feature_dropout=0")
    one, other = (
        make_loop(things, words, with_training(recipe, accumulate=parts, max_steps=6, epochs=1))
        for parts in (1, 3)
    )
    for loop in (one, other):
        loop.run()
    expected, found = one.checkpoint().weights, other.checkpoint().weights
    assert max(float((found[n] - expected[n]).abs().max()) for n in expected) < 1e-5


def test_a_stop_request_saves_a_checkpoint(
    whole: Uninterrupted, things: DataRef, words: Vocabs, tmp_path: Path
) -> None:
    loop, asked = make_loop(things, words, RECIPE), iter([False] * 9 + [True])
    kept: list[int] = []

    def keep() -> None:
        kept.append(loop.progress.step)
        loop.checkpoint().write(tmp_path / str(len(kept)))

    loop.run(on_checkpoint=keep, should_stop=lambda: next(asked))
    assert loop.stopped
    assert kept[-1] == 9
    assert_same(resume(things, words, RECIPE, tmp_path / str(len(kept))), whole.end)
