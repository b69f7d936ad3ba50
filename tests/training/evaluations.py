"""Runs in a real MLflow store with evaluations of captions that nobody had to search for."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.record import write_record
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef
from tests.training.metric_names import TRANSLATION_METRICS

WORDS = ("a", "the", "red", "green", "big", "ball", "dog", "man", "runs", "sits", "near", "on")


def captions(num_examples: int, seed: int = 0) -> list[Sample]:
    """Examples whose hypothesis is one of three references."""
    dice = random.Random(seed)
    samples = []
    for n in range(num_examples):
        references = tuple(" ".join(dice.choices(WORDS, k=dice.randint(4, 8))) for _ in range(3))
        samples.append(
            Sample(f"about {n}", f"clip {n}", None, dice.choice(references), references, -1.0)
        )
    return samples


def spoiled(samples: Sequence[Sample], share: float, seed: int = 1) -> list[Sample]:
    """The same with some words of the hypotheses replaced."""
    dice = random.Random(seed)

    def spoil(text: str) -> str:
        words = (dice.choice(WORDS) if dice.random() < share else w for w in text.split())
        return " ".join(words)

    return [
        Sample(s.id, s.item_key, s.source, spoil(s.hypothesis), s.references, s.score)
        for s in samples
    ]


def log_run(
    uri: str,
    name: str,
    samples: Sequence[Sample],
    *,
    params: Mapping[str, object] | None = None,
    split: str = "val",
    folder: str = "eval/val/beam_3/20260101T000000.000000",
    corpus: str = "corpus",
    signatures: Mapping[str, str] | None = None,
) -> RunRef:
    """A finished run with one evaluation."""
    with TrackedRun.start(uri, "intertitle", name, params=params) as run:
        log_evaluation(run, samples, split, folder, corpus, signatures or {})
    return run.ref


def log_evaluation(
    run: TrackedRun,
    samples: Sequence[Sample],
    split: str,
    folder: str,
    corpus: str = "corpus",
    signatures: Mapping[str, str] | None = None,
    other_run_ids: Sequence[str] = (),
) -> None:
    """Add an evaluation to a run."""
    scorer = Scorer("caption", [sample.references for sample in samples])
    scores = scorer.score([sample.hypothesis for sample in samples], TRANSLATION_METRICS)
    how = {
        "split": split,
        "data": {"corpus": corpus, "corpus_fingerprint": "f", "features": None},
        "search": {"beam_size": 3},
        "ensemble": [run.run_id, *other_run_ids],
        "scores": scores.values,
        "signatures": scores.signatures | dict(signatures or {}),
    }
    with tempfile.TemporaryDirectory() as kept:
        evaluation = Evaluation(split, tuple(samples), len(samples), 0, scores)
        write_record(Path(kept), evaluation, how)
        run.folder(Path(kept), folder)
