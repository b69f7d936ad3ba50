"""One slot of a retraining, from new data to a champion or a refusal; killed anywhere, a second
call finishes it, and nothing happens twice.

What was done is read from MLflow, from stores and from corpora alone: each step sees whether it has
been done. The slot is a run of its own, its training a run below that.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster import cluster
from jobs.importing import run_import
from jobs.precompute import run_precompute
from jobs.retraining.config import RetrainConfig, place
from jobs.retraining.hooks import tell
from jobs.watch import watching
from pipeline.corpus import Corpus
from pipeline.errors import JobError, UserError
from pipeline.failpoints import failpoint
from pipeline.limits import Limits
from pipeline.location import location
from pipeline.lock import only_writer
from pipeline.plan import make_plan
from pipeline.precompute import PrecomputeOptions
from pipeline.sampling import Uniform
from pipeline.snapshot import current_snapshot
from training.config import flatten, load_recipe
from training.data.source import describe_data
from training.experiment import resume, train
from training.scoring import evaluate_run, load_trained
from training.tracking import moves, registry, slots
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
    call = _Call(config, slot, tracking_uri, on_step)
    with only_writer(location(config.train.checkpoints) / f"{config.model}.retraining"):
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
    ) -> None:
        self._config, self._slot, self._uri = config, slot, tracking_uri
        self._on_step = on_step

    def again(self, slot: slots.Slot, outcome: str) -> Outcome:
        """What came of a slot that an earlier call finished; whom that did not tell is told."""
        found = self._outcome(slot.run, outcome, slot.tags[slots.REASONS], before=True)
        if slots.HOOKED not in slot.tags:
            self._tell(slot.run, found)
        return found

    def run(self, begun: slots.Slot | None, if_new: bool, address: str | None) -> Outcome:
        """Do a slot, or what is left of one that was begun."""
        config = self._config
        self._on_step("looking for new data")
        corpus = self._corpus()
        fingerprint = corpus.fingerprint()
        known = slots.newest_corpus(config.model, self._uri)
        nothing_new = if_new and known == fingerprint and self._has_features(corpus)
        champion = self._champion(begun)
        with self._begin(begun, fingerprint, champion) as run:
            if nothing_new:
                return self._end(run, NOTHING_NEW, ("no item or example is new or changed",))
            with cluster(address):
                self._precompute(corpus)
                failpoint("retrain_precomputed")
                challenger = self._train(run.ref, champion)
                failpoint("retrain_trained")
                measured = self._measure(challenger)
                against = self._measure(champion) if champion else None
            failpoint("retrain_measured")
            return self._judge(run, measured, against)

    def _begin(
        self, begun: slots.Slot | None, fingerprint: str, champion: RunRef | None
    ) -> TrackedRun:
        """A slot's run: the one that an earlier call began, else a new one."""
        if begun:
            return reopen(begun.run, running=True)
        config = self._config
        tags = {slots.CORPUS: fingerprint}
        if champion:
            tags[slots.CHAMPION] = champion.run_id
        params = {**_flat(config), **flatten(load_recipe(config.train.recipe, config.train.set))}
        return slots.begin_slot(config.model, self._slot, tags, params, self._uri)

    def _champion(self, begun: slots.Slot | None) -> RunRef | None:
        """As it was when the slot began: a call that was killed may have promoted already."""
        if begun is None:
            return registry.champion(self._config.model, self._uri)
        run_id = begun.tags.get(slots.CHAMPION)
        return resolve_run(run_id, self._uri) if run_id else None

    def _judge(self, run: TrackedRun, challenger: Measured, champion: Measured | None) -> Outcome:
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
        why = f"slot {self._slot}: {_why(decision)}"[: moves.MAX_WHY]
        if decision.promote:
            registry.promote(challenger.run, model, why)
        else:
            registry.refuse(challenger.run, model, why)
        failpoint("retrain_moved")
        return self._end(run, PROMOTED if decision.promote else REFUSED, decision.reasons)

    def _end(self, run: TrackedRun, outcome: str, reasons: tuple[str, ...]) -> Outcome:
        text = "\n".join(reasons)
        shown = html.escape(text, quote=False)
        run.tags({slots.OUTCOME: outcome, slots.REASONS: text, "mlflow.note.content": shown})
        run.finish()
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

    def _corpus(self) -> Corpus:
        data = self._config.data
        if data.format is not None:
            run_import(data.format, [location(one) for one in data.source], location(data.corpus))
        return Corpus(location(data.corpus))

    def _has_features(self, corpus: Corpus) -> bool:
        """Whether no item's file is new or changed since its features were made."""
        store = place(self._config.data.features)
        if store is None:
            return True
        last = current_snapshot(store)
        if last is None:
            return False
        return not len(make_plan(corpus, store, last, last.fingerprint, 1, Limits()).todo_rows)

    def _precompute(self, corpus: Corpus) -> None:
        data, frozen = self._config.data, self._config.frozen
        for source, path in (
            (corpus, place(data.features)),
            (Corpus(location(frozen.corpus)), place(frozen.features)),
        ):
            if path is None:
                continue
            self._on_step(f"features of {source.path}")
            report = run_precompute(source, path, self._precompute_options())
            failed = len(report.quarantined)
            if failed > data.allow_failed * (failed + report.stored):
                raise JobError(
                    f"{path}: {failed} of {failed + report.stored} items in quarantine, allowed: a "
                    f"share of {data.allow_failed:g} (`intertitle inspect {path} --quarantine`)"
                )

    def _precompute_options(self) -> PrecomputeOptions:
        data = self._config.data
        return PrecomputeOptions(data.backbone, Uniform(data.frames), features=data.kind)

    def _train(self, slot: RunRef, champion: RunRef | None) -> RunRef:
        """The slot's training: done before, gone on with, or new."""
        chosen = self._config.train
        begun = slots.training_of(slot)
        if begun:
            run, finished = begun
            if finished:
                return run
            if any((Path(chosen.checkpoints) / run.run_id).glob("checkpoint_*")):
                self._on_step(f"going on with {run.name}")
                with watching() as watch:
                    resume(
                        run.run_id, tracking_uri=self._uri, changes={}, on_report=watch.on_report
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
                on_start=watch.on_start,
                on_transfer=watch.on_transfer,
                on_report=watch.on_report,
            )
        return result.run

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
