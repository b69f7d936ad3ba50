"""How good sentences are, by the reference libraries: coco-caption's metrics and sacreBLEU.

All but sacreBLEU see the text as coco-caption does, through the PTB tokenizer, and equal
pycocoevalcap's own pipeline, unless the language needs another tokenizer. BLEU, METEOR and ROUGE-L
run from 0 to 100, CIDEr as its authors print it.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.rouge.rouge import Rouge

from pipeline.errors import UserError
from training.evaluation.java import METEOR, ptb_tokenize
from training.evaluation.reward import MAX_N, SIGMA, CiderReward
from training.evaluation.statistics import score_of
from training.evaluation.tokens import (
    DEFAULT,
    open_tokenizer,
    warn_unsplit,
    why_no_meteor,
    words_for_captions,
)

BLEU_METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
QUICK_METRICS = (*BLEU_METRICS, "rouge_l", "cider")
"""Those that start no METEOR and read the tokens alone: for each epoch."""
ALL_METRICS = (*BLEU_METRICS, "sacrebleu", "meteor", "rouge_l", "cider", "exact_match")
TRANSLATION_METRICS = ("sacrebleu", "exact_match")
"""Those that do not read the text as English, and start no Java."""

NUM_LOOKED_AT = 10_000
"""References that a tokenizer is tried on, at most."""

_PUNCTUATION = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True)
class Scores:
    """How good B answers are.

    Attributes:
        values: a score for each metric, over the whole set.
        signatures: how exactly each was computed; scores compare where these are equal.
        statistics: what each value is made of, [B, S]; see `training.evaluation.statistics`.
        not_measured: why, for each metric of the task that has no value.
        warnings: of values that say less than they seem to.
    """

    values: dict[str, float]
    signatures: dict[str, str]
    statistics: dict[str, NDArray[np.float64]] = field(compare=False)
    not_measured: dict[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(
        cls,
        signatures: dict[str, str],
        statistics: dict[str, NDArray[np.float64]],
        not_measured: Mapping[str, str] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> "Scores":
        """The scores that some statistics come to."""
        values = {name: score_of(name, rows) for name, rows in statistics.items()}
        return cls(values, signatures, statistics, dict(not_measured or {}), warnings)

    def beside(self, other: "Scores") -> "Scores":
        """These and others of the same answers."""
        return Scores(
            self.values | other.values,
            self.signatures | other.signatures,
            self.statistics | other.statistics,
            self.not_measured | other.not_measured,
            self.warnings + other.warnings,
        )


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Make sure that there is at least one text for each example.

    Raises:
        UserError: names the example.
    """
    if not references:
        raise UserError("references: 0 examples; at least 1 is needed")
    for index, group in enumerate(references):
        if isinstance(group, str):
            raise UserError(f"references: example {index} is one string; a list is needed")
        if not group:
            raise UserError(f"references: example {index} has none; at least 1 is needed")
        if not all(reference.strip() for reference in group):
            raise UserError(f"references: example {index} has an empty one; text is needed")


def check_number(hypotheses: Sequence[object], references: Sequence[object]) -> None:
    """Make sure that there is one hypothesis for each example.

    Raises:
        UserError: their numbers differ.
    """
    if len(hypotheses) != len(references):
        raise UserError(
            f"hypotheses: {len(hypotheses)} for {len(references)} examples; "
            "exactly one for each is needed"
        )


@dataclass(frozen=True)
class _Measured:
    signature: str
    statistics: NDArray[np.float64]


class CaptionScorer:
    """Scores hypotheses against one fixed set of references, prepared once.

    | name | paper |
    | --- | --- |
    | `bleu_1` … `bleu_4` | Papineni et al., "BLEU", 2002; of the corpus, closest reference length |
    | `sacrebleu` | Post, "A Call for Clarity in Reporting BLEU Scores", 2018; of the raw text |
    | `meteor` | Denkowski and Lavie, "Meteor Universal", 2014; version 1.5 |
    | `rouge_l` | Lin, "ROUGE", 2004; beta 1.2, best precision and best recall over references |
    | `cider` | Vedantam et al., "CIDEr", 2015; document frequencies of these references |
    | `exact_match` | the share that equals a reference in small letters without punctuation |

    METEOR is measured of English alone. With a tokenizer other than the default, all but
    `exact_match` count its tokens, coco-caption's metrics in small letters without punctuation.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        tokenizer: str = DEFAULT,
        language: str | None = None,
    ) -> None:
        """Prepares the references.

        Args:
            references: for each of B examples, one or more.
            tokenizer: a name of `training.evaluation.tokens.TOKENIZERS`.
            language: of the references, as `en`; None where it is not known.

        Raises:
            UserError: there is no example, or one without a reference or with an empty one, or the
                tokenizer can't be had.
        """
        check_references(references)
        if tokenizer != DEFAULT:
            open_tokenizer(tokenizer)
        self._tokenizer, self._language = tokenizer, language
        self._references = [list(group) for group in references]
        sizes = {len(group) for group in references}
        self._nrefs = str(sizes.pop()) if len(sizes) == 1 else "var"

    def score(self, hypotheses: Sequence[str], metrics: Collection[str] = ALL_METRICS) -> Scores:
        """Scores B hypotheses, each against its own references. An empty hypothesis is legal.

        CIDEr of a single example is 0: what is in every document says nothing. METEOR may be not
        measured, with the reason.

        Raises:
            UserError: an unknown metric, another number of hypotheses than of examples, or, for
                CIDEr, no reference of the whole set with a word in it.
            JavaError: a Java program failed.
        """
        wanted = set(metrics)
        if unknown := wanted - set(ALL_METRICS):
            raise UserError(f"metrics: unknown {sorted(unknown)}; allowed are {list(ALL_METRICS)}")
        check_number(hypotheses, self._references)
        measured: dict[str, _Measured] = {}
        not_measured = {}
        if "meteor" in wanted and (why := why_no_meteor(self._tokenizer, self._language)):
            not_measured["meteor"] = why
            wanted.remove("meteor")
        if "sacrebleu" in wanted:
            measured["sacrebleu"] = self._sacrebleu(hypotheses)
        if "exact_match" in wanted:
            measured["exact_match"] = self._exact_match(hypotheses)
        if wanted - set(TRANSLATION_METRICS):
            tokens = self._tokenize(hypotheses)
            if wanted & set(BLEU_METRICS):
                measured |= self._bleu(tokens)
            if "meteor" in wanted:
                measured["meteor"] = self._meteor(tokens)
            if "rouge_l" in wanted:
                measured["rouge_l"] = self._rouge_l(tokens)
            if "cider" in wanted:
                measured["cider"] = self._cider(tokens)
        asked = {name: measured[name] for name in ALL_METRICS if name in wanted}
        return Scores.of(
            {name: one.signature for name, one in asked.items()},
            {name: one.statistics for name, one in asked.items()},
            not_measured,
            self.warnings if wanted - {"exact_match"} else (),
        )

    def _tokenize(self, sentences: Sequence[str]) -> list[str]:
        """The sentences as coco-caption's metrics see them: words joined by blanks."""
        if self._tokenizer == DEFAULT:
            return ptb_tokenize(sentences)
        return list(map(words_for_captions(self._tokenizer), sentences))

    def _bleu(self, tokens: list[str]) -> dict[str, _Measured]:
        scorer = self._bleu_references.copy()  # shares the counted references
        found = scorer.retest(tokens).ctest
        lengths = [(one["testlen"], _closest(one["reflen"], one["testlen"])) for one in found]
        return {
            name: _Measured(
                self._signature("bleu", f"n:{n}", "eff:closest"),
                np.array(
                    [
                        (*both, *one["correct"][:n], *one["guess"][:n])
                        for both, one in zip(lengths, found, strict=True)
                    ],
                    np.float64,
                ),
            )
            for n, name in enumerate(BLEU_METRICS, start=1)
        }

    def _sacrebleu(self, hypotheses: Sequence[str]) -> _Measured:
        metric = self._sacrebleu_references
        # What its `corpus_score` adds up; nothing public tells it with the references kept.
        rows = metric._extract_corpus_statistics(hypotheses, None)
        return _Measured(str(metric.get_signature()), np.array(rows, np.float64))

    def _exact_match(self, hypotheses: Sequence[str]) -> _Measured:
        equal = [
            _plain(text) in group
            for text, group in zip(hypotheses, self._plain_references, strict=True)
        ]
        return _Measured(
            f"exact_match|nrefs:{self._nrefs}|norm:casefold-nopunct-blanks",
            weighted([100.0 * one for one in equal]),
        )

    def _meteor(self, tokens: list[str]) -> _Measured:
        signature = self._signature("meteor", "1.5", "lang:en", "norm")
        return _Measured(signature, METEOR.statistics(tokens, self._tokens))

    def _rouge_l(self, tokens: list[str]) -> _Measured:
        rouge = Rouge()
        examples = [
            100 * rouge.calc_score([hypothesis], group)
            for hypothesis, group in zip(tokens, self._tokens, strict=True)
        ]
        return _Measured(self._signature("rouge_l", f"beta:{rouge.beta}"), weighted(examples))

    def _cider(self, tokens: list[str]) -> _Measured:
        if not any(any(group) for group in self._tokens):
            raise UserError("references: no word in any of them; CIDEr needs at least 1")
        known = self._words
        numbered = [[known.setdefault(w, len(known)) for w in text.split()] for text in tokens]
        examples = self._cider_references.score(range(len(tokens)), numbered)
        signature = self._signature("cider", f"n:{MAX_N}", f"sigma:{SIGMA}", "df:refs")
        return _Measured(signature, weighted(examples))

    @cached_property
    def _tokens(self) -> list[list[str]]:
        """The references as coco-caption sees them, tokenized in one run."""
        tokens = iter(self._tokenize([text for group in self._references for text in group]))
        return [list(islice(tokens, len(group))) for group in self._references]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Says that the tokenizer does not find the references' words, if so."""
        texts = (text for group in self._references for text in group)
        return warn_unsplit(islice(texts, NUM_LOOKED_AT), self._tokenizer)

    @cached_property
    def _plain_references(self) -> list[set[str]]:
        # No sentence is one without a word, whatever a reference is.
        return [set(map(_plain, group)) - {""} for group in self._references]

    @cached_property
    def _bleu_references(self) -> Any:
        scorer = BleuScorer(n=len(BLEU_METRICS))
        for group in self._tokens:
            scorer.cook_append(None, group)
        return scorer

    @cached_property
    def _words(self) -> dict[str, int]:
        """A number for each word."""
        words = (word for group in self._tokens for text in group for word in text.split())
        return {word: number for number, word in enumerate(dict.fromkeys(words))}

    @cached_property
    def _cider_references(self) -> CiderReward:
        return CiderReward(
            [[[self._words[w] for w in text.split()] for text in group] for group in self._tokens]
        )

    @cached_property
    def _sacrebleu_references(self) -> Any:
        from sacrebleu.metrics import BLEU  # half a second

        # sacreBLEU wants streams of references, None where an example has fewer than others.
        return BLEU(tokenize=self._tokenizer, references=list(zip_longest(*self._references)))

    def _signature(self, *parts: str) -> str:
        """Names a computation in the manner of sacreBLEU."""
        source = f"pycocoevalcap:{version('pycocoevalcap')}"
        tokens = "ptb-3.4.1-nopunct"
        if self._tokenizer != DEFAULT:
            tokens = f"{open_tokenizer(self._tokenizer).signature()}-lower-nopunct"
        return "|".join([*parts, f"nrefs:{self._nrefs}", f"tok:{tokens}", source])


def weighted(
    scores: Iterable[float], weights: Iterable[float] | None = None
) -> NDArray[np.float64]:
    """The statistics [B, 2] of a metric that is a mean, with B weights or the weight 1."""
    rows = np.fromiter(scores, np.float64)
    by = np.ones(len(rows)) if weights is None else np.fromiter(weights, np.float64)
    return np.stack([rows * by, by], 1)


def _closest(lengths: Iterable[int], length: int) -> int:
    """Of several lengths that are as close the shortest."""
    return min(lengths, key=lambda one: (abs(one - length), one))


def _plain(text: str) -> str:
    return " ".join(_PUNCTUATION.sub(" ", text.casefold()).split())
