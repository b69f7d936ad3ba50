"""Training of a slot's challenger, and evaluation of the challenger and the champion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from intertitle.jobs.progress import training_progress
from intertitle.jobs.retraining.config import RetrainConfig
from intertitle.jobs.retraining.data import SlotData
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.config.recipe import load_recipe
from intertitle.training.inference.model_bundle import load_trained
from intertitle.training.reports.evaluations import EvaluatedRun, find_newest, read_newest
from intertitle.training.runs.evaluate_run import evaluate_run
from intertitle.training.runs.train import resume, train
from intertitle.training.tracking.registry import retraining_runs
from intertitle.training.tracking.store.client import RunRef


class Challenge:
    """The steps of a slot that need Ray; each is skipped if an earlier call finished it.

    Args:
        config: configuration of the retraining.
        slot: name of the slot.
        tracking_uri: tracking URI of MLflow.
        on_step: callback with a description of the next step.
    """

    def __init__(
        self,
        config: RetrainConfig,
        slot: str,
        tracking_uri: str,
        on_step: Callable[[str], None],
    ) -> None:
        self._config, self._slot, self._uri = config, slot, tracking_uri
        self._on_step = on_step

    def run(
        self, slot: RunRef, data: SlotData, champion: RunRef | None
    ) -> tuple[EvaluatedRun, EvaluatedRun | None]:
        """Train a challenger and evaluate it and the champion; needs a running Ray."""
        self._on_step(f"features of {self._config.data.corpus}")
        if not self.goes_on(slot):
            data.make_features()
        data.make_frozen_features()
        failpoint("retrain_precomputed")
        challenger = self._train(slot, champion, data.pin)
        failpoint("retrain_trained")
        return self._measure(challenger), self._measure(champion) if champion else None

    def _train(self, slot: RunRef, champion: RunRef | None, pin: str) -> RunRef:
        """Return the slot's training run: finished before, resumed, or new."""
        chosen = self._config.train
        earlier = retraining_runs.training_of(slot)
        if earlier:
            run, finished = earlier
            if finished:
                return run
            if self._has_checkpoint(run):
                self._on_step(f"going on with {run.name}")
                with training_progress() as watch:
                    resume(
                        run.run_id,
                        tracking_uri=self._uri,
                        changes={},
                        unpin=False,
                        on_report=watch.on_report,
                    )
                return run
            retraining_runs.abandon(run)
        self._on_step(f"training {chosen.recipe}")
        from_champion = champion if chosen.init_from == "champion" else None
        with training_progress() as watch:
            result = train(
                load_recipe(chosen.recipe, chosen.set),
                as_path(self._config.data.corpus),
                self._config.data.features,
                workers=chosen.workers,
                tracking_uri=self._uri,
                checkpoints=Path(chosen.checkpoints),
                name=f"{self._config.model}-{self._slot}-challenger",
                init_from=from_champion.run_id if from_champion else None,
                tags={retraining_runs.PARENT: slot.run_id},
                pin=pin or None,
                on_start=watch.on_start,
                on_transfer=watch.on_transfer,
                on_report=watch.on_report,
            )
        return result.run

    def goes_on(self, slot: RunRef) -> bool:
        """Return whether the slot's training is finished, or has a checkpoint to resume from."""
        earlier = retraining_runs.training_of(slot)
        return earlier is not None and (earlier[1] or self._has_checkpoint(earlier[0]))

    def _has_checkpoint(self, run: RunRef) -> bool:
        folder = Path(self._config.train.checkpoints) / run.run_id
        return any(folder.glob("checkpoint_*"))

    def _measure(self, run: RunRef) -> EvaluatedRun:
        """Return the evaluation of a run on the frozen examples; evaluate it if there is none."""
        frozen = self._config.frozen
        trained = load_trained(run)
        fingerprint = Corpus(as_path(frozen.corpus)).fingerprint()
        search = trained.with_search(beam_size=frozen.beam).recipe.search
        evaluated = find_newest(run, frozen.split, fingerprint, search)
        if evaluated is None:
            self._on_step(f"measuring {run.name} on {frozen.corpus}, {frozen.split}")
            evaluate_run(
                run,
                split=frozen.split,
                beam_size=frozen.beam,
                corpus=as_path(frozen.corpus),
                features=frozen.features,
            )
            evaluated = read_newest(run, frozen.split, fingerprint)
        return evaluated
