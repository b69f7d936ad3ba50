"""One slot of a retraining, from new data to a promoted or refused challenger.

A slot may be killed at any point: a second call finishes it and repeats no finished step. Each step
reads from MLflow, the feature stores and the corpora whether it has been done. The slot is an
MLflow run, and its training is a child run of that.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.retraining.challenge import Challenge
from intertitle.jobs.retraining.config import RetrainConfig
from intertitle.jobs.retraining.data import SlotData, pin_new
from intertitle.jobs.retraining.hooks import notify
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.training.config.recipe import flatten, load_recipe
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.gate import GateDecision, decide
from intertitle.training.tracking.registry import alias_moves, registry, retraining_runs
from intertitle.training.tracking.registry.arbiter import only_one
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef, resolve_run

PROMOTED, REFUSED, NOTHING_NEW = "promoted", "refused", "nothing new"


@dataclass(frozen=True)
class SlotOutcome:
    """Outcome of a slot.

    Attributes:
        model: name of the registered model.
        slot: name of the slot, which is normally its time.
        outcome: "promoted", "refused" or "nothing new"; "failed" for the hook of a failed slot.
        reasons: reasons for the outcome, one line each.
        run_id: id of the slot's MLflow run, empty for "failed".
        before: whether an earlier call had finished the slot.
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
) -> SlotOutcome:
    """Run a slot, or what remains of it.

    Args:
        config: configuration of the retraining.
        slot: name of the slot, normally a time; a second call with the same name repeats no
            finished step.
        if_new: whether to end without training if there is no new data since the last finished
            slot.
        tracking_uri: tracking URI of MLflow.
        address: address of a Ray cluster; None starts one on this machine.
        on_step: callback with a description of the next step.

    Raises:
        UserError: the data or the settings are invalid, or another process is running a slot of
            the model.
        JobError: a step failed; the next call continues there.
    """
    _check_slot(slot)
    with (
        only_one(config.model, retraining_runs.EXPERIMENT, tracking_uri, on_step) as check_held,
    ):
        call = _SlotRun(config, slot, tracking_uri, on_step, check_held)
        earlier = retraining_runs.find_slot(config.model, slot, tracking_uri)
        if earlier and earlier.outcome:
            return call.finish_earlier(earlier, earlier.outcome)
        with call.telling_failure():
            return call.run(earlier, if_new, address)


def _check_slot(slot: str) -> None:
    if not slot or len(slot) > 100 or "'" in slot or not slot.isprintable():
        raise UserError(
            f"--slot {slot!r}: allowed: up to 100 characters, as 2026-11-23T03:00+01:00"
        )


class _SlotRun:
    """One call that runs a slot."""

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
        self._challenge = Challenge(config, slot, tracking_uri, on_step)

    def finish_earlier(self, slot: retraining_runs.RetrainingRun, outcome: str) -> SlotOutcome:
        """Return the outcome of a slot that an earlier call finished, and call a hook it missed."""
        SlotData(self._config, slot.tags.get(retraining_runs.PIN, "")).let_go()
        result = self._outcome(slot.run, outcome, slot.tags[retraining_runs.REASONS], before=True)
        if retraining_runs.HOOKED not in slot.tags:
            self._tell(slot.run, result)
        return result

    def run(
        self, earlier: retraining_runs.RetrainingRun | None, if_new: bool, address: str | None
    ) -> SlotOutcome:
        """Run a slot, or what remains of one that an earlier call started."""
        champion = self._champion(earlier)
        with ExitStack() as undo:
            tags, data = self._data(earlier, if_new)
            if tags:
                undo.callback(data.let_go)
            run = self._begin(earlier, tags, champion)
            undo.pop_all()
        with run:
            if (tags or (earlier.tags if earlier else {})).get(retraining_runs.NEW) == "no":
                return self._end(run, data, NOTHING_NEW, ("no item or example is new or changed",))
            try:
                with cluster(address):
                    challenger, champion_result = self._challenge.run(run.ref, data, champion)
            except (UserError, JobError):
                # The call failed before any training: its data is unpinned, so that the next call
                # imports the data again, which may have been repaired.
                with suppress(UserError):  # MLflow may be unavailable, too
                    if not retraining_runs.training_of(run.ref):
                        data.let_go()
                raise
            failpoint("retrain_measured")
            return self._judge(run, data, challenger, champion_result)

    def _data(
        self, earlier: retraining_runs.RetrainingRun | None, if_new: bool
    ) -> tuple[dict[str, str], SlotData]:
        """Return the tags to add to the slot, and its data.

        The tags are empty if an earlier call started the slot and its data can still be used.
        """
        if earlier:
            data = SlotData(self._config, earlier.tags.get(retraining_runs.PIN, ""))
            if data.is_there() or self._challenge.goes_on(earlier.run):
                return {}, data
        self._on_step("looking for new data")
        data = SlotData(self._config, pin_new(self._config, self._slot))
        with ExitStack() as undo:
            undo.callback(data.let_go)
            fingerprint = data.corpus.fingerprint()
            known = retraining_runs.newest_corpus(self._config.model, self._uri)
            is_new = not if_new or known != fingerprint or not data.has_features()
            undo.pop_all()
        new = "yes" if is_new else "no"
        return {
            retraining_runs.CORPUS: fingerprint,
            retraining_runs.PIN: data.pin,
            retraining_runs.NEW: new,
        }, data

    def _begin(
        self,
        earlier: retraining_runs.RetrainingRun | None,
        tags: dict[str, str],
        champion: RunRef | None,
    ) -> TrackedRun:
        """Open the slot's MLflow run: the one that an earlier call started, or else a new one."""
        if earlier:
            run = reopen(earlier.run, running=True)
            if tags:
                run.tags(tags)
            return run
        config = self._config
        if champion:
            tags = {**tags, retraining_runs.CHAMPION: champion.run_id}
        params = {**_flat(config), **flatten(load_recipe(config.train.recipe, config.train.set))}
        return retraining_runs.begin_slot(config.model, self._slot, tags, params, self._uri)

    def _champion(self, earlier: retraining_runs.RetrainingRun | None) -> RunRef | None:
        """Return the champion at the start of the slot; a killed call may have promoted since."""
        if earlier is None:
            return registry.champion(self._config.model, self._uri)
        run_id = earlier.tags.get(retraining_runs.CHAMPION)
        return resolve_run(run_id, self._uri) if run_id else None

    def _judge(
        self,
        run: TrackedRun,
        data: SlotData,
        challenger: EvaluatedRun,
        champion: EvaluatedRun | None,
    ) -> SlotOutcome:
        model = self._config.model
        self._on_step("the gate")
        decision = decide(challenger, champion, self._config.gate)
        run.text("decision.md", decision.to_markdown())
        scores = {
            name: judged.record.description["scores"]
            for name, judged in (("challenger", challenger), ("champion", champion))
            if judged
        }
        rows = [
            {"metric": metric, **{name: values.get(metric) for name, values in scores.items()}}
            for metric in scores["challenger"]
        ]
        run.table("scores", rows)
        # A host that was cut off while another one took over must not change the registry.
        self._check_held()
        why = f"slot {self._slot}: {_why(decision)}"[: alias_moves.MAX_WHY]
        if decision.promote:
            registry.promote(challenger.run, model, why)
        else:
            registry.refuse(challenger.run, model, why)
        failpoint("retrain_moved")
        return self._end(run, data, PROMOTED if decision.promote else REFUSED, decision.reasons)

    def _end(
        self, run: TrackedRun, data: SlotData, outcome: str, reasons: tuple[str, ...]
    ) -> SlotOutcome:
        text = "\n".join(reasons)
        note = html.escape(text, quote=False)
        run.tags(
            {
                retraining_runs.OUTCOME: outcome,
                retraining_runs.REASONS: text,
                "mlflow.note.content": note,
            }
        )
        run.finish()
        data.let_go()
        result = self._outcome(run.ref, outcome, text)
        self._tell(run.ref, result)
        return result

    def _outcome(
        self, run: RunRef, outcome: str, reasons: str, before: bool = False
    ) -> SlotOutcome:
        lines = tuple(reasons.split("\n"))
        return SlotOutcome(self._config.model, self._slot, outcome, lines, run.run_id, before)

    def _tell(self, run: RunRef, outcome: SlotOutcome) -> None:
        hook = {
            PROMOTED: self._config.hooks.promoted,
            REFUSED: self._config.hooks.refused,
        }.get(outcome.outcome)
        if hook:
            self._on_step("the hook")
            notify(hook, outcome)
        retraining_runs.set_tag(run, retraining_runs.HOOKED, "yes")

    @contextmanager
    def telling_failure(self) -> Iterator[None]:
        """Call the hook of a failed slot if the block raises an error."""
        try:
            yield
        except Exception as error:
            if self._config.hooks.failed:
                failed = SlotOutcome(self._config.model, self._slot, "failed", (str(error),), "")
                notify(self._config.hooks.failed, failed)
            raise


def _why(decision: GateDecision) -> str:
    """Return the deciding reasons for a tag: the objections, or else the improvement."""
    objections = [reason for reason in decision.reasons if reason.startswith("no:")]
    return "; ".join(objections or decision.reasons[-1:])


def _flat(config: RetrainConfig) -> dict[str, object]:
    tree = json.loads(config.model_dump_json())
    return {
        f"{section}.{field}": value
        for section in ("data", "train", "frozen", "gate")
        for field, value in tree[section].items()
    }
