"""List of the registered models with their champions and challengers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.training.tracking.registry.alias_moves import CHAMPION
from intertitle.training.tracking.registry.registry import CHALLENGER
from intertitle.training.tracking.store.client import open_client
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Number of versions that are read at once.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A registered model.

    Attributes:
        name: name of the model.
        num_versions: number of its versions.
        champion: version in use; None if there is none.
        champion_run: name of the run that this version is from; None without a champion or if the
            run has been removed.
        challenger: version that may replace it; None if there is none.
    """

    name: str
    num_versions: int
    champion: str | None
    champion_run: str | None
    challenger: str | None


def list_models(tracking_uri: str) -> list[ListedModel]:
    """Return the registered models of a store by name.

    Raises:
        UserError: the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        return []
    models = []
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        versions = _versions(client)
        for model in client.search_registered_models(max_results=1000, order_by=["name ASC"]):
            of_model = versions.get(model.name, {})
            aliases = {alias: str(version) for alias, version in model.aliases.items()}
            champion = aliases.get(CHAMPION)
            run_id = of_model.get(champion) if champion else None
            run = _run_name(client, run_id) if run_id else None
            models.append(
                ListedModel(model.name, len(of_model), champion, run, aliases.get(CHALLENGER))
            )
    return models


def _versions(client: MlflowClient) -> dict[str, dict[str, str]]:
    """Return the id of the run of each version, by model.

    They are selected here, because a filter of MLflow can't contain every name.
    """
    versions: dict[str, dict[str, str]] = {}
    token: str | None = None
    while True:
        page = client.search_model_versions(max_results=_PAGE, page_token=token)
        for version in page:
            versions.setdefault(version.name, {})[str(version.version)] = version.run_id
        token = page.token
        if not token:
            return versions


def _run_name(client: MlflowClient, run_id: str) -> str | None:
    """Return the name of a run; None if it has been removed from the store."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.run_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
