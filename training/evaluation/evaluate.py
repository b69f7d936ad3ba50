"""A split becomes answers, and answers become scores: one way for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import SearchConfig, TrainingConfig
from training.data.batch import Batch, Row, make_batch
from training.data.dataset import Dataset, make_sampler
from training.data.stream import StreamDataset
from training.data.task import Task
from training.data.tokenizer import EOS_ID, SPECIAL, Tokenizer
from training.data.vocabularies import Vocabularies
from training.evaluation.answers import AnswerScorer, LabelScorer
from training.evaluation.blame import NO_SEARCH_ERRORS, reference_scores, search_errors
from training.evaluation.finding import find, write_on
from training.evaluation.likelihood import by_example, surprise
from training.evaluation.metrics import (
    ALL_METRICS,
    QUICK_METRICS,
    TRANSLATION_METRICS,
    CaptionScorer,
    Scores,
    weighted,
)
from training.evaluation.sample import Sample
from training.evaluation.tokens import AUTO, choose_tokenizer
from training.models.generator import Generator, Model

# Examples answered at once: K times as many rows go through the network together.
ANSWER_BATCH = 64
# Of running text: pieces to look at, and tokens of each.
NUM_TEXTS, TEXT_TOKENS = 8, 400


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model tells of one example.

    Attributes:
        texts: a sentence, a label, or a label for each frame.
        score: of the search, see `Hypothesis.score`; of labels, the mean log-probability.
    """

    texts: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did on a split.

    Attributes:
        split: its name.
        samples: an entry for each example that has what it needs; of running text for each of the
            windows that it was read in, which tell nothing.
        num_examples: that were measured; of running text its tokens.
        num_left_out: examples whose item is in quarantine.
        scores: of the whole, with how each was computed.
        texts: pieces of running text that the model wrote.
    """

    split: str
    samples: tuple[Sample, ...]
    num_examples: int
    num_left_out: int
    scores: Scores
    texts: tuple[Sample, ...] = ()


Progress = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """Tells nobody."""


class Questions(Protocol):
    """Things to tell of, by number: the examples of a split, or what a person asks.

    Attributes:
        vocabularies: of the texts.
    """

    @property
    def vocabularies(self) -> Vocabularies: ...

    def question_length(self, example: int) -> int:
        """Frames and source tokens."""
        ...

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Some of them, each with the tokens of a target, which may be none."""
        ...


def answer_examples(
    model: Model,
    questions: Questions,
    examples: Sequence[int] | range,
    search: SearchConfig,
    on_progress: Progress = quiet,
) -> list[Answer]:
    """What a model tells of some examples."""
    ranked = rank_answers(model, questions, examples, search, on_progress=on_progress)
    return [answers[0] for answers in ranked]


def rank_answers(
    model: Model,
    questions: Questions,
    examples: Sequence[int] | range,
    search: SearchConfig,
    num: int = 1,
    on_progress: Progress = quiet,
) -> list[list[Answer]]:
    """The best that a model tells of some examples, in their order.

    Args:
        model: in evaluation mode.
        questions: that the examples are among.
        examples: by number.
        search: how sentences are found.
        num: answers an example at most, best first; see `find`.
        on_progress: told how many are done, of how many.

    Raises:
        UserError: the model can't be searched so, or something to look at can't be read.
    """
    device = next(model.parameters()).device
    tokenizer = questions.vocabularies.target
    # Those of like length go together, so that little is padding.
    order = sorted(examples, key=questions.question_length)
    answers: dict[int, list[Answer]] = {}
    for at in range(0, len(order), ANSWER_BATCH):
        some = order[at : at + ANSWER_BATCH]
        batch = questions.with_targets([(n, ()) for n in some]).to(device)
        if isinstance(model, Generator):
            found = find(model, batch, tokenizer, search, some, num)
            told = [[Answer((tokenizer.decode(h.token_ids),), h.score) for h in r] for r in found]
        else:
            told = _name(model, batch, tokenizer, num)
        answers |= zip(some, told, strict=True)
        on_progress(len(answers), len(order))
    return [answers[example] for example in examples]


@torch.inference_mode()
def _name(model: Model, batch: Batch, tokenizer: Tokenizer, num: int) -> list[list[Answer]]:
    """The likeliest labels of each row, or the likeliest of each of its frames."""
    logits = model.logits(model.hidden(batch)).float()
    logits[..., : len(SPECIAL)] = -torch.inf
    scores, labels = torch.log_softmax(logits, -1).topk(min(num, len(tokenizer) - len(SPECIAL)))
    if model.task.tells == "label":
        return [
            [Answer((tokenizer.decode([n]),), s) for n, s in zip(ids, some, strict=True)]
            for ids, some in zip(labels[:, 0].tolist(), scores[:, 0].tolist(), strict=True)
        ]
    best = zip(
        labels[..., 0].tolist(), scores[..., 0].tolist(), batch.num_frames.tolist(), strict=True
    )
    return [
        [Answer(tuple(tokenizer.decode([n]) for n in ids[:count]), sum(some[:count]) / count)]
        for ids, some, count in best
    ]


class Scorer(Protocol):
    """Scores the answers to a fixed set of examples."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of scores that will say little, whatever the answers."""
        ...

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        """All that there is to say, or what is quickly said."""
        ...


def make_scorer(dataset: Dataset, tokenizer: str = AUTO) -> Scorer:
    """The scorer of a task, for all examples of a split.

    Args:
        dataset: the split.
        tokenizer: see `EvaluationConfig`.

    Raises:
        UserError: the tokenizer can't be had.
    """
    references = [example.targets for example in dataset.examples]
    if dataset.task.tells == "sentence":
        language = dataset.target_language
        scorer = CaptionScorer(references, choose_tokenizer(tokenizer, language), language)
        return _Sentences(scorer, dataset.task)
    return _Labels(references, dataset.task)


class _Sentences:
    def __init__(self, scorer: CaptionScorer, task: Task) -> None:
        self._scorer = scorer
        # A translation is measured as such: coco-caption's metrics would read it as English.
        self._is_translation = task.reads

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._scorer.warnings

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        texts = [answer.texts[0] for answer in answers]
        if self._is_translation:
            return self._scorer.score(texts, TRANSLATION_METRICS)
        return self._scorer.score(texts, QUICK_METRICS if quick else ALL_METRICS)


class _Labels:
    def __init__(self, references: Sequence[Sequence[str]], task: Task) -> None:
        self._one_a_frame = task.tells == "label_per_frame"
        self._scorer: Any = (LabelScorer if self._one_a_frame else AnswerScorer)(references)
        self.warnings: tuple[str, ...] = ()

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        del quick  # all of it is
        texts = [a.texts if self._one_a_frame else a.texts[0] for a in answers]
        scores: Scores = self._scorer.score(texts)
        return scores


def make_samples(dataset: Dataset, answers: Mapping[int, Answer]) -> list[Sample]:
    """Answers by example, in the examples' order, beside their references."""
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


def write_texts(model: Generator[Any], tokenizer: Tokenizer, search: SearchConfig) -> list[Sample]:
    """Running text of a model's own, drawn at random."""
    device = next(model.parameters()).device
    batch = make_batch([Row() for _ in range(NUM_TEXTS)], sentences=True).to(device)
    rows = write_on(model, batch, tokenizer, search, TEXT_TOKENS)
    return [
        Sample(f"text {n}", None, None, _lines(row, tokenizer), (), 0.0)
        for n, row in enumerate(rows, start=1)
    ]


def _lines(token_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Running text, a line at each <eos>."""
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
    dataset: Dataset | StreamDataset,
    split: str,
    search: SearchConfig,
    settings: TrainingConfig,
    metric_tokenizer: str = AUTO,
) -> Evaluation:
    """Answer a whole split, and score the answers; of running text, the surprise alone."""
    batches = make_sampler(dataset, settings).epoch(0)
    told = surprise(model, dataset, batches, len(tokenizer))
    if isinstance(dataset, StreamDataset):
        surprised = _surprise_scores(told, tokenizer, f"|lanes:{dataset.num_lanes}")
        assert isinstance(model, Generator)
        windows = range(len(surprised.statistics["nats_per_token"]))
        read = tuple(Sample(f"window {n}", None, None, "", (), 0.0) for n in windows)
        texts = tuple(write_texts(model, tokenizer, search))
        return Evaluation(split, read, int(told[:, 1].sum()), 0, surprised, texts)
    scorer = make_scorer(dataset, metric_tokenizer)
    answers = answer_examples(model, dataset, range(len(dataset.examples)), search)
    scores = scorer.score(answers, quick=False)
    scores = scores.beside(_surprise_scores(by_example(told, dataset), tokenizer))
    samples = make_samples(dataset, dict(enumerate(answers)))
    if dataset.task.tells == "sentence":
        likeliest = reference_scores(told, dataset, search)
        if likeliest is None:
            scores = replace(
                scores, not_measured=scores.not_measured | {"search_errors": NO_SEARCH_ERRORS}
            )
        else:
            missed = search_errors(likeliest, [answer.score for answer in answers])
            scores = scores.beside(
                Scores.of({"search_errors": "search_errors"}, {"search_errors": weighted(missed)})
            )
            samples = [
                replace(sample, reference_score=score if np.isfinite(score) else None)
                for sample, score in zip(samples, likeliest.tolist(), strict=True)
            ]
    scores = replace(scores, warnings=dataset.warnings + scores.warnings)
    return Evaluation(split, tuple(samples), len(samples), len(dataset.left_out), scores)


def _surprise_scores(told: NDArray[np.float64], tokenizer: Tokenizer, of: str = "") -> Scores:
    what = f"tokens:{tokenizer.kind}|vocabulary:{len(tokenizer)}{of}"
    names = ("nats_per_token", "perplexity")
    return Scores.of({name: f"{name}|{what}" for name in names}, dict.fromkeys(names, told))
