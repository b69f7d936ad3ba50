"""Recipes: what they say is what a training does, and what they can't say is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import (
    change_search,
    flatten,
    load_recipe,
    recipe_names,
    scale_to_workers,
)
from intertitle.training.models.build import task_of


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_read_under_its_own_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert task_of(recipe.model).output


def test_settings_change_fields_that_the_file_has_and_fields_that_it_has_not() -> None:
    recipe = load_recipe(
        "s2vt",
        [
            "training.epochs=3",
            "optimizer.learning_rate = 1e-4",
            "search.beam_size=7",
            "training.monitor=bleu_4",
            'optimizer.decay="none"',
            "name=mine",
        ],
    )
    assert recipe.training.epochs == 3
    assert recipe.optimizer.learning_rate == 1e-4
    assert recipe.search.beam_size == 7
    assert (recipe.training.monitor, recipe.optimizer.decay, recipe.name) == (
        "bleu_4",
        "none",
        "mine",
    )
    assert recipe.model == load_recipe("s2vt").model


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.hiden_size=3", ("model.hiden_size", "3", "hidden_size, ")),
        ("modell.hidden_size=3", ("modell", "allowed", "model, ")),
        ("model.kind=transformer", ("model.kind", "'transformer'", "show_and_tell", "s2vt")),
        ("training.epochs=0", ("training.epochs", "0", "greater than or equal to 1")),
        ("training.epochs=many", ("training.epochs", "'many'", "integer")),
        ("model.dropout=1", ("model.dropout", "1", "less than 1")),
        ("training.monitor=ciderr", ("training.monitor", "'ciderr'", "cider, ")),
        ("training.sampler=x", ("training.sampler", "'x'", "allowed: tokens")),
        ("optimizer.clip_norm=0", ("optimizer.clip_norm", "0", "greater than 0")),
        ("search.top_p=1.5", ("search.top_p", "1.5", "less than or equal to 1")),
        ("search.min_tokens=31", ("search.min_tokens", "31", "at most max_tokens, 30")),
        ("search.patience=inf", ("search.patience", "inf", "finite")),
        ("search.method=greedy", ("search.method", "'greedy'", "'beam' or 'sample'")),
        ("training.epochs", ("'training.epochs'", "section.field=value")),
        ("training.=3", ("'training.=3'", "section.field=value")),
        ("name.first=x", ("'name.first=x'", "'name' is not a section")),
        ("model=s2vt", ("model", "'s2vt'", "dictionary")),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    setting: str, named: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    file.write_text('name = "own"\n[model]\nkind = "s2vt"\n')
    with pytest.raises(UserError) as refused:
        load_recipe(str(file), [setting])
    assert "\n" not in str(refused.value)
    for part in named:
        assert part in str(refused.value)


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'s2v'.*mean_pool_video.*s2vt.*show_and_tell"):
        load_recipe("s2v")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "no such recipe file"),
        ("kind = [", "not TOML"),
        ("[model]\nhidden_size = 3\n", r"model\.kind: Field required"),
    ],
)
def test_a_recipe_file_that_is_none_is_refused_by_name(
    text: str | None, named: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=rf"own\.toml: {named}"):
        load_recipe(str(file))


def test_a_recipe_file_of_ones_own_is_named_after_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny film.toml"
    file.write_text('[model]\nkind = "s2vt"\nhidden_size = 3\n')
    recipe = load_recipe(str(file))
    assert (recipe.name, recipe.model.hidden_size) == ("tiny film", 3)


def test_only_given_search_settings_are_changed() -> None:
    recipe = load_recipe("attend_and_tell")
    changed = change_search(recipe, {"beam_size": 2, "length_penalty": None, "top_k": 4})
    expected = {"beam_size": 2, "length_penalty": 0.6, "top_k": 4}
    assert changed.search.model_dump() == recipe.search.model_dump() | expected
    assert changed.model_copy(update={"search": recipe.search}) == recipe
    with pytest.raises(UserError, match=r"attend_and_tell: search\.temperature: 0: .*to 0\.001"):
        change_search(recipe, {"temperature": 0})


def test_the_label_of_the_background_may_be_a_number() -> None:
    recipe = load_recipe("frame_tagger", ["evaluation.background=0"])
    assert recipe.evaluation.background == "0"


def test_a_recipe_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValidationError):
        load_recipe("s2vt").training.epochs = 3


def test_flatten_names_every_field_by_section() -> None:
    recipe = load_recipe("show_and_tell")
    flat = flatten(recipe)
    tree = recipe.model_dump()
    assert flat.pop("name") == tree.pop("name")
    assert flat == {f"{s}.{f}": value for s, fields in tree.items() for f, value in fields.items()}
    assert flat["optimizer.average_decay"] == 0.998


def test_a_batch_per_worker_grows_with_the_workers_and_the_rate_with_its_root() -> None:
    recipe = load_recipe(
        "show_and_tell", ["training.batch_tokens_per_worker=4096", "training.batch_tokens=1024"]
    )
    scaled = scale_to_workers(recipe, 4)
    assert scaled.training.batch_tokens == 16384
    assert scaled.optimizer.learning_rate == pytest.approx(4 * recipe.optimizer.learning_rate)
    assert scale_to_workers(scaled, 4) == scaled
    unscaled = load_recipe("show_and_tell")
    assert scale_to_workers(unscaled, 4) == unscaled
