"""How good sentences are, by the reference libraries: coco-caption's metrics and sacreBLEU.

All but sacreBLEU see the text as coco-caption does, through the PTB tokenizer, and equal
pycocoevalcap's own pipeline. BLEU, METEOR and ROUGE-L run from 0 to 100, CIDEr as its authors print
it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_test
from pycocoevalcap.rouge.rouge import Rouge

from pipeline.errors import UserError
from training.evaluation.java import METEOR, ptb_tokenize

BLEU_METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
QUICK_METRICS = (*BLEU_METRICS, "rouge_l", "cider")
"""Those that start no METEOR and read the tokens alone: for each epoch."""
ALL_METRICS = (*BLEU_METRICS, "sacrebleu", "meteor", "rouge_l", "cider")


@dataclass(frozen=True)
class Scores:
    """What `CaptionScorer.score` found.

    Attributes:
        values: a score for each metric, over the whole set.
        signatures: how exactly each was computed; scores compare where these are equal.
        per_example: B scores, on the scale of `values`, for each of `bleu_4`, `meteor`, `rouge_l`
            and `cider`. Only for the last two is the value of the whole set their mean.
    """

    values: dict[str, float]
    signatures: dict[str, str]
    per_example: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class _Measured:
    value: float
    signature: str
    per_example: tuple[float, ...] | None = None


class CaptionScorer:
    """Scores hypotheses against one fixed set of references, prepared once.

    | name | paper |
    | --- | --- |
    | `bleu_1` … `bleu_4` | Papineni et al., "BLEU", 2002; of the corpus, closest reference length |
    | `sacrebleu` | Post, "A Call for Clarity in Reporting BLEU Scores", 2018; raw text, 13a |
    | `meteor` | Denkowski and Lavie, "Meteor Universal", 2014; version 1.5 |
    | `rouge_l` | Lin, "ROUGE", 2004; beta 1.2, best precision and best recall over references |
    | `cider` | Vedantam et al., "CIDEr", 2015; document frequencies of these references |
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        """Takes, for each of B examples, one reference or more.

        Raises:
            UserError: there is no example, or one without a reference or with an empty one.
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
        self._references = [list(group) for group in references]
        sizes = {len(group) for group in references}
        self._nrefs = str(sizes.pop()) if len(sizes) == 1 else "var"

    def score(self, hypotheses: Sequence[str], metrics: Collection[str] = ALL_METRICS) -> Scores:
        """Scores B hypotheses, each against its own references. An empty hypothesis is legal.

        CIDEr of a single example is 0: what is in every document says nothing.

        Raises:
            UserError: an unknown metric, another number of hypotheses than of examples, or, for
                CIDEr, no reference of the whole set with a word in it.
            JavaError: a Java program failed.
        """
        wanted = set(metrics)
        if unknown := wanted - set(ALL_METRICS):
            raise UserError(f"metrics: unknown {sorted(unknown)}; allowed are {list(ALL_METRICS)}")
        if len(hypotheses) != len(self._references):
            raise UserError(
                f"hypotheses: {len(hypotheses)} for {len(self._references)} examples; "
                "exactly one for each is needed"
            )
        measured: dict[str, _Measured] = {}
        if "sacrebleu" in wanted:
            measured["sacrebleu"] = self._sacrebleu(hypotheses)
        if wanted - {"sacrebleu"}:  # sacreBLEU alone starts no Java
            tokens = ptb_tokenize(hypotheses)
            if wanted & set(BLEU_METRICS):
                measured |= self._bleu(tokens)
            if "meteor" in wanted:
                measured["meteor"] = self._meteor(tokens)
            if "rouge_l" in wanted:
                measured["rouge_l"] = self._rouge_l(tokens)
            if "cider" in wanted:
                measured["cider"] = self._cider(tokens)
        asked = {name: measured[name] for name in ALL_METRICS if name in wanted}
        return Scores(
            values={name: one.value for name, one in asked.items()},
            signatures={name: one.signature for name, one in asked.items()},
            per_example={
                name: one.per_example for name, one in asked.items() if one.per_example is not None
            },
        )

    def _bleu(self, tokens: list[str]) -> dict[str, _Measured]:
        scorer = self._bleu_references.copy()  # shares the counted references
        corpus, examples = scorer.retest(tokens).compute_score(option="closest")
        return {
            name: _Measured(
                100 * corpus[n - 1],
                self._signature("bleu", f"n:{n}", "eff:closest"),
                _percent(examples[n - 1]) if name == "bleu_4" else None,
            )
            for n, name in enumerate(BLEU_METRICS, start=1)
        }

    def _sacrebleu(self, hypotheses: Sequence[str]) -> _Measured:
        score = self._sacrebleu_references.corpus_score(hypotheses, None).score
        return _Measured(float(score), str(self._sacrebleu_references.get_signature()))

    def _meteor(self, tokens: list[str]) -> _Measured:
        scores = METEOR.score(tokens, self._tokens)
        signature = self._signature("meteor", "1.5", "lang:en", "norm")
        return _Measured(100 * scores.corpus, signature, _percent(scores.sentences))

    def _rouge_l(self, tokens: list[str]) -> _Measured:
        rouge = Rouge()
        examples = [
            rouge.calc_score([hypothesis], group)
            for hypothesis, group in zip(tokens, self._tokens, strict=True)
        ]
        signature = self._signature("rouge_l", f"beta:{rouge.beta}")
        return _Measured(100 * float(np.mean(examples)), signature, _percent(examples))

    def _cider(self, tokens: list[str]) -> _Measured:
        if not any(any(group) for group in self._tokens):
            raise UserError("references: no word in any of them; CIDEr needs at least 1")
        scorer = self._cider_references.copy()  # shares the counted references
        scorer.ctest = [cook_test(hypothesis) for hypothesis in tokens]
        corpus, examples = scorer.compute_score()
        signature = self._signature("cider", f"n:{scorer.n}", f"sigma:{scorer.sigma}", "df:refs")
        return _Measured(float(corpus), signature, tuple(map(float, examples)))

    @cached_property
    def _tokens(self) -> list[list[str]]:
        """The references as coco-caption sees them, tokenized in one run."""
        tokens = iter(ptb_tokenize([text for group in self._references for text in group]))
        return [list(islice(tokens, len(group))) for group in self._references]

    @cached_property
    def _bleu_references(self) -> Any:
        scorer = BleuScorer(n=len(BLEU_METRICS))
        for group in self._tokens:
            scorer.cook_append(None, group)
        return scorer

    @cached_property
    def _cider_references(self) -> Any:
        scorer = CiderScorer()
        for group in self._tokens:
            scorer.cook_append(None, group)
        return scorer

    @cached_property
    def _sacrebleu_references(self) -> Any:
        from sacrebleu.metrics import BLEU  # half a second

        # sacreBLEU wants streams of references, None where an example has fewer than others.
        return BLEU(references=list(zip_longest(*self._references)))

    def _signature(self, *parts: str) -> str:
        """Names a computation in the manner of sacreBLEU."""
        source = f"pycocoevalcap:{version('pycocoevalcap')}"
        return "|".join([*parts, f"nrefs:{self._nrefs}", "tok:ptb-3.4.1-nopunct", source])


def _percent(scores: Iterable[float]) -> tuple[float, ...]:
    return tuple(100 * float(score) for score in scores)
