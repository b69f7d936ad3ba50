"""Answer the examples of a split with a model, and score the answers, for every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.training.config.sections import EvaluationConfig, SearchConfig, TrainingConfig
from intertitle.training.data.batch import Row, make_batch
from intertitle.training.data.dataset import Dataset, make_sampler
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.tokenizer import EOS_ID, Tokenizer
from intertitle.training.evaluation.answers import answer_examples, make_samples
from intertitle.training.evaluation.confusion import Confusion, count_confusion
from intertitle.training.evaluation.likelihood import negative_log_likelihood, sum_by_example
from intertitle.training.evaluation.metrics.scores import Scores, weighted
from intertitle.training.evaluation.phase import OnPhase, Phase, as_progress, no_report
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import make_scorer
from intertitle.training.evaluation.search_errors import (
    NO_SEARCH_ERRORS,
    reference_scores,
    search_errors,
)
from intertitle.training.evaluation.slices import Slice
from intertitle.training.models.base import Generator, Model
from intertitle.training.search.generate import sample_stream

# Number of sample texts that a language model writes, and number of tokens of each.
NUM_TEXTS, TEXT_TOKENS = 8, 400


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
        search: search that the predictions were generated with, such as "beam search of 3"; "" if
            none was.
        confusion: confusion of the labels; None for other tasks.
        slices: scores of parts of the split.
    """

    split: str
    samples: tuple[Sample, ...]
    num_examples: int
    num_left_out: int
    scores: Scores
    texts: tuple[Sample, ...] = ()
    search: str = ""
    confusion: Confusion | None = None
    slices: tuple[Slice, ...] = ()


def sample_texts(model: Generator[Any], tokenizer: Tokenizer, search: SearchConfig) -> list[Sample]:
    """Return sample texts that a language model writes, drawn at random."""
    device = next(model.parameters()).device
    batch = make_batch([Row() for _ in range(NUM_TEXTS)], sentences=True).to(device)
    rows = sample_stream(model, batch, tokenizer, search, TEXT_TOKENS)
    return [
        Sample(f"text {n}", None, None, decode_lines(row, tokenizer), (), 0.0)
        for n, row in enumerate(rows, start=1)
    ]


def decode_lines(token_ids: Sequence[int], tokenizer: Tokenizer) -> str:
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
    metrics: EvaluationConfig,
    on_phase: OnPhase = no_report,
) -> Evaluation:
    """Answer a whole split and score the answers; for running text, measure the likelihood only.

    Args:
        model: model in evaluation mode.
        tokenizer: tokenizer of the targets.
        dataset: split to evaluate on.
        split: name of the split.
        search: settings of the search, for sentences.
        settings: settings that define the batches.
        metrics: settings of the metrics.
        on_phase: callback for the phases of the evaluation.
    """
    on_phase(Phase(f"computing likelihoods of {split}"))
    batches = make_sampler(dataset, settings).epoch(0)
    nll = negative_log_likelihood(model, dataset, batches, len(tokenizer))
    if isinstance(dataset, LanguageModelDataset):
        likelihood = _likelihood_scores(nll, tokenizer, f"|lanes:{dataset.num_lanes}")
        assert isinstance(model, Generator)
        windows = range(len(likelihood.statistics["nats_per_token"]))
        window_samples = tuple(Sample(f"window {n}", None, None, "", (), 0.0) for n in windows)
        texts = tuple(sample_texts(model, tokenizer, search))
        return Evaluation(split, window_samples, int(nll[:, 1].sum()), 0, likelihood, texts)
    scorer = make_scorer(dataset, metrics)
    title = f"generating predictions for {split}"
    on_phase(Phase(title))
    examples = range(len(dataset.examples))
    answers = answer_examples(model, dataset, examples, search, as_progress(title, on_phase))
    on_phase(Phase(f"scoring {len(answers):,} predictions"))
    scores = scorer.score_answers(answers, quick=False)
    scores = scores.merge(_likelihood_scores(sum_by_example(nll, dataset), tokenizer))
    samples = make_samples(dataset, dict(enumerate(answers)))
    described = ""
    if dataset.task.output == "sentence":
        described = search.describe()
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
    references = [example.targets for example in dataset.examples]
    confusion = count_confusion(references, [answer.texts for answer in answers], dataset.task)
    return Evaluation(
        split,
        tuple(samples),
        len(samples),
        len(dataset.left_out),
        scores,
        search=described,
        confusion=confusion,
    )


def _likelihood_scores(nll: NDArray[np.float64], tokenizer: Tokenizer, of: str = "") -> Scores:
    details = f"tokens:{tokenizer.kind}|vocabulary:{len(tokenizer)}{of}"
    names = ("nats_per_token", "perplexity")
    return Scores.of({name: f"{name}|{details}" for name in names}, dict.fromkeys(names, nll))
