"""Answer the examples of a split with a model, and score the answers, for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from intertitle.training.config.recipe import SearchConfig, TrainingConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.dataset import Dataset, make_sampler
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import EOS_ID, SPECIAL, Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.answer_metrics import AnswerScorer, LabelScorer
from intertitle.training.evaluation.caption_metrics import (
    ALL_METRICS,
    QUICK_METRICS,
    TRANSLATION_METRICS,
    CaptionScorer,
    Scores,
    weighted,
)
from intertitle.training.evaluation.likelihood import negative_log_likelihood, sum_by_example
from intertitle.training.evaluation.metric_tokenizer import AUTO, choose_tokenizer
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.search_errors import (
    NO_SEARCH_ERRORS,
    reference_scores,
    search_errors,
)
from intertitle.training.models.base import Generator, Model
from intertitle.training.search.generate import generate, sample_stream

# Number of examples per batch; with a beam of K, the network computes K times as many rows at once.
ANSWER_BATCH = 64
# Number of sample texts that a language model writes, and number of tokens of each.
NUM_TEXTS, TEXT_TOKENS = 8, 400


@dataclass(frozen=True, slots=True)
class Answer:
    """Output of a model for one example.

    Attributes:
        texts: a sentence, a label, or a label for each frame.
        score: score of the search, see `Hypothesis.score`; for labels, the mean log-probability.
    """

    texts: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of a model on a split.

    Attributes:
        split: name of the split.
        samples: a sample for each example that has features, if the task needs them; for running
            text, a sample without texts for each of the windows that it was read in.
        num_examples: number of examples that were measured; for running text, number of tokens.
        num_left_out: number of examples whose item is in quarantine.
        scores: scores of the whole split, with the definition of each.
        texts: sample texts that a language model wrote.
    """

    split: str
    samples: tuple[Sample, ...]
    num_examples: int
    num_left_out: int
    scores: Scores
    texts: tuple[Sample, ...] = ()


Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


class Questions(Protocol):
    """Model inputs by number: the examples of a split, or inputs of a user.

    Attributes:
        vocabularies: vocabularies of the texts.
    """

    @property
    def vocabularies(self) -> Vocabs: ...

    def question_length(self, example: int) -> int:
        """Return the number of frames and source tokens of an example."""
        ...

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Make a batch of some examples, each with the tokens of a target, which may be empty."""
        ...


def answer_examples(
    model: Model,
    questions: Questions,
    examples: Sequence[int] | range,
    search: SearchConfig,
    on_progress: Progress = no_progress,
) -> list[Answer]:
    """Return a model's best answer to each of some examples; see `rank_answers`."""
    ranked = rank_answers(model, questions, examples, search, on_progress=on_progress)
    return [answers[0] for answers in ranked]


def rank_answers(
    model: Model,
    questions: Questions,
    examples: Sequence[int] | range,
    search: SearchConfig,
    num: int = 1,
    on_progress: Progress = no_progress,
) -> list[list[Answer]]:
    """Return a model's best answers to some examples, in the order of the examples.

    Args:
        model: model in evaluation mode.
        questions: inputs that the examples are part of.
        examples: numbers of the examples.
        search: settings of the search, for sentences.
        num: maximum number of answers per example, best first; see `generate`.
        on_progress: callback for progress: number of examples done, and number of examples.

    Raises:
        UserError: the model does not support the search, or an input can't be read.
    """
    device = next(model.parameters()).device
    tokenizer = questions.vocabularies.target
    # Batch examples of similar length together, to reduce padding.
    order = sorted(examples, key=questions.question_length)
    answers: dict[int, list[Answer]] = {}
    for at in range(0, len(order), ANSWER_BATCH):
        chunk = order[at : at + ANSWER_BATCH]
        batch = questions.with_targets([(n, ()) for n in chunk]).to(device)
        if isinstance(model, Generator):
            hypotheses = generate(model, batch, tokenizer, search, chunk, num)
            chunk_answers = [
                [Answer((tokenizer.decode(h.token_ids),), h.score) for h in r] for r in hypotheses
            ]
        else:
            chunk_answers = _decode_labels(model, batch, tokenizer, num)
        answers |= zip(chunk, chunk_answers, strict=True)
        on_progress(len(answers), len(order))
    return [answers[example] for example in examples]


@torch.inference_mode()
def _decode_labels(
    model: Model, batch: Batch, tokenizer: Tokenizer, num: int
) -> list[list[Answer]]:
    """Return the most probable labels of each row, or the most probable label of each frame."""
    logits = model.logits(model.forward(batch)).float()
    logits[..., : len(SPECIAL)] = -torch.inf
    scores, labels = torch.log_softmax(logits, -1).topk(min(num, len(tokenizer) - len(SPECIAL)))
    if model.task.output == "label":
        return [
            [Answer((tokenizer.decode([n]),), s) for n, s in zip(ids, row_scores, strict=True)]
            for ids, row_scores in zip(labels[:, 0].tolist(), scores[:, 0].tolist(), strict=True)
        ]
    best = zip(
        labels[..., 0].tolist(), scores[..., 0].tolist(), batch.frame_lengths.tolist(), strict=True
    )
    return [
        [Answer(tuple(tokenizer.decode([n]) for n in ids[:count]), sum(row_scores[:count]) / count)]
        for ids, row_scores, count in best
    ]


class Scorer(Protocol):
    """Scores the answers to a fixed set of examples."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about scores that will not be meaningful, whatever the answers are."""
        ...

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        """Compute all metrics, or only those that are quick to compute."""
        ...


def make_scorer(dataset: Dataset, tokenizer: str = AUTO) -> Scorer:
    """Return the scorer of a task, for all examples of a split.

    Args:
        dataset: split to score.
        tokenizer: name of a metric tokenizer, or "auto"; see `EvaluationConfig`.

    Raises:
        UserError: the tokenizer is not available.
    """
    references = [example.targets for example in dataset.examples]
    if dataset.task.output == "sentence":
        language = dataset.target_language
        scorer = CaptionScorer(references, choose_tokenizer(tokenizer, language), language)
        return _SentenceScorer(scorer, dataset.task)
    return _LabelScorer(references, dataset.task)


class _SentenceScorer:
    def __init__(self, scorer: CaptionScorer, task: Task) -> None:
        self._scorer = scorer
        # Translations have their own metrics: coco-caption's would read them as English.
        self._is_translation = task.has_source

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._scorer.warnings

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        texts = [answer.texts[0] for answer in answers]
        if self._is_translation:
            return self._scorer.score(texts, TRANSLATION_METRICS)
        return self._scorer.score(texts, QUICK_METRICS if quick else ALL_METRICS)


class _LabelScorer:
    def __init__(self, references: Sequence[Sequence[str]], task: Task) -> None:
        self._one_a_frame = task.output == "label_per_frame"
        self._scorer: Any = (LabelScorer if self._one_a_frame else AnswerScorer)(references)
        self.warnings: tuple[str, ...] = ()

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        del quick  # all metrics are quick to compute
        texts = [a.texts if self._one_a_frame else a.texts[0] for a in answers]
        scores: Scores = self._scorer.score(texts)
        return scores


def make_samples(dataset: Dataset, answers: Mapping[int, Answer]) -> list[Sample]:
    """Combine answers, by example number, with the references; in the order of the examples."""
    return [
        Sample(
            id=dataset.examples[n].id,
            item_key=dataset.examples[n].item_key,
            source=dataset.examples[n].source,
            hypothesis=" | ".join(answers[n].texts),
            references=dataset.examples[n].targets,
            score=answers[n].score,
        )
        for n in sorted(answers)
    ]


def sample_texts(model: Generator[Any], tokenizer: Tokenizer, search: SearchConfig) -> list[Sample]:
    """Return sample texts that a language model writes, drawn at random."""
    device = next(model.parameters()).device
    batch = make_batch([Row() for _ in range(NUM_TEXTS)], sentences=True).to(device)
    rows = sample_stream(model, batch, tokenizer, search, TEXT_TOKENS)
    return [
        Sample(f"text {n}", None, None, _lines(row, tokenizer), (), 0.0)
        for n, row in enumerate(rows, start=1)
    ]


def _lines(token_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Decode running text, with a line break at each <eos>."""
    lines: list[list[int]] = [[]]
    for token in token_ids:
        if token == EOS_ID:
            lines.append([])
        else:
            lines[-1].append(token)
    return "\n".join(tokenizer.decode(line) for line in lines)


def evaluate(
    model: Model,
    tokenizer: Tokenizer,
    dataset: Dataset | LanguageModelDataset,
    split: str,
    search: SearchConfig,
    settings: TrainingConfig,
    metric_tokenizer: str = AUTO,
) -> Evaluation:
    """Answer a whole split and score the answers; for running text, measure the likelihood only.

    Args:
        model: model in evaluation mode.
        tokenizer: tokenizer of the targets.
        dataset: split to evaluate on.
        split: name of the split.
        search: settings of the search, for sentences.
        settings: settings that define the batches.
        metric_tokenizer: name of a metric tokenizer, or "auto"; see `EvaluationConfig`.
    """
    batches = make_sampler(dataset, settings).epoch(0)
    nll = negative_log_likelihood(model, dataset, batches, len(tokenizer))
    if isinstance(dataset, LanguageModelDataset):
        likelihood = _likelihood_scores(nll, tokenizer, f"|lanes:{dataset.num_lanes}")
        assert isinstance(model, Generator)
        windows = range(len(likelihood.statistics["nats_per_token"]))
        window_samples = tuple(Sample(f"window {n}", None, None, "", (), 0.0) for n in windows)
        texts = tuple(sample_texts(model, tokenizer, search))
        return Evaluation(split, window_samples, int(nll[:, 1].sum()), 0, likelihood, texts)
    scorer = make_scorer(dataset, metric_tokenizer)
    answers = answer_examples(model, dataset, range(len(dataset.examples)), search)
    scores = scorer.score(answers, quick=False)
    scores = scores.merge(_likelihood_scores(sum_by_example(nll, dataset), tokenizer))
    samples = make_samples(dataset, dict(enumerate(answers)))
    if dataset.task.output == "sentence":
        best_references = reference_scores(nll, dataset, search)
        if best_references is None:
            scores = replace(
                scores, not_measured=scores.not_measured | {"search_errors": NO_SEARCH_ERRORS}
            )
        else:
            missed = search_errors(best_references, [answer.score for answer in answers])
            scores = scores.merge(
                Scores.of({"search_errors": "search_errors"}, {"search_errors": weighted(missed)})
            )
            samples = [
                replace(sample, reference_score=score if np.isfinite(score) else None)
                for sample, score in zip(samples, best_references.tolist(), strict=True)
            ]
    scores = replace(scores, warnings=dataset.warnings + scores.warnings)
    return Evaluation(split, tuple(samples), len(samples), len(dataset.left_out), scores)


def _likelihood_scores(nll: NDArray[np.float64], tokenizer: Tokenizer, of: str = "") -> Scores:
    details = f"tokens:{tokenizer.kind}|vocabulary:{len(tokenizer)}{of}"
    names = ("nats_per_token", "perplexity")
    return Scores.of({name: f"{name}|{details}" for name in names}, dict.fromkeys(names, nll))
