"""Sentences of anyone's, ranked anew by what a model thinks of them.

Sutskever et al. 2014, section 3.6, rank the 1000-best lists of a phrase-based system so, with the
mean of both scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import UserError
from training.evaluation.evaluate import ANSWER_BATCH, Questions
from training.evaluation.likelihood import log_probs_of
from training.models.generator import Generator
from training.predictions import Prediction


def rescore(
    model: Generator[Any],
    questions: Questions,
    numbers: Mapping[str, int],
    candidates: Sequence[Prediction],
    *,
    length_penalty: float,
    weight: float,
) -> list[Prediction]:
    """Rank candidates by (1 - weight) * the model's score + weight * the score they have.

    The model's score is log-probability / length ** length_penalty, as a search's; of words that it
    does not know it is that of <unk>. A candidate is read whole, however long it is, and as the
    tokenizer divides it: a sentence that a model put together from other subwords scores otherwise.

    Args:
        model: in evaluation mode.
        questions: what candidates are about.
        numbers: of the questions, by the candidates' ids.
        candidates: those of an id need not stand together.
        length_penalty: see above.
        weight: 0..1.

    Returns:
        The candidates with their new ranks and scores; ids in the order of their first candidate,
        equals in the order given.

    Raises:
        UserError: a candidate is about nothing that there is.
    """
    tokenizer = questions.vocabularies.target
    for candidate in candidates:
        if candidate.id not in numbers:
            raise UserError(f"--rescore: id {candidate.id!r}, allowed: those of what is asked")
    tokens = tokenizer.encode_all([candidate.text for candidate in candidates])
    rows = [(numbers[one.id], ids) for one, ids in zip(candidates, tokens, strict=True)]
    # Those of like length go together, so that little is padding, and those of one question, so
    # that it is looked at once.
    order = sorted(
        range(len(rows)), key=lambda at: (questions.question_length(rows[at][0]), rows[at][0])
    )
    device = next(model.parameters()).device
    scores: dict[int, float] = {}
    for at in range(0, len(order), ANSWER_BATCH):
        some = order[at : at + ANSWER_BATCH]
        batch = questions.with_targets([rows[n] for n in some]).to(device)
        for n, log_prob in zip(
            some, log_probs_of(model, batch, len(tokenizer)).tolist(), strict=True
        ):
            own = log_prob / (len(rows[n][1]) + 1) ** length_penalty
            scores[n] = (1 - weight) * own + weight * candidates[n].score
    lists: dict[str, list[Prediction]] = {}
    for n, candidate in enumerate(candidates):
        lists.setdefault(candidate.id, []).append(replace(candidate, score=scores[n]))
    return [
        replace(one, rank=rank)
        for found in lists.values()
        for rank, one in enumerate(sorted(found, key=lambda p: -p.score), start=1)
    ]
