"""Which run's model is in use: versions of a registered model, and its champion.

A registered model's alias `champion` points to the version in use, `challenger` to one that may
take its place; `models:/NAME@champion` means it everywhere. MLflow's page shows who moved the
champion, when and why: in the model's description, the newest first, and in a tag of each version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from training.tracking.moves import (
    CHAMPION,
    begin,
    champions_until_now,
    checked_note,
    finish,
    now,
    version_of,
)
from training.tracking.pages import as_markdown
from training.tracking.store import (
    RunRef,
    absolute,
    answering,
    database,
    impatient,
    open_client,
    resolve_run,
    shown,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
MODEL_ARTIFACT = "model"

_REFUSED = "refused"


@dataclass(frozen=True)
class Standing:
    """What a call came to.

    Attributes:
        model: the registered model's name.
        version: the one that is champion, or challenger, now.
        run_id: of the run that it is from.
        changed: whether the call changed anything.
    """

    model: str
    version: str
    run_id: str
    changed: bool


def promote(run: RunRef, model: str | None = None, why: str = "") -> Standing:
    """Make a run's model the champion, as a new version where it is none yet.

    Args:
        run: which kept a model.
        model: the registered model's name, made where there is none; None is the run's recipe.
        why: in at most 300 characters.

    Raises:
        UserError: the run has no model, or the store does not answer or refuses.
    """
    note = checked_note(why)
    with answering(run.tracking_uri), impatient():
        client = open_client(run.tracking_uri)
        name, version = _register(client, run, model)
        finished = finish(client, name)
        changed = finished is not None and finished.version == version
        champion = version_of(client, name, CHAMPION)
        if champion != version:
            champions = [*champions_until_now(client, name, champion), version]
            begin(client, name, champions, champion, "promoted", note)
            finish(client, name)
            changed = True
        if version_of(client, name, CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        return Standing(name, version, run.run_id, changed)


def challenge(run: RunRef, model: str | None = None, why: str = "") -> Standing:
    """Make a run's model the challenger, as a new version where it is none yet.

    Arguments and errors are those of `promote`; the champion stays.
    """
    note = checked_note(why)
    with answering(run.tracking_uri), impatient():
        client = open_client(run.tracking_uri)
        name, version = _register_other(client, run, model)
        changed = version_of(client, name, CHALLENGER) != version
        if changed:
            client.set_model_version_tag(name, version, CHALLENGER, f"since {now()} UTC, {note}")
            client.set_registered_model_alias(name, CHALLENGER, version)
        return Standing(name, version, run.run_id, changed)


def refuse(run: RunRef, model: str | None = None, why: str = "") -> Standing:
    """Keep a run's model as a version that is neither champion nor challenger, with the reason.

    Arguments and errors are those of `promote`.
    """
    note = checked_note(why)
    with answering(run.tracking_uri), impatient():
        client = open_client(run.tracking_uri)
        name, version = _register_other(client, run, model)
        changed = _REFUSED not in client.get_model_version(name, version).tags
        if changed:
            client.set_model_version_tag(name, version, _REFUSED, f"{now()} UTC, {note}")
        if version_of(client, name, CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        return Standing(name, version, run.run_id, changed)


def champion(model: str, tracking_uri: str) -> RunRef | None:
    """The run whose model is the champion; None where there is none.

    Raises:
        UserError: the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        return None
    with answering(uri), impatient():
        client = open_client(uri)
        try:
            version = client.get_model_version_by_alias(model, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return resolve_run(version.run_id, uri)


def rollback(model: str, tracking_uri: str, why: str = "") -> Standing:
    """Make the champion before the champion again; called again, the one before that.

    Args:
        model: the registered model's name.
        tracking_uri: MLflow's.
        why: in at most 300 characters.

    Raises:
        UserError: there is no such model, or no champion before; or the store does not answer.
    """
    note = checked_note(why)
    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        raise UserError(f"model {model!r}: there are no models yet at {shown(uri)}")
    with answering(uri), impatient():
        client = open_client(uri)
        finished = finish(client, model)
        if finished is None or finished.deed != "rolled back":
            champion = version_of(client, model, CHAMPION)
            champions = champions_until_now(client, model, champion)
            while champions and not _may_be_again(client, model, champions[-1], champion):
                champions.pop()
            if not champions:
                raise UserError(f"model {model!r}: there was no other champion before")
            begin(client, model, champions, champion, "rolled back", note)
            finish(client, model)
        version = client.get_model_version_by_alias(model, CHAMPION)
        return Standing(model, str(version.version), version.run_id, True)


def _register(client: MlflowClient, run: RunRef, model: str | None) -> tuple[str, str]:
    """The registered model and the run's version of it; both are made where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_run(run.run_id)
    if not client.list_artifacts(run.run_id, MODEL_ARTIFACT):
        raise UserError(f"run {run.name}: it kept no model")
    name = model or found.data.tags.get("recipe")
    if not name:
        raise UserError(f"run {run.name}: tells no recipe to name its model by: give --model")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"run_id = '{run.run_id}'")
    ours = [int(version.version) for version in versions if version.name == name]
    if ours:
        return name, str(max(ours))
    source = f"{found.info.artifact_uri}/{MODEL_ARTIFACT}"
    described = f"Run {as_markdown(run.name)}"
    made = client.create_model_version(name, source, run.run_id, description=described)
    return name, str(made.version)


def _register_other(client: MlflowClient, run: RunRef, model: str | None) -> tuple[str, str]:
    """As `_register`, of a run that is not the champion."""
    name, version = _register(client, run, model)
    if version == version_of(client, name, CHAMPION):
        raise UserError(f"run {run.name}: is the champion of {name!r} already")
    return name, version


def _may_be_again(client: MlflowClient, model: str, version: str, champion: str | None) -> bool:
    """Whether a version is another than the champion, and was not deleted since."""
    from mlflow.exceptions import MlflowException

    try:
        return version != champion and bool(client.get_model_version(model, version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
