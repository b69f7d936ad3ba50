"""What in a recipe does not go together: told before anything is begun."""

from __future__ import annotations

from pipeline.errors import UserError
from training.config import Recipe
from training.data.task import Task
from training.models.build import task_of

MIN_SUBWORDS = 16


def check_recipe(recipe: Recipe) -> None:
    """Make sure that a recipe's sections suit its model.

    Raises:
        UserError: names the field, its value and what is allowed.
    """
    task, kind = task_of(recipe.model), recipe.model.kind
    labels = task.tells in ("label", "label_per_frame")
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
    objectives = _objectives(recipe, task)
    if recipe.objective.kind not in objectives:
        raise UserError(
            f"objective.kind: {recipe.objective.kind!r}, allowed for model.kind {kind}: "
            f"{', '.join(objectives)}"
        )
    if recipe.objective.kind == "self_critical":
        _check_noise(recipe)
    attends = kind == "attend_and_tell" or getattr(recipe.model, "attention", "none") != "none"
    if recipe.search.coverage_penalty and not attends:
        raise UserError(
            f"search.coverage_penalty: {recipe.search.coverage_penalty}, allowed for model.kind "
            f"{kind}: 0, as it has no attention"
        )


def _monitors(task: Task) -> tuple[str, ...]:
    if task.tells == "stream":
        return ("nats_per_token",)
    if task.tells != "sentence":
        return ("nats_per_token", "accuracy")
    return ("nats_per_token", "sacrebleu") if task.reads else ("nats_per_token", "cider", "bleu_4")


def _objectives(recipe: Recipe, task: Task) -> tuple[str, ...]:
    if task.tells != "sentence":
        return ("teacher_forcing",)
    # A template's words do not depend on those before them.
    if recipe.model.kind == "template":
        return ("teacher_forcing", "consensus")
    return ("teacher_forcing", "consensus", "scheduled_sampling", "self_critical")


def _check_noise(recipe: Recipe) -> None:
    noise = {"optimizer.label_smoothing": recipe.optimizer.label_smoothing} | {
        f"model.{name}": value for name, value in recipe.model if name.endswith("dropout")
    }
    wanted = " ".join(f"{name}=0" for name, value in noise.items() if value)
    if wanted:
        raise UserError(
            f"objective.kind: 'self_critical' needs {wanted}: it learns from the sentences of the "
            "very model that it changes"
        )
