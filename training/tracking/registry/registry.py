"""Versions of a registered model, and the aliases for the version in use and its challenger.

The alias `champion` of a registered model points to the version in use, and `challenger` to one
that may replace it; `models:/NAME@champion` can be used wherever MLflow takes a model URI. MLflow's
page shows who moved the champion, when and why: in the description of the model, newest first, and
in a tag of each version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.html import as_markdown
from intertitle.training.tracking.registry.alias_moves import (
    CHAMPION,
    begin,
    champions_until_now,
    checked_note,
    finish,
    now,
    version_of,
)
from intertitle.training.tracking.store.client import RunRef, open_client, resolve_run
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, redact, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
MODEL_ARTIFACT = "model"

_REFUSED = "refused"


@dataclass(frozen=True)
class RegistryState:
    """State of a registered model after a call.

    Attributes:
        model: name of the registered model.
        version: version that the call made champion or challenger, or refused.
        run_id: id of the run that the version is from.
        changed: whether the call changed anything.
    """

    model: str
    version: str
    run_id: str
    changed: bool


def promote(run: RunRef, model: str | None = None, why: str = "") -> RegistryState:
    """Make a run's model the champion; register it as a new version if it is not registered.

    Args:
        run: run that stored a model.
        model: name of the registered model, created if it does not exist; None uses the name of the
            run's recipe.
        why: reason, at most 300 characters.

    Raises:
        UserError: the run has no model, or the store does not answer or refuses the request.
    """
    note = checked_note(why)
    with mlflow_errors(run.tracking_uri), short_timeouts():
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
        return RegistryState(name, version, run.run_id, changed)


def challenge(run: RunRef, model: str | None = None, why: str = "") -> RegistryState:
    """Make a run's model the challenger; register it as a new version if it is not registered.

    Arguments and errors are those of `promote`. The champion does not change; it can't become the
    challenger (`UserError`).
    """
    note = checked_note(why)
    with mlflow_errors(run.tracking_uri), short_timeouts():
        client = open_client(run.tracking_uri)
        name, version = _register_other(client, run, model)
        changed = version_of(client, name, CHALLENGER) != version
        if changed:
            client.set_model_version_tag(name, version, CHALLENGER, f"since {now()} UTC, {note}")
            client.set_registered_model_alias(name, CHALLENGER, version)
        return RegistryState(name, version, run.run_id, changed)


def refuse(run: RunRef, model: str | None = None, why: str = "") -> RegistryState:
    """Register a run's model as a refused version, neither champion nor challenger.

    The reason is stored in a tag of the version. Arguments and errors are those of `promote`; the
    champion can't be refused (`UserError`).
    """
    note = checked_note(why)
    with mlflow_errors(run.tracking_uri), short_timeouts():
        client = open_client(run.tracking_uri)
        name, version = _register_other(client, run, model)
        changed = _REFUSED not in client.get_model_version(name, version).tags
        if changed:
            client.set_model_version_tag(name, version, _REFUSED, f"{now()} UTC, {note}")
        if version_of(client, name, CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        return RegistryState(name, version, run.run_id, changed)


def champion(model: str, tracking_uri: str) -> RunRef | None:
    """Return the run whose model is the champion; None if there is none.

    Raises:
        UserError: the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    uri = absolute(tracking_uri)
    if is_missing(uri):
        return None
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        try:
            version = client.get_model_version_by_alias(model, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return resolve_run(version.run_id, uri)


def rollback(model: str, tracking_uri: str, why: str = "") -> RegistryState:
    """Make the previous champion the champion; repeated calls go further back.

    Args:
        model: name of the registered model.
        tracking_uri: tracking URI of the store.
        why: reason, at most 300 characters.

    Raises:
        UserError: the model does not exist, there is no previous champion, or the store does not
            answer.
    """
    note = checked_note(why)
    uri = absolute(tracking_uri)
    if is_missing(uri):
        raise UserError(f"model {model!r}: there are no models yet at {redact(uri)}")
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        finished = finish(client, model)
        if finished is None or finished.action != "rolled back":
            champion = version_of(client, model, CHAMPION)
            champions = champions_until_now(client, model, champion)
            while champions and not _check_repromotion(client, model, champions[-1], champion):
                champions.pop()
            if not champions:
                raise UserError(f"model {model!r}: there was no other champion before")
            begin(client, model, champions, champion, "rolled back", note)
            finish(client, model)
        version = client.get_model_version_by_alias(model, CHAMPION)
        return RegistryState(model, str(version.version), version.run_id, True)


def _register(client: MlflowClient, run: RunRef, model: str | None) -> tuple[str, str]:
    """Return the registered model and the version of the run; create them if they do not exist."""
    from mlflow.exceptions import MlflowException

    stored_run = client.get_run(run.run_id)
    if not client.list_artifacts(run.run_id, MODEL_ARTIFACT):
        raise UserError(f"run {run.name}: it kept no model")
    name = model or stored_run.data.tags.get("recipe")
    if not name:
        raise UserError(f"run {run.name}: has no recipe to name its model by: give --model")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"run_id = '{run.run_id}'")
    numbers = [int(version.version) for version in versions if version.name == name]
    if numbers:
        return name, str(max(numbers))
    source = f"{stored_run.info.artifact_uri}/{MODEL_ARTIFACT}"
    description = f"Run {as_markdown(run.name)}"
    created = client.create_model_version(name, source, run.run_id, description=description)
    return name, str(created.version)


def _register_other(client: MlflowClient, run: RunRef, model: str | None) -> tuple[str, str]:
    """Register a run's model like `_register`; raise `UserError` if it is the champion."""
    name, version = _register(client, run, model)
    if version == version_of(client, name, CHAMPION):
        raise UserError(f"run {run.name}: is the champion of {name!r} already")
    return name, version


def _check_repromotion(
    client: MlflowClient, model: str, version: str, champion: str | None
) -> bool:
    """Return whether a version is not the champion and has not been deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return version != champion and bool(client.get_model_version(model, version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
