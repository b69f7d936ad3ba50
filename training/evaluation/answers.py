"""Answers of a model to the examples of a split or the inputs of a user, for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.batch import Batch
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.tokenizer import SPECIAL, Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.sample import Sample
from intertitle.training.models.base import Generator, Model
from intertitle.training.search.generate import generate

# Number of examples per batch; with a beam of K, the network computes K times as many rows at once.
ANSWER_BATCH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """Output of a model for one example.

    Attributes:
        texts: a sentence, a label, or a label for each frame.
        score: score of the search, see `Hypothesis.score`; for labels, the mean log-probability.
    """

    texts: tuple[str, ...]
    score: float


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
            chunk_answers = rank_labels(model, batch, tokenizer, num)
        answers |= zip(chunk, chunk_answers, strict=True)
        on_progress(len(answers), len(order))
    return [answers[example] for example in examples]


@torch.inference_mode()
def rank_labels(model: Model, batch: Batch, tokenizer: Tokenizer, num: int) -> list[list[Answer]]:
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


def make_samples(dataset: Dataset, answers: Mapping[int, Answer]) -> list[Sample]:
    """Combine answers, by example number, with the references; in the order of the examples."""
    per_frame = dataset.task.output == "label_per_frame"
    return [
        Sample(
            id=dataset.examples[n].id,
            item_key=dataset.examples[n].item_key,
            source=dataset.examples[n].source,
            hypothesis=" | ".join(answers[n].texts),
            references=dataset.examples[n].targets,
            score=answers[n].score,
            labels=answers[n].texts if per_frame else (),
        )
        for n in sorted(answers)
    ]
