"""Measure a run's model on a split, and log the results to the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.config.sections import EvaluationConfig, SearchConfig
from intertitle.training.data.data_ref import Data, DataRef, StorePaths
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.evaluation.evaluate import Evaluation, evaluate
from intertitle.training.evaluation.metrics.metric_tokenizer import choose_tokenizer
from intertitle.training.evaluation.phase import OnPhase, Phase, no_report
from intertitle.training.evaluation.slices import slice_scores, slice_values
from intertitle.training.inference.model_bundle import TrainedModel, data_for, load_ensemble
from intertitle.training.runs.log_evaluation import log_evaluation
from intertitle.training.tracking.run import reopen
from intertitle.training.tracking.store.client import RunRef

# Window in tokens that running text is read with, as one stream, so that its likelihood is exact.
EXACT_WINDOW = 1000


def evaluate_run(
    ref: RunRef,
    *,
    split: str,
    corpus: UPath | Path | None = None,
    features: StorePaths = None,
    ensemble: Sequence[RunRef] = (),
    tokenizer: str | None = None,
    max_source_tokens: int | None = None,
    on_phase: OnPhase = no_report,
    by: Sequence[str] = (),
    **search: object,
) -> Evaluation:
    """Measure a run's model on a split, and log the scores to the run.

    Args:
        ref: run to measure.
        split: name of a split of the corpus.
        corpus: folder or URL of a corpus; None uses the one that the model was trained on.
        features: feature stores, in the order of the training; None uses those that the model was
            trained on.
        ensemble: more runs, whose models predict together with that of `ref`.
        tokenizer: name of a metric tokenizer, see `EvaluationConfig`; None uses that of the recipe.
        max_source_tokens: length to which longer sources are cut; None uses that of the recipe.
        on_phase: callback for the phases of the evaluation.
        by: slices that are scored, too; see `evaluation.slices.slice_values`.
        search: fields of `SearchConfig`; fields that are None have the value of the recipe.

    Raises:
        UserError: the split does not exist, the features do not fit the model, the runs can't form
            an ensemble, or there is no such slice.
    """
    on_phase(Phase("loading the model"))
    trained = load_ensemble([ref, *ensemble]).to_default_device()
    search_config = trained.with_search(**search).recipe.search
    data = data_for(trained, corpus, features)
    changed = changed_settings(trained, data.ref, tokenizer, max_source_tokens)
    reading = trained.reading(max_source_tokens)
    evaluation = measure(reading, data, split, search_config, tokenizer, on_phase, by)
    on_phase(Phase("logging the evaluation"))
    ensemble_ids = [member.run_id for member in ensemble]
    with reopen(ref) as run:
        log_evaluation(run, trained, data, evaluation, search_config, ensemble_ids, changed=changed)
    return evaluation


def resolve_slices(
    dataset: Dataset | LanguageModelDataset, data: Data, by: Sequence[str], tokenizer: str
) -> dict[str, list[str]]:
    """Return the values of the examples for each slicing; see `evaluation.slices.slice_values`.

    Args:
        dataset: split that is measured.
        data: data of the split.
        by: names of slices.
        tokenizer: name of a metric tokenizer, or "auto"; see `EvaluationConfig`.

    Raises:
        UserError: there is no such slice, or the split is running text.
    """
    if not by:
        return {}
    if isinstance(dataset, LanguageModelDataset):
        raise UserError(f"--by {by[0]}: of no use to running text, which has no examples")
    kinds = {item.key: str(item.kind) for item in data.corpus.items()} if "kind" in by else {}
    counting = choose_tokenizer(tokenizer, dataset.target_language)
    return {
        name: slice_values(dataset.examples, name, dataset.task, kinds, counting) for name in by
    }


def with_slices(evaluation: Evaluation, values: Mapping[str, Sequence[str]]) -> Evaluation:
    """Return an evaluation with the scores of slices, given the result of `resolve_slices`."""
    statistics = evaluation.scores.statistics
    slices = [
        part for by, column in values.items() for part in slice_scores(by, column, statistics)
    ]
    return replace(evaluation, slices=tuple(slices))


def changed_settings(
    trained: TrainedModel,
    data: DataRef,
    tokenizer: str | None = None,
    max_source_tokens: int | None = None,
) -> dict[str, str | int]:
    """Return the settings of an evaluation that differ from the recipe, except those of the search.

    Raises:
        UserError: a tokenizer was passed for a model that does not generate sentences.
    """
    if tokenizer is not None and trained.task.output != "sentence":
        raise UserError(
            f"--tokenizer {tokenizer}: of no use to {trained.recipe.name}: it writes no sentences"
        )
    recipe, language = trained.recipe, data.target_language
    changed: dict[str, str | int] = {}
    if tokenizer is not None:
        chosen = choose_tokenizer(tokenizer, language)
        if chosen != choose_tokenizer(recipe.evaluation.tokenizer, language):
            changed["tokenizer"] = chosen
    if max_source_tokens and max_source_tokens != recipe.source_tokenizer.max_tokens:
        changed["max_source_tokens"] = max_source_tokens
    return changed


def metric_settings(recipe: Recipe, tokenizer: str | None) -> EvaluationConfig:
    """Return a recipe's settings of the metrics, with another tokenizer if one is given."""
    changes = {} if tokenizer is None else {"tokenizer": tokenizer}
    return recipe.evaluation.model_copy(update=changes)


def measure(
    trained: TrainedModel,
    data: Data,
    split: str,
    search: SearchConfig,
    tokenizer: str | None = None,
    on_phase: OnPhase = no_report,
    by: Sequence[str] = (),
) -> Evaluation:
    """Measure a model on a split of some data; see `evaluation.evaluate` and `resolve_slices`.

    Raises:
        UserError: the split does not exist, the features do not fit the model, the tokenizer is
            not available, or there is no such slice.
    """
    recipe, vocabularies = trained.recipe, trained.vocabularies
    if trained.task.output == "stream":
        # Read the text as one stream: the recurrent state is carried through all of it.
        settings = recipe.training.model_copy(
            update={"batch_tokens": EXACT_WINDOW, "window": EXACT_WINDOW}
        )
        recipe = recipe.model_copy(update={"training": settings})
    trained.check_features(data)
    dataset = open_dataset(data, split, recipe, trained.task, vocabularies)
    metrics = metric_settings(recipe, tokenizer)
    values = resolve_slices(dataset, data, by, metrics.tokenizer)
    evaluation = evaluate(
        trained.model,
        vocabularies.target,
        dataset,
        split,
        search,
        recipe.training,
        metrics,
        on_phase,
    )
    return with_slices(evaluation, values)
