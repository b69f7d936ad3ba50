"""One slot of a retraining, from new data to a champion or a refusal; killed anywhere, a second
call finishes it, and nothing happens twice.

What was done is read from MLflow, from stores and from corpora alone: each step sees whether it has
been done. The slot is a run of its own, its training a run below that.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster import cluster
from jobs.retraining.config import RetrainConfig, place
from jobs.retraining.data import SlotData, pin_new
from jobs.retraining.hooks import tell
from jobs.watch import watching
from pipeline.errors import UserError
from pipeline.failpoints import failpoint
from pipeline.location import location
from pipeline.lock import only_writer
from training.config import flatten, load_recipe
from training.data.source import describe_data
from training.experiment import resume, train
from training.scoring import evaluate_run, load_trained
from training.tracking import moves, registry, slots
from training.tracking.arbiter import only_one
from training.tracking.compare import Measured, find_newest, read_newest
from training.tracking.gate import Decision, decide
from training.tracking.run import RunRef, TrackedRun, reopen, resolve_run

PROMOTED, REFUSED, NOTHING_NEW = "promoted", "refused", "nothing new"


@dataclass(frozen=True)
class Outcome:
    """What came of a slot.

    Attributes:
        model: in the registry.
        slot: its time, as text.
        outcome: "promoted", "refused" or "nothing new".
        reasons: why, a line each.
        run_id: of the slot.
        before: whether an earlier call had finished it.
    """

    model: str
    slot: str
    outcome: str
    reasons: tuple[str, ...]
    run_id: str
    before: bool = False


def retrain(
    config: RetrainConfig,
    slot: str,
    *,
    if_new: bool,
    tracking_uri: str,
    address: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Do a slot, or what is left of it.

    Args:
        config: what to do.
        slot: its name, a time as a rule; a second call with the same name does nothing twice.
        if_new: end where there is nothing that the last finished slot had not seen.
        tracking_uri: MLflow's.
        address: of a Ray cluster; None is this machine.
        on_step: told what is done next.

    Raises:
        UserError: the data or the settings are not what they should be, or another process is at
            it.
        JobError: a step failed; the next call goes on there.
    """
    _check_slot(slot)
    with (
        only_writer(location(config.train.checkpoints) / f"{config.model}.retraining"),
        only_one(config.model, slots.EXPERIMENT, tracking_uri, on_step) as check_held,
    ):
        call = _Call(config, slot, tracking_uri, on_step, check_held)
        begun = slots.find_slot(config.model, slot, tracking_uri)
        if begun and begun.outcome:
            return call.again(begun, begun.outcome)
        with call.telling_failure():
            return call.run(begun, if_new, address)


def _check_slot(slot: str) -> None:
    if not slot or len(slot) > 100 or "'" in slot or not slot.isprintable():
        raise UserError(
            f"--slot {slot!r}: allowed: up to 100 characters, as 2026-11-23T03:00+01:00"
        )


class _Call:
    def __init__(
        self,
        config: RetrainConfig,
        slot: str,
        tracking_uri: str,
        on_step: Callable[[str], None],
        check_held: Callable[[], None],
    ) -> None:
        self._config, self._slot, self._uri = config, slot, tracking_uri
        self._on_step, self._check_held = on_step, check_held

    def again(self, slot: slots.Slot, outcome: str) -> Outcome:
        """What came of a slot that an earlier call finished; whom that did not tell is told."""
        SlotData(self._config, slot.tags.get(slots.PIN, "")).let_go()
        found = self._outcome(slot.run, outcome, slot.tags[slots.REASONS], before=True)
        if slots.HOOKED not in slot.tags:
            self._tell(slot.run, found)
        return found

    def run(self, begun: slots.Slot | None, if_new: bool, address: str | None) -> Outcome:
        """Do a slot, or what is left of one that was begun."""
        champion = self._champion(begun)
        tags, data = self._data(begun, if_new)
        try:
            run = self._begin(begun, tags, champion)
        except BaseException:
            if tags:
                data.let_go()
            raise
        with run:
            if (tags or (begun.tags if begun else {})).get(slots.NEW) == "no":
                return self._end(run, data, NOTHING_NEW, ("no item or example is new or changed",))
            try:
                with cluster(address):
                    measured, against = self._challenge(run.ref, data, champion)
            except Exception:
                # It was not killed, and has learned nothing yet: the next call begins with what
                # there is then, which may be mended.
                with suppress(UserError):  # that MLflow is away, too
                    if not slots.training_of(run.ref):
                        data.let_go()
                raise
            failpoint("retrain_measured")
            return self._judge(run, data, measured, against)

    def _data(self, begun: slots.Slot | None, if_new: bool) -> tuple[dict[str, str], SlotData]:
        """What the slot learns from, and the tags that tell so: none where it was begun with it."""
        if begun:
            data = SlotData(self._config, begun.tags.get(slots.PIN, ""))
            if data.is_there() or self._goes_on(begun.run):
                return {}, data
        self._on_step("looking for new data")
        data = SlotData(self._config, pin_new(self._config, self._slot))
        try:
            fingerprint = data.corpus.fingerprint()
            known = slots.newest_corpus(self._config.model, self._uri)
            is_new = not if_new or known != fingerprint or not data.has_features()
        except BaseException:
            data.let_go()
            raise
        new = "yes" if is_new else "no"
        return {slots.CORPUS: fingerprint, slots.PIN: data.pin, slots.NEW: new}, data

    def _challenge(
        self, slot: RunRef, data: SlotData, champion: RunRef | None
    ) -> tuple[Measured, Measured | None]:
        """Train a challenger and measure it beside the champion. Needs a running Ray."""
        self._on_step(f"features of {self._config.data.corpus}")
        if not self._goes_on(slot):
            data.make_features()
        data.make_frozen_features()
        failpoint("retrain_precomputed")
        challenger = self._train(slot, champion, data.pin)
        failpoint("retrain_trained")
        return self._measure(challenger), self._measure(champion) if champion else None

    def _begin(
        self, begun: slots.Slot | None, tags: dict[str, str], champion: RunRef | None
    ) -> TrackedRun:
        """A slot's run: the one that an earlier call began, else a new one."""
        if begun:
            run = reopen(begun.run, running=True)
            if tags:
                run.tags(tags)
            return run
        config = self._config
        if champion:
            tags = {**tags, slots.CHAMPION: champion.run_id}
        params = {**_flat(config), **flatten(load_recipe(config.train.recipe, config.train.set))}
        return slots.begin_slot(config.model, self._slot, tags, params, self._uri)

    def _champion(self, begun: slots.Slot | None) -> RunRef | None:
        """As it was when the slot began: a call that was killed may have promoted already."""
        if begun is None:
            return registry.champion(self._config.model, self._uri)
        run_id = begun.tags.get(slots.CHAMPION)
        return resolve_run(run_id, self._uri) if run_id else None

    def _judge(
        self, run: TrackedRun, data: SlotData, challenger: Measured, champion: Measured | None
    ) -> Outcome:
        model = self._config.model
        self._on_step("the gate")
        decision = decide(challenger, champion, self._config.gate)
        run.text("decision.md", decision.to_markdown())
        run.metrics(
            {f"challenger/{name}": v for name, v in challenger.record.how["scores"].items()}, 0
        )
        if champion:
            run.metrics(
                {f"champion/{name}": v for name, v in champion.record.how["scores"].items()}, 0
            )
        # Of two hosts, one that was cut off for a while moves nothing.
        self._check_held()
        why = f"slot {self._slot}: {_why(decision)}"[: moves.MAX_WHY]
        if decision.promote:
            registry.promote(challenger.run, model, why)
        else:
            registry.refuse(challenger.run, model, why)
        failpoint("retrain_moved")
        return self._end(run, data, PROMOTED if decision.promote else REFUSED, decision.reasons)

    def _end(
        self, run: TrackedRun, data: SlotData, outcome: str, reasons: tuple[str, ...]
    ) -> Outcome:
        text = "\n".join(reasons)
        shown = html.escape(text, quote=False)
        run.tags({slots.OUTCOME: outcome, slots.REASONS: text, "mlflow.note.content": shown})
        run.finish()
        data.let_go()
        told = self._outcome(run.ref, outcome, text)
        self._tell(run.ref, told)
        return told

    def _outcome(self, run: RunRef, outcome: str, reasons: str, before: bool = False) -> Outcome:
        lines = tuple(reasons.split("\n"))
        return Outcome(self._config.model, self._slot, outcome, lines, run.run_id, before)

    def _tell(self, run: RunRef, outcome: Outcome) -> None:
        hook = {
            PROMOTED: self._config.hooks.promoted,
            REFUSED: self._config.hooks.refused,
        }.get(outcome.outcome)
        if hook:
            self._on_step("the hook")
            tell(hook, outcome)
        slots.set_tag(run, slots.HOOKED, "yes")

    @contextmanager
    def telling_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._config.hooks.failed:
                failed = Outcome(self._config.model, self._slot, "failed", (str(error),), "")
                tell(self._config.hooks.failed, failed)
            raise

    def _train(self, slot: RunRef, champion: RunRef | None, pin: str) -> RunRef:
        """The slot's training: done before, gone on with, or new."""
        chosen = self._config.train
        begun = slots.training_of(slot)
        if begun:
            run, finished = begun
            if finished:
                return run
            if self._has_checkpoint(run):
                self._on_step(f"going on with {run.name}")
                with watching() as watch:
                    resume(
                        run.run_id,
                        tracking_uri=self._uri,
                        changes={},
                        unpin=False,
                        on_report=watch.on_report,
                    )
                return run
            slots.abandon(run)
        self._on_step(f"training {chosen.recipe}")
        from_champion = champion if chosen.init_from == "champion" else None
        with watching() as watch:
            result = train(
                load_recipe(chosen.recipe, chosen.set),
                location(self._config.data.corpus),
                place(self._config.data.features),
                workers=chosen.workers,
                tracking_uri=self._uri,
                checkpoints=Path(chosen.checkpoints),
                name=f"{self._config.model}-{self._slot}-challenger",
                init_from=from_champion.run_id if from_champion else None,
                tags={slots.PARENT: slot.run_id},
                pin=pin or None,
                on_start=watch.on_start,
                on_transfer=watch.on_transfer,
                on_report=watch.on_report,
            )
        return result.run

    def _goes_on(self, slot: RunRef) -> bool:
        """Whether the slot's training is finished, or has a checkpoint to go on from."""
        begun = slots.training_of(slot)
        return begun is not None and (begun[1] or self._has_checkpoint(begun[0]))

    def _has_checkpoint(self, run: RunRef) -> bool:
        folder = Path(self._config.train.checkpoints) / run.run_id
        return any(folder.glob("checkpoint_*"))

    def _measure(self, run: RunRef) -> Measured:
        """What a run scores on the frozen examples, measured where it has not been."""
        frozen = self._config.frozen
        trained = load_trained(run)
        data = describe_data(location(frozen.corpus), place(frozen.features), trained.task.sees)
        search = trained.searching(beam_size=frozen.beam).recipe.search
        found = find_newest(run, frozen.split, data.corpus_fingerprint, search)
        if found is None:
            self._on_step(f"measuring {run.name} on {frozen.corpus}, {frozen.split}")
            evaluate_run(
                run,
                split=frozen.split,
                beam_size=frozen.beam,
                corpus=location(frozen.corpus),
                features=place(frozen.features),
            )
            found = read_newest(run, frozen.split, data.corpus_fingerprint)
        return found


def _why(decision: Decision) -> str:
    """What decided, for a tag: what speaks against it, or how much better it is."""
    against = [reason for reason in decision.reasons if reason.startswith("no:")]
    return "; ".join(against or decision.reasons[-1:])


def _flat(config: RetrainConfig) -> dict[str, object]:
    tree = json.loads(config.model_dump_json())
    return {
        f"{section}.{field}": value
        for section in ("data", "train", "frozen", "gate")
        for field, value in tree[section].items()
    }
