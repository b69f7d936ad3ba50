"""What a recipe says: one typed, frozen tree, read from TOML.

Values are checked once, here; classes elsewhere take plain arguments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pipeline.errors import UserError
from training.data.tokenizer import TokenizerKind
from training.evaluation.tokens import MetricTokenizer
from training.models.config import ModelConfig, PositiveFloat, PositiveInt, Section, Share

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class TokenizerConfig(Section):
    """How sentences become numbers; built from the training split alone.

    Attributes:
        kind: "captions": lower-cased words without punctuation, as captions are measured; "words":
            with punctuation; "characters"; "subwords": byte pair encoding (Sennrich et al. 2016);
            "labels": the whole text is one token.
        min_count: of captions, words and characters: one seen less often is unknown.
        size: of subwords and labels: so many at most.
        max_tokens: a longer text is cut; not running text.
    """

    kind: TokenizerKind = "captions"
    min_count: PositiveInt = 5
    size: PositiveInt = 8000
    max_tokens: PositiveInt = 30


class OptimizerConfig(Section):
    """How the weights move.

    Attributes:
        learning_rate: its highest value.
        weight_decay: decoupled, as in AdamW.
        warmup: share of the training over which the learning rate rises from 0.
        decay: how it falls afterwards: along a cosine to 0, or not at all.
        clip_norm: the gradient's norm is cut to it.
        label_smoothing: share of the target's probability spread over the vocabulary.
        average_decay: per step, of the running average of the weights that is evaluated and kept; 0
            keeps the weights themselves.
    """

    learning_rate: PositiveFloat = 1e-3
    weight_decay: NotNegative = 0.0
    warmup: Share = 0.05
    decay: Literal["cosine", "none"] = "cosine"
    clip_norm: PositiveFloat = 5.0
    label_smoothing: Share = 0.1
    average_decay: Share = 0.0


class TrainingConfig(Section):
    """How long, in which portions, and when to stop.

    Attributes:
        seed: of the weights, the batches and the dropout.
        epochs: at most.
        max_steps: at most, or None.
        batch_tokens: frames and words, padding included, of one batch over all workers.
        window: running text is learned in portions of so many tokens, batch_tokens / window of
            them side by side; the state is carried from each to the next.
        accumulate: a worker computes its share of a batch in so many parts, one after the other,
            to hold less at once; the step is the same.
        pool_batches: sentences of like length are put together inside a pool of so many batches.
        checkpoint_steps: a checkpoint is kept after so many steps, and after each epoch.
        monitor: the validation figure that decides which epoch is best.
        patience: stop after so many epochs without a better one.
        step_timeout_s: a worker that makes no progress for so many seconds is ended, and the
            training goes on from its last checkpoint.
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
    """How sentences are found.

    Attributes:
        method: "beam": the likeliest that a beam finds; "sample": drawn at random.
        beam_size: K; 1 is greedy.
        length_penalty: a sentence's score is its log-probability / length ** length_penalty.
        coverage_penalty: of a beam: how much a sentence loses that leaves a part of the source
            unsaid (Wu et al. 2016, their beta); 0 but for a model with attention.
        patience: of a beam: it looks no further once patience * beam_size sentences are finished;
            sooner if none can beat them. Larger is slower, and hardly ever finds another.
        consensus: of a beam: above 0, its sentences are ranked by how much they agree, each
            counting as exp(score / consensus); 0 ranks them by their scores.
        max_tokens: of a sentence.
        min_tokens: likewise.
        no_repeat_ngram: no so many words in a row come twice in a sentence; 0 lets them.
        prefix: every sentence begins with it.
        temperature: of drawing: below 1 the likely words get likelier.
        top_k: only so many of the likeliest words are drawn; 0 is all.
        top_p: only the fewest likeliest words are drawn that have this probability together.
        seed: of drawing; what an example draws hangs on it and on the example's number alone.
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
        most = info.data.get("max_tokens", value)
        if value > most:
            raise ValueError(f"allowed: at most max_tokens, {most}")
        return value


class ObjectiveConfig(Section):
    """What is learned from.

    Attributes:
        kind: "teacher_forcing": the right words before each word; "consensus": likewise, but a
            sentence counts as much as the others about the same thing agree with it (Phan et al.
            2017); "scheduled_sampling": a growing share of the words replaced by the model's own
            (Bengio et al. 2015); "self_critical": the model's own sentences, by their CIDEr (Rennie
            et al. 2017).
        max_share: of scheduled sampling, at the end of the training.
    """

    kind: Literal["teacher_forcing", "consensus", "scheduled_sampling", "self_critical"] = (
        "teacher_forcing"
    )
    max_share: Share = 0.25


class EvaluationConfig(Section):
    """How sentences are scored.

    Attributes:
        tokenizer: of the metrics that count words, sacreBLEU's name of it; "auto" follows the
            corpus' target language. With "13a" captions are measured by the PTB tokenizer.
    """

    tokenizer: MetricTokenizer = "auto"


class Recipe(Section):
    """Everything that determines a training besides its data.

    Attributes:
        name: of the recipe.
        model: the network.
        tokenizer: of what it tells.
        source_tokenizer: of what it reads, if it reads.
        objective: what is learned from.
        optimizer: how the weights move.
        training: how long, and in which portions.
        search: how sentences are found.
        evaluation: how they are scored.
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
    """The recipes that come with the project."""
    folder = resources.files("training") / "recipes"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change some of its values.

    Args:
        name: of a recipe that comes with the project, or the path of a TOML file.
        settings: "section.field=value" each; the value is read as TOML, else as text.

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
            (resources.files("training") / "recipes" / f"{name}.toml").read_text("utf-8"),
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
    """The recipe with some of its values changed; see `load_recipe`.

    Raises:
        UserError: a value is not allowed.
    """
    tree = recipe.model_dump()
    for setting in settings:
        _apply(tree, setting)
    return parse_recipe(tree, where)


def change_search(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """The recipe with another search: values by field; None is as it was.

    Raises:
        UserError: a value is not allowed.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    tree = recipe.model_dump()
    return parse_recipe({**tree, "search": {**tree["search"], **given}}, recipe.name)


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """Check a tree of plain values.

    Raises:
        UserError: names the place, the field, the value and what is allowed.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        path, value, message = [str(part) for part in first["loc"]], first["input"], first["msg"]
        shown = "" if first["type"] == "missing" else f" {value!r}:"
        section: Any = Recipe
        for part in path[:-1]:
            section = _section(section, part)
        if first["type"] == "union_tag_invalid":
            path, shown = [*path, "kind"], f" {value['kind']!r}:"
            message = f"allowed: {first['ctx']['expected_tags']}"
        elif first["type"] == "union_tag_not_found":
            path, shown, message = [*path, "kind"], "", "Field required"
        elif first["type"] == "extra_forbidden":
            message = f"no such field, allowed: {', '.join(section.model_fields)}"
        # pydantic names the kind of the model on the way: model.s2vt.hidden_size.
        field = ".".join([path[0], *path[2:]] if path[0] == "model" and len(path) > 2 else path)
        raise UserError(f"{where}: {field}:{shown} {message}") from error


def _section(section: Any, name: str) -> Any:
    """The section that a name leads to: a field's, or, in a choice of models, that of a kind."""
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
    """The recipe as "section.field" -> value, for a table of parameters."""
    flat: dict[str, Any] = {}
    for name, value in recipe.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{name}.{field}": v for field, v in value.items()})
        else:
            flat[name] = value
    return flat
