"""Check that the sections of a recipe are compatible, before any work starts."""

from __future__ import annotations

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import metric_task, metrics_of
from intertitle.training.config.models import MODELS
from intertitle.training.config.recipe import Recipe
from intertitle.training.config.samplers import SAMPLERS
from intertitle.training.data.task import Task
from intertitle.training.models.build import task_of

MIN_SUBWORDS = 16


def check_recipe(recipe: Recipe) -> None:
    """Check that the sections of a recipe are compatible with its model.

    Raises:
        UserError: a field does not fit; the message names it, its value and the allowed values.
    """
    task, kind = task_of(recipe.model), recipe.model.kind
    labels = task.output in ("label", "label_per_frame")
    if labels != (recipe.tokenizer.kind == "labels"):
        allowed = "labels" if labels else "captions, words, characters, subwords"
        raise UserError(
            f"tokenizer.kind: {recipe.tokenizer.kind!r}, allowed for model.kind {kind}: {allowed}"
        )
    if kind == "template" and recipe.tokenizer.kind not in ("captions", "words"):
        raise UserError(
            f"tokenizer.kind: {recipe.tokenizer.kind!r}, allowed for model.kind {kind}: captions, "
            "words"
        )
    for name in ("tokenizer", "source_tokenizer"):
        config = getattr(recipe, name)
        if config.kind == "subwords" and config.size < MIN_SUBWORDS:
            raise UserError(f"{name}.size: {config.size}, allowed: at least {MIN_SUBWORDS}")
    monitors = _monitors(task)
    if recipe.training.monitor not in monitors:
        raise UserError(
            f"training.monitor: {recipe.training.monitor!r}, allowed for model.kind {kind}: "
            f"{', '.join(monitors)}"
        )
    SAMPLERS.check(recipe.training.sampler, "training.sampler")
    objectives = _objectives(recipe, task)
    if recipe.objective.kind not in objectives:
        raise UserError(
            f"objective.kind: {recipe.objective.kind!r}, allowed for model.kind {kind}: "
            f"{', '.join(objectives)}"
        )
    if recipe.objective.kind == "self_critical":
        _check_noise(recipe)
    attends = MODELS.load(kind, "model.kind").attends
    attends = attends or getattr(recipe.model, "attention", "none") != "none"
    if recipe.search.coverage_penalty and not attends:
        raise UserError(
            f"search.coverage_penalty: {recipe.search.coverage_penalty}, allowed for model.kind "
            f"{kind}: 0, as it has no attention"
        )


def _monitors(task: Task) -> tuple[str, ...]:
    metrics = metrics_of(metric_task(task))
    return ("nats_per_token", *(metric.name for metric in metrics if metric.monitor))


def _objectives(recipe: Recipe, task: Task) -> tuple[str, ...]:
    if task.output != "sentence":
        return ("teacher_forcing",)
    # The words of a template do not depend on the preceding words.
    if recipe.model.kind == "template":
        return ("teacher_forcing", "consensus")
    return ("teacher_forcing", "consensus", "scheduled_sampling", "self_critical")


def _check_noise(recipe: Recipe) -> None:
    noise = {"optimizer.label_smoothing": recipe.optimizer.label_smoothing} | {
        f"model.{name}": value for name, value in recipe.model if name.endswith("dropout")
    }
    changes = " ".join(f"{name}=0" for name, value in noise.items() if value)
    if changes:
        raise UserError(
            f"objective.kind: 'self_critical' needs {changes}: it learns from the sentences of the "
            "very model that it changes"
        )
