"""The score of any part of a set, from sums: the same as measuring that part alone."""

import math

import numpy as np
import pytest
import sacrebleu
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge

from intertitle.training.evaluation.metrics.meteor import METEOR, ptb_tokenize
from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.metrics.sufficient_stats import combine, score_of
from intertitle.training.evaluation.scorers import Scorer
from tests.training.evaluation.metrics.test_caption_metrics import HYPOTHESES, REFERENCES
from tests.training.metric_names import ALL_METRICS

RNG = np.random.default_rng(3)
# Of all sizes, and with an example several times, as in a resample.
PARTS = [RNG.integers(len(HYPOTHESES), size=size) for size in (1, 2, 3, 5, 10, 20, 42, 42, 42)]
PARTS += [np.array([n]) for n in range(len(HYPOTHESES))]

Tokens = tuple[list[str], list[list[str]]]


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    """Of the hypotheses and of their references, tokenized together as their scorer does."""
    flat = iter(ptb_tokenize([text for group in REFERENCES for text in group]))
    return ptb_tokenize(HYPOTHESES), [[next(flat) for _ in group] for group in REFERENCES]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return Scorer("caption", REFERENCES).score(HYPOTHESES)


def of_parts(scores: Scores, metric: str) -> list[float]:
    """The score of each part, all of them at once."""
    rows = scores.statistics[metric]
    found: list[float] = combine(metric, np.stack([rows[part].sum(0) for part in PARTS])).tolist()
    return found


def test_the_sums_of_a_whole_set_are_its_score(scores: Scores) -> None:
    assert tuple(scores.statistics) == ALL_METRICS
    for name, rows in scores.statistics.items():
        assert len(rows) == len(HYPOTHESES)
        assert score_of(name, rows) == pytest.approx(scores.values[name], abs=1e-9)


def test_bleu_of_a_part_is_coco_captions(scores: Scores, tokens: Tokens) -> None:
    expected = []
    for part in PARTS:
        scorer = BleuScorer(n=4)
        for n in part:
            scorer += (tokens[0][n], tokens[1][n])
        expected.append(scorer.compute_score(option="closest")[0])
    for n, of_n in enumerate(zip(*expected, strict=True), start=1):
        assert of_parts(scores, f"bleu_{n}") == pytest.approx([100 * one for one in of_n], abs=1e-9)


def test_sacrebleu_of_a_part_is_its_own(scores: Scores) -> None:
    most = max(map(len, REFERENCES))
    streams = [[group[n] if n < len(group) else None for group in REFERENCES] for n in range(most)]
    expected = [
        sacrebleu.corpus_bleu(
            [HYPOTHESES[n] for n in part], [[stream[n] for n in part] for stream in streams]
        ).score
        for part in PARTS
    ]
    assert of_parts(scores, "sacrebleu") == pytest.approx(expected, abs=1e-9)


def test_meteor_of_a_part_is_the_programs(scores: Scores, tokens: Tokens) -> None:
    lines = [
        " ||| ".join(["SCORE", *references, hypothesis])
        for hypothesis, references in zip(*tokens, strict=True)
    ]
    printed = METEOR._process.request(lines, len(lines))
    expected = []
    for part in PARTS:
        question = " ||| ".join(["EVAL", *(printed[n] for n in part)])
        expected.append(100 * float(METEOR._process.request([question], len(part) + 1)[-1]))
    assert of_parts(scores, "meteor") == pytest.approx(expected, abs=1e-9)
    assert 0.0 in expected  # an empty one is among them
    assert 100.0 in expected


def test_means_of_a_part_are_over_its_examples(scores: Scores, tokens: Tokens) -> None:
    scorer = CiderScorer()
    for hypothesis, references in zip(*tokens, strict=True):
        scorer += (hypothesis, references)
    # The document frequencies are those of the whole set.
    cider = scorer.compute_score()[1]
    rouge = Rouge()
    pairs = zip(*tokens, strict=True)
    rouge_l = np.array([100 * rouge.calc_score([one], group) for one, group in pairs])
    for name, each in (("cider", cider), ("rouge_l", rouge_l)):
        expected = [each[part].mean() for part in PARTS]
        assert of_parts(scores, name) == pytest.approx(expected, abs=1e-9)


def test_perplexity_is_of_all_tokens_together() -> None:
    told: NDArray[np.float64] = np.array([[3.0, 2], [8.0, 10], [0.0, 0]])
    assert score_of("nats_per_token", told) == pytest.approx(11 / 12)
    assert score_of("perplexity", told) == pytest.approx(math.exp(11 / 12))
    assert combine("nats_per_token", told).tolist() == [1.5, 0.8, 0]
    assert combine("perplexity", np.array([[1e6, 1.0]])).tolist() == [math.inf]
