"""The champion of a registered model, in a real store."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.registry.registry import (
    RegistryState,
    challenge,
    champion,
    promote,
    refuse,
    rollback,
)
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, resolve_run

names = (f"model-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def runs(uri: str) -> list[RunRef]:
    """Three that kept a model."""
    refs = []
    for name in ("one", "two", "three"):
        with TrackedRun.start(uri, "registry", name, tags={"recipe": "s2vt"}) as run:
            run.text("model/weights.txt", name)
        refs.append(run.ref)
    return refs


@pytest.fixture(autouse=True)
def _ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")


@pytest.fixture
def model() -> str:
    """A name of its own for each test."""
    return next(names)


def registered(uri: str, model: str):
    from mlflow import MlflowClient

    return MlflowClient(uri).get_registered_model(model)


def version_tags(uri: str, model: str, version: str) -> dict[str, str]:
    from mlflow import MlflowClient

    return MlflowClient(uri).get_model_version(model, version).tags


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "NOW", text)


def told(uri: str, model: str) -> list[str]:
    """The moves in the model's description, newest first."""
    lines = without_times(registered(uri, model).description).splitlines()
    return [line.replace(f"(#/models/{model}/versions/", "(") for line in lines if line[:2] == "- "]


def test_the_champion_is_found_by_its_alias(uri: str, runs: list[RunRef], model: str) -> None:
    first, second, _ = runs
    assert promote(first, model) == RegistryState(model, "1", first.run_id, True)
    assert promote(second, model, "*0.02* CIDEr, p < 1 %") == RegistryState(
        model, "2", second.run_id, True
    )
    assert resolve_run(f"models:/{model}@champion", uri) == second
    assert told(uri, model) == [
        r"- NOW: promoted [version 2](2) in place of version 1, by ann: \*0.02\* CIDEr, p &lt; 1 %",
        "- NOW: promoted [version 1](1), by ann",
    ]
    tags = [version_tags(uri, model, version)["champion"] for version in "12"]
    assert [without_times(tag) for tag in tags] == [
        "until NOW, since NOW, by ann",
        "since NOW, by ann: *0.02* CIDEr, p < 1 %",
    ]


def test_the_recipe_names_the_model(uri: str, runs: list[RunRef]) -> None:
    assert promote(runs[0]).model == "s2vt"
    with TrackedRun.start(uri, "registry", "of no recipe") as run:
        run.text("model/weights.txt", "x")
    with pytest.raises(UserError, match=r"of no recipe: .* give --model"):
        promote(run.ref)


def test_the_champion_again_changes_nothing(uri: str, runs: list[RunRef], model: str) -> None:
    promote(runs[0], model, "first")
    before = dict(registered(uri, model))
    assert promote(runs[0], model, "again") == RegistryState(model, "1", runs[0].run_id, False)
    assert dict(registered(uri, model)) == before


def test_a_rollback_walks_back_and_a_promotion_goes_on_from_there(
    uri: str, runs: list[RunRef], model: str
) -> None:
    first, second, third = runs
    for run in runs:
        promote(run, model)
    assert rollback(model, uri, "worse on dogs") == RegistryState(model, "2", second.run_id, True)
    assert rollback(model, uri).version == "1"
    with pytest.raises(UserError, match=f"{model}.*no other champion before"):
        rollback(model, uri)
    assert resolve_run(f"models:/{model}@champion", uri) == first
    promote(third, model)
    assert rollback(model, uri).version == "1"
    assert [line.removeprefix("- NOW: ") for line in told(uri, model)] == [
        "rolled back to [version 1](1) from version 3, by ann",
        "promoted [version 3](3) in place of version 1, by ann",
        "rolled back to [version 1](1) from version 2, by ann",
        "rolled back to [version 2](2) from version 3, by ann: worse on dogs",
        "promoted [version 3](3) in place of version 2, by ann",
        "promoted [version 2](2) in place of version 1, by ann",
        "promoted [version 1](1), by ann",
    ]


def test_what_was_changed_by_hand_is_taken_as_it_is(
    uri: str, runs: list[RunRef], model: str
) -> None:
    from mlflow import MlflowClient

    for run in runs:
        promote(run, model)
    client = MlflowClient(uri)
    client.set_registered_model_alias(model, "champion", "1")
    own = "Captions of films.\n\n"
    client.update_registered_model(model, own + registered(uri, model).description)
    client.delete_model_version(model, "3")
    assert rollback(model, uri).version == "2"
    assert registered(uri, model).description.startswith(f"{own}## Champions\n\n- ")
    assert told(uri, model)[0].startswith("- NOW: rolled back to [version 2](2) from version 1")
    assert len(told(uri, model)) == 4
    assert rollback(model, uri).version == "1"


def test_a_challenger_stays_beside_the_champion_until_it_is_one(
    uri: str, runs: list[RunRef], model: str
) -> None:
    first, second, _ = runs
    promote(first, model)
    assert challenge(second, model, "to be tried") == RegistryState(model, "2", second.run_id, True)
    assert not challenge(second, model).changed
    assert resolve_run(f"models:/{model}@champion", uri) == first
    assert resolve_run(f"models:/{model}@challenger", uri) == second
    tag = version_tags(uri, model, "2")["challenger"]
    assert without_times(tag) == "since NOW, by ann: to be tried"
    assert promote(second, model).version == "2"
    assert set(registered(uri, model).aliases) == {"champion"}
    with pytest.raises(UserError, match="is the champion of"):
        challenge(second, model)


def test_a_refused_run_is_kept_with_the_reason(uri: str, runs: list[RunRef], model: str) -> None:
    first, second, _ = runs
    assert champion(model, uri) is None
    promote(first, model)
    challenge(second, model)
    assert refuse(second, model, "no better") == RegistryState(model, "2", second.run_id, True)
    assert not refuse(second, model, "no better").changed
    assert without_times(version_tags(uri, model, "2")["refused"]) == "NOW, by ann: no better"
    assert set(registered(uri, model).aliases) == {"champion"}
    assert champion(model, uri) == first


def test_a_long_history_forgets_its_oldest_moves(uri: str, runs: list[RunRef], model: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.create_registered_model(model)
    moves = "\n".join(f"- move {number} {'why ' * 70}" for number in range(17))
    client.update_registered_model(model, f"## Champions\n\n{moves}")
    promote(runs[0], model, "w" * 300)
    newest, *others = told(uri, model)
    assert newest.endswith("w" * 300)
    assert [line.split()[2] for line in others] == [str(number) for number in range(len(others))]
    assert 10 < len(others) < 17 and len(registered(uri, model).description) <= 5000
    with pytest.raises(UserError, match="--why: 301 characters, allowed: at most 300"):
        rollback(model, uri, "x" * 301)


def test_killed_anywhere_and_called_again_it_happens_once(
    uri: str, runs: list[RunRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(model: str, action: str) -> RegistryState:
        if action == "promote":
            return promote(runs[1], model, "best")
        return rollback(model, uri, "worse")

    def state(model: str) -> tuple[object, ...]:
        page = registered(uri, model)
        times = [without_times(version_tags(uri, model, version)["champion"]) for version in "12"]
        return dict(page.aliases), dict(page.tags), told(uri, model), times

    actions = ("promote", "rollback")
    undisturbed = next(names)
    promote(runs[0], undisturbed)
    writes, states = {}, {}
    for action in actions:
        writes[action] = count_writes(monkeypatch, lambda a=action: act(undisturbed, a))
        states[action] = state(undisturbed)
    assert min(writes.values()) > 5
    for number in range(max(writes.values())):
        model = next(names)
        promote(runs[0], model)
        for action in actions:
            if number < writes[action]:
                with pytest.raises(KeyboardInterrupt):
                    count_writes(monkeypatch, lambda m=model, a=action: act(m, a), number)
            act(model, action)
            assert state(model) == states[action]


def count_writes(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], object],
    kill_at: int | None = None,
) -> int:
    """Act, and end before a write to the store; how many there were."""
    from mlflow import MlflowClient

    counter = itertools.count()
    count = 0

    def watched(write: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal count
            number, count = next(counter), count + 1
            if number == kill_at:
                raise KeyboardInterrupt
            return write(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in (
            "create_registered_model",
            "create_model_version",
            "set_registered_model_tag",
            "delete_registered_model_tag",
            "set_registered_model_alias",
            "delete_registered_model_alias",
            "set_model_version_tag",
            "update_registered_model",
        ):
            patch.setattr(MlflowClient, name, watched(getattr(MlflowClient, name)))
        act()
    return count


def test_what_is_not_there_is_one_line(uri: str, tmp_path: Path, model: str) -> None:
    with TrackedRun.start(uri, "registry", "bare") as run:
        pass
    with pytest.raises(UserError, match="run bare: it kept no model"):
        promote(run.ref, model)
    with pytest.raises(UserError, match=model):
        rollback(model, uri)
    with pytest.raises(UserError, match="no models yet"):
        rollback(model, f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())
