"""Rescore candidate sentences of any system with a model.

Sutskever et al. 2014, section 3.6, rescore the 1000-best lists of a phrase-based system in this
way, with the mean of both scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.answers import ANSWER_BATCH, Questions
from intertitle.training.evaluation.likelihood import sequence_log_probs
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.models.base import Generator


def rescore_nbest(
    model: Generator[Any],
    questions: Questions,
    numbers: Mapping[str, int],
    candidates: Sequence[Prediction],
    *,
    length_penalty: float,
    weight: float,
) -> list[Prediction]:
    """Rank candidates by (1 - weight) * the model's score + weight * their own score.

    The model's score is log-probability / length ** length_penalty, as in beam search; unknown
    words are scored as <unk>. A candidate is never truncated, and it is scored with the tokens that
    the tokenizer splits it into: a sentence that a model generated from other subwords has another
    score.

    Args:
        model: generator in evaluation mode.
        questions: inputs that the candidates belong to.
        numbers: numbers of the inputs by id.
        candidates: candidates in any order; the candidates of an id need not be consecutive.
        length_penalty: exponent of the length, see above.
        weight: weight of the candidates' own scores, 0..1.

    Returns:
        The candidates with their new ranks and scores; ids in the order of their first candidate,
        ties in input order.

    Raises:
        UserError: the id of a candidate is not among the inputs.
    """
    tokenizer = questions.vocabularies.target
    for candidate in candidates:
        if candidate.id not in numbers:
            raise UserError(f"--rescore: id {candidate.id!r}, allowed: the ids of the inputs")
    tokens = tokenizer.encode_all([candidate.text for candidate in candidates])
    rows = [(numbers[entry.id], ids) for entry, ids in zip(candidates, tokens, strict=True)]
    # Batch candidates of similar length to reduce padding, and those of one input together, so that
    # its features are loaded once.
    order = sorted(
        range(len(rows)), key=lambda at: (questions.question_length(rows[at][0]), rows[at][0])
    )
    device = next(model.parameters()).device
    scores: dict[int, float] = {}
    for at in range(0, len(order), ANSWER_BATCH):
        chunk = order[at : at + ANSWER_BATCH]
        batch = questions.with_targets([rows[n] for n in chunk]).to(device)
        for n, log_prob in zip(
            chunk, sequence_log_probs(model, batch, len(tokenizer)).tolist(), strict=True
        ):
            model_score = log_prob / (len(rows[n][1]) + 1) ** length_penalty
            scores[n] = (1 - weight) * model_score + weight * candidates[n].score
    lists: dict[str, list[Prediction]] = {}
    for n, candidate in enumerate(candidates):
        lists.setdefault(candidate.id, []).append(replace(candidate, score=scores[n]))
    return [
        replace(entry, rank=rank)
        for same_input in lists.values()
        for rank, entry in enumerate(sorted(same_input, key=lambda p: -p.score), start=1)
    ]
