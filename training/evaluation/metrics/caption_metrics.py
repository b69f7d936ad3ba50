"""Metrics for sentences, computed by reference libraries: coco-caption's metrics and sacreBLEU.

All but sacreBLEU read the text as coco-caption does, through the PTB tokenizer, and equal the
results of pycocoevalcap's own pipeline, unless the language needs another tokenizer. BLEU, METEOR
and ROUGE-L range from 0 to 100; CIDEr has the scale of its authors.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.rouge.rouge import Rouge

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.meteor import METEOR, ptb_tokenize
from intertitle.training.evaluation.metrics.metric_tokenizer import (
    DEFAULT,
    open_tokenizer,
    warn_unsplit,
    why_no_meteor,
    words_for_captions,
)
from intertitle.training.evaluation.metrics.scores import (
    Scores,
    check_count,
    check_references,
    weighted,
)
from intertitle.training.search.cider import MAX_N, SIGMA, CiderReward

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
class _Metric:
    signature: str
    statistics: NDArray[np.float64]


class CaptionScorer:
    """Scores hypotheses against a fixed set of references, which are prepared once.

    | name | paper |
    | --- | --- |
    | `bleu_1` … `bleu_4` | Papineni et al., "BLEU", 2002; of the corpus, closest reference length |
    | `sacrebleu` | Post, "A Call for Clarity in Reporting BLEU Scores", 2018; of the raw text |
    | `meteor` | Denkowski and Lavie, "Meteor Universal", 2014; version 1.5 |
    | `rouge_l` | Lin, "ROUGE", 2004; beta 1.2, best precision and best recall over references |
    | `cider` | Vedantam et al., "CIDEr", 2015; document frequencies of these references |
    | `exact_match` | share that equals a reference in lower case without punctuation |

    METEOR is measured for English only. With a tokenizer other than the default, all metrics but
    `exact_match` count its tokens; coco-caption's metrics count them in lower case, without
    punctuation.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        tokenizer: str = DEFAULT,
        language: str | None = None,
    ) -> None:
        """Prepare the references.

        Args:
            references: one or more reference texts for each of B examples.
            tokenizer: a name of `evaluation.metrics.metric_tokenizer.TOKENIZERS`.
            language: code of the references' language, such as `en`; None if it is unknown.

        Raises:
            UserError: there is no example, or an example has no reference or an empty one, or the
                tokenizer is not available.
        """
        check_references(references)
        if tokenizer != DEFAULT:
            open_tokenizer(tokenizer)
        self._tokenizer, self._language = tokenizer, language
        self._references = [list(group) for group in references]
        sizes = {len(group) for group in references}
        self._nrefs = str(sizes.pop()) if len(sizes) == 1 else "var"

    def score(self, hypotheses: Sequence[str], metrics: Collection[str] = ALL_METRICS) -> Scores:
        """Score B hypotheses, each against its own references. An empty hypothesis is allowed.

        CIDEr of a set with one example is 0: n-grams that occur in every document have no weight.
        If METEOR can't be measured, the result holds the reason.

        Args:
            hypotheses: B sentences.
            metrics: names of the metrics to compute.

        Raises:
            UserError: a metric is unknown, the numbers of hypotheses and of examples differ, or,
                for CIDEr, no reference has any word.
            JavaError: a Java program failed.
        """
        requested = set(metrics)
        if unknown := requested - set(ALL_METRICS):
            raise UserError(f"metrics: unknown {sorted(unknown)}; allowed are {list(ALL_METRICS)}")
        check_count(hypotheses, self._references)
        measured: dict[str, _Metric] = {}
        not_measured = {}
        if "meteor" in requested and (reason := why_no_meteor(self._tokenizer, self._language)):
            not_measured["meteor"] = reason
            requested.remove("meteor")
        if "sacrebleu" in requested:
            measured["sacrebleu"] = self._sacrebleu(hypotheses)
        if "exact_match" in requested:
            measured["exact_match"] = self._exact_match(hypotheses)
        if requested - set(TRANSLATION_METRICS):
            tokens = self._tokenize(hypotheses)
            if requested & set(BLEU_METRICS):
                measured |= self._bleu(tokens)
            if "meteor" in requested:
                measured["meteor"] = self._meteor(tokens)
            if "rouge_l" in requested:
                measured["rouge_l"] = self._rouge_l(tokens)
            if "cider" in requested:
                measured["cider"] = self._cider(tokens)
        results = {name: measured[name] for name in ALL_METRICS if name in requested}
        return Scores.of(
            {name: result.signature for name, result in results.items()},
            {name: result.statistics for name, result in results.items()},
            not_measured,
            self.warnings if requested - {"exact_match"} else (),
        )

    def _tokenize(self, sentences: Sequence[str]) -> list[str]:
        """Tokenize sentences for coco-caption's metrics: words joined by blanks."""
        if self._tokenizer == DEFAULT:
            return ptb_tokenize(sentences)
        return list(map(words_for_captions(self._tokenizer), sentences))

    def _bleu(self, tokens: list[str]) -> dict[str, _Metric]:
        scorer = self._bleu_references.copy()  # the copy shares the n-gram counts of the references
        ngram_counts = scorer.retest(tokens).ctest
        lengths = [
            (counts["testlen"], _closest(counts["reflen"], counts["testlen"]))
            for counts in ngram_counts
        ]
        return {
            name: _Metric(
                self._signature("bleu", f"n:{n}", "eff:closest"),
                np.array(
                    [
                        (*length_pair, *counts["correct"][:n], *counts["guess"][:n])
                        for length_pair, counts in zip(lengths, ngram_counts, strict=True)
                    ],
                    np.float64,
                ),
            )
            for n, name in enumerate(BLEU_METRICS, start=1)
        }

    def _sacrebleu(self, hypotheses: Sequence[str]) -> _Metric:
        metrics = self._sacrebleu_references
        scores = [
            metric.corpus_score([text], None)
            for metric, text in zip(metrics, hypotheses, strict=True)
        ]
        rows = [(score.sys_len, score.ref_len, *score.counts, *score.totals) for score in scores]
        signature = metrics[0].get_signature()
        signature.update("nrefs", self._nrefs)
        return _Metric(str(signature), np.array(rows, np.float64))

    def _exact_match(self, hypotheses: Sequence[str]) -> _Metric:
        matches = [
            _plain(text) in group
            for text, group in zip(hypotheses, self._plain_references, strict=True)
        ]
        return _Metric(
            f"exact_match|nrefs:{self._nrefs}|norm:casefold-nopunct-blanks",
            weighted([100.0 * is_equal for is_equal in matches]),
        )

    def _meteor(self, tokens: list[str]) -> _Metric:
        signature = self._signature("meteor", "1.5", "lang:en", "norm")
        return _Metric(signature, METEOR.statistics(tokens, self._tokens))

    def _rouge_l(self, tokens: list[str]) -> _Metric:
        rouge = Rouge()
        example_scores = [
            100 * rouge.calc_score([hypothesis], group)
            for hypothesis, group in zip(tokens, self._tokens, strict=True)
        ]
        return _Metric(self._signature("rouge_l", f"beta:{rouge.beta}"), weighted(example_scores))

    def _cider(self, tokens: list[str]) -> _Metric:
        if not any(any(group) for group in self._tokens):
            raise UserError("references: no word in any of them; CIDEr needs at least 1")
        word_ids = self._words
        token_ids = [
            [word_ids.setdefault(w, len(word_ids)) for w in text.split()] for text in tokens
        ]
        example_scores = self._cider_references.score(range(len(tokens)), token_ids)
        signature = self._signature("cider", f"n:{MAX_N}", f"sigma:{SIGMA}", "df:refs")
        return _Metric(signature, weighted(example_scores))

    @cached_property
    def _tokens(self) -> list[list[str]]:
        """The references as coco-caption reads them, tokenized in one run."""
        tokens = iter(self._tokenize([text for group in self._references for text in group]))
        return [list(islice(tokens, len(group))) for group in self._references]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about references whose words the tokenizer does not split."""
        texts = (text for group in self._references for text in group)
        return warn_unsplit(islice(texts, NUM_LOOKED_AT), self._tokenizer)

    @cached_property
    def _plain_references(self) -> list[set[str]]:
        # A hypothesis without any word never matches, even if a reference has no word either.
        return [set(map(_plain, group)) - {""} for group in self._references]

    @cached_property
    def _bleu_references(self) -> Any:
        scorer = BleuScorer(n=len(BLEU_METRICS))
        for group in self._tokens:
            scorer.cook_append(None, group)
        return scorer

    @cached_property
    def _words(self) -> dict[str, int]:
        """Ids of the references' words, by word."""
        words = (word for group in self._tokens for text in group for word in text.split())
        return {word: number for number, word in enumerate(dict.fromkeys(words))}

    @cached_property
    def _cider_references(self) -> CiderReward:
        return CiderReward(
            [[[self._words[w] for w in text.split()] for text in group] for group in self._tokens]
        )

    @cached_property
    def _sacrebleu_references(self) -> list[Any]:
        """A metric for each example, which has prepared the references of that example."""
        from sacrebleu.metrics import BLEU  # the import takes half a second

        return [
            # sacreBLEU takes the first references of all examples, then the second ones, and so on.
            BLEU(tokenize=self._tokenizer, references=[[text] for text in group])
            for group in self._references
        ]

    def _signature(self, *parts: str) -> str:
        """Return a signature that defines a computation, in the format of sacreBLEU."""
        source = f"pycocoevalcap:{version('pycocoevalcap')}"
        tokens = "ptb-3.4.1-nopunct"
        if self._tokenizer != DEFAULT:
            tokens = f"{open_tokenizer(self._tokenizer).signature()}-lower-nopunct"
        return "|".join([*parts, f"nrefs:{self._nrefs}", f"tok:{tokens}", source])


def _closest(lengths: Iterable[int], length: int) -> int:
    """Return the closest of several lengths; of equally close ones, the shortest."""
    return min(lengths, key=lambda candidate: (abs(candidate - length), candidate))


def _plain(text: str) -> str:
    return " ".join(_PUNCTUATION.sub(" ", text.casefold()).split())
