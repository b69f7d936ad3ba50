"""The recipe: a typed, immutable configuration that is read from TOML.

Values are validated here, once; classes in other modules take plain arguments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from intertitle.pipeline.errors import UserError
from intertitle.training.config.models import (
    ModelConfig,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
)

MetricTokenizer = Literal[
    "auto", "13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200"
]
TokenizerKind = Literal["captions", "words", "characters", "subwords", "labels"]

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class TokenizerConfig(Section):
    """Settings of a tokenizer, which is built from the training split only.

    Attributes:
        kind: "captions": lower-cased words without punctuation, as caption metrics count them;
            "words": words and punctuation; "characters"; "subwords": byte pair encoding (Sennrich
            et al. 2016); "labels": the whole text is one token.
        min_count: minimum count of a token in the vocabulary of captions, words and characters;
            rarer tokens are unknown.
        size: maximum size of the vocabulary of subwords, or maximum number of labels.
        max_tokens: maximum number of tokens of a text; longer texts are truncated, except running
            text.
    """

    kind: TokenizerKind = "captions"
    min_count: PositiveInt = 5
    size: PositiveInt = 8000
    max_tokens: PositiveInt = 30


class OptimizerConfig(Section):
    """Settings of the optimizer.

    Attributes:
        learning_rate: maximum learning rate.
        weight_decay: decoupled weight decay, as in AdamW.
        warmup: share of the training over which the learning rate rises from 0.
        decay: schedule of the learning rate after the warm-up: cosine decay to 0, or constant.
        clip_norm: maximum norm of the gradient.
        label_smoothing: share of the target's probability spread over the vocabulary.
        average_decay: decay per step of the running average of the weights, which is evaluated and
            saved; 0 uses the weights themselves.
    """

    learning_rate: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.0
    warmup: Share = 0.05
    decay: Literal["cosine", "none"] = "cosine"
    clip_norm: PositiveFloat = 5.0
    label_smoothing: Share = 0.1
    average_decay: Share = 0.0


class TrainingConfig(Section):
    """Settings of the training loop: length, batches, checkpoints, early stopping.

    Attributes:
        seed: seed of the weights, the batches and the dropout.
        epochs: maximum number of epochs.
        max_steps: maximum number of steps, or None.
        batch_tokens: number of frames and tokens of one batch over all workers, padding included.
        window: number of tokens of a window of running text; a batch has batch_tokens / window
            parallel streams, and the state is carried from each window to the next.
        accumulate: number of parts that a worker splits its share of a batch into and computes one
            after the other, to use less memory; the step is the same.
        pool_batches: size in batches of the pool within which sentences are grouped by length.
        checkpoint_steps: number of steps between checkpoints; a checkpoint is also saved after each
            epoch.
        monitor: validation metric that decides which epoch is best.
        patience: number of epochs without improvement after which training stops.
        step_timeout_s: number of seconds without progress after which a worker is stopped and the
            training continues from its last checkpoint.
    """

    seed: Count = 0
    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    batch_tokens: PositiveInt = 2048
    window: PositiveInt = 100
    accumulate: PositiveInt = 1
    pool_batches: PositiveInt = 100
    checkpoint_steps: PositiveInt = 1000
    monitor: Literal["cider", "bleu_4", "sacrebleu", "accuracy", "nats_per_token"] = (
        "nats_per_token"
    )
    patience: PositiveInt = 5
    step_timeout_s: PositiveFloat = 1800.0


class SearchConfig(Section):
    """Settings of the search that generates sentences.

    Attributes:
        method: "beam": the most probable sentences of a beam search; "sample": random sampling.
        beam_size: K; 1 is greedy search.
        length_penalty: exponent of the length: a sentence's score is its log-probability / length
            ** length_penalty.
        coverage_penalty: factor by which beam search lowers the score of a sentence that omits a
            part of the source (Wu et al. 2016, their beta); must be 0 for a model without
            attention.
        patience: factor of beam_size: beam search stops once patience * beam_size sentences are
            finished, or earlier if no other can beat them. A larger value is slower and rarely
            finds a better sentence.
        consensus: temperature of the reranking of a beam's sentences by their mutual agreement,
            each with the weight exp(score / consensus); 0 ranks them by their scores.
        max_tokens: maximum number of tokens of a sentence.
        min_tokens: minimum number of tokens of a sentence.
        no_repeat_ngram: length of the n-grams that may occur only once in a sentence; 0 disables
            the rule.
        prefix: text that every sentence begins with.
        temperature: temperature of sampling; below 1, probable tokens become more probable.
        top_k: number of most probable tokens to sample from; 0 means all.
        top_p: total probability of the smallest set of most probable tokens to sample from.
        seed: seed of sampling; the samples of an example depend only on it and on the example's
            number.
    """

    method: Literal["beam", "sample"] = "beam"
    beam_size: PositiveInt = 3
    length_penalty: NotNegative = 0.7
    coverage_penalty: NotNegative = 0.0
    patience: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    consensus: NotNegative = 0.0
    max_tokens: PositiveInt = 30
    min_tokens: Count = 0
    no_repeat_ngram: Count = 0
    prefix: str = ""
    temperature: PositiveFloat = 1.0
    top_k: Count = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Count = 0

    @field_validator("min_tokens")
    @classmethod
    def _fits(cls, value: int, info: ValidationInfo) -> int:
        max_tokens = info.data.get("max_tokens", value)
        if value > max_tokens:
            raise ValueError(f"allowed: at most max_tokens, {max_tokens}")
        return value


class ObjectiveConfig(Section):
    """Settings of the training objective.

    Attributes:
        kind: "teacher_forcing": the correct tokens before each token as input; "consensus": the
            same, but each sentence is weighted by its agreement with the other references of its
            example (Phan et al. 2017); "scheduled_sampling": an increasing share of the input
            tokens is replaced by the model's own predictions (Bengio et al. 2015); "self_critical":
            the model's own sentences, with their CIDEr as the reward (Rennie et al. 2017).
        max_share: share of replaced tokens at the end of training, for scheduled sampling.
    """

    kind: Literal["teacher_forcing", "consensus", "scheduled_sampling", "self_critical"] = (
        "teacher_forcing"
    )
    max_share: Share = 0.25


class EvaluationConfig(Section):
    """Settings of the evaluation metrics.

    Attributes:
        tokenizer: tokenizer of the metrics that count words, by its name in sacreBLEU; "auto"
            selects it by the target language of the corpus. With "13a", captions are evaluated with
            the PTB tokenizer.
    """

    tokenizer: MetricTokenizer = "auto"


class Recipe(Section):
    """Everything that determines a training except its data.

    Attributes:
        name: name of the recipe.
        model: settings of the model.
        tokenizer: settings of the target tokenizer.
        source_tokenizer: settings of the source tokenizer, for models with a source.
        objective: settings of the training objective.
        optimizer: settings of the optimizer.
        training: settings of the training loop.
        search: settings of the search.
        evaluation: settings of the evaluation metrics.
    """

    name: str
    model: ModelConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    source_tokenizer: TokenizerConfig = TokenizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    folder = resources.files("intertitle.training") / "recipes"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes to it.

    Args:
        name: name of a recipe that comes with the project, or path of a TOML file.
        settings: changes, each "section.field=value"; the value is parsed as TOML, or taken as text
            if it is not valid TOML.

    Raises:
        UserError: there is no such recipe, or a value is not allowed.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{name}: no such recipe file")
        try:
            text, title = path.read_text(encoding="utf-8"), path.stem
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: not UTF-8 at byte {error.start}") from error
    elif name in recipe_names():
        text, title = (
            (resources.files("intertitle.training") / "recipes" / f"{name}.toml").read_text(
                "utf-8"
            ),
            name,
        )
    else:
        known = ", ".join(recipe_names())
        raise UserError(f"recipe: {name!r}, allowed: {known}, or the path of a .toml file")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: not TOML: {error}") from error
    for setting in settings:
        _apply(tree, setting)
    return parse_recipe({"name": title, **tree}, name)


def change_recipe(recipe: Recipe, settings: Sequence[str], where: str) -> Recipe:
    """Return the recipe with the given changes.

    Args:
        recipe: recipe to change.
        settings: changes as in `load_recipe`.
        where: origin of the changes, which error messages begin with.

    Raises:
        UserError: a value is not allowed.
    """
    tree = recipe.model_dump()
    for setting in settings:
        _apply(tree, setting)
    return parse_recipe(tree, where)


def change_search(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """Return the recipe with changed search settings.

    Args:
        recipe: recipe to change.
        changes: values by field; None leaves a field unchanged.

    Raises:
        UserError: a value is not allowed.
    """
    values = {name: value for name, value in changes.items() if value is not None}
    tree = recipe.model_dump()
    return parse_recipe({**tree, "search": {**tree["search"], **values}}, recipe.name)


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe given as nested plain values.

    Args:
        tree: sections and their fields.
        where: origin of the values, which error messages begin with.

    Raises:
        UserError: a value is not allowed; the message names the origin, the field, the value and
            the allowed values.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path, value, message = [str(part) for part in first["loc"]], first["input"], first["msg"]
        value_text = "" if first["type"] == "missing" else f" {value!r}:"
        section: Any = Recipe
        for part in path[:-1]:
            section = _section(section, part)
        if first["type"] == "union_tag_invalid":
            path, value_text = [*path, "kind"], f" {value['kind']!r}:"
            message = f"allowed: {first['ctx']['expected_tags']}"
        elif first["type"] == "union_tag_not_found":
            path, value_text, message = [*path, "kind"], "", "Field required"
        elif first["type"] == "extra_forbidden":
            message = f"no such field, allowed: {', '.join(section.model_fields)}"
        # pydantic includes the kind of the model in the path: model.s2vt.hidden_size.
        field = ".".join([path[0], *path[2:]] if path[0] == "model" and len(path) > 2 else path)
        raise UserError(f"{where}: {field}:{value_text} {message}") from error


def _section(section: Any, name: str) -> Any:
    """Return the section of a field, or, in a union of models, the section of a kind."""
    if isinstance(section, type) and issubclass(section, Section):
        return section.model_fields[name].annotation
    return next(
        kind for kind in get_args(section) if name in get_args(kind.model_fields["kind"].annotation)
    )


def _apply(tree: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    *sections, name = path.strip().split(".")
    if not equals or not name:
        raise UserError(f"--set {setting!r}: expected section.field=value")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {setting!r}: {section!r} is not a section")
    try:
        tree[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree[name] = value


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as a mapping "section.field" -> value, to log as parameters."""
    flat: dict[str, Any] = {}
    for name, value in recipe.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{name}.{field}": v for field, v in value.items()})
        else:
            flat[name] = value
    return flat
