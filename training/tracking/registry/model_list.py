"""List of the registered models with their champions and challengers."""

from __future__ import annotations

from dataclasses import dataclass

from intertitle.training.tracking.registry.alias_moves import CHAMPION
from intertitle.training.tracking.registry.registry import CHALLENGER
from intertitle.training.tracking.store.client import open_client
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A registered model.

    Attributes:
        name: name of the model.
        num_versions: number of its versions.
        champion: version in use; None if there is none.
        champion_run: name of the run that this version is from; None without a champion.
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
        for model in client.search_registered_models(max_results=1000, order_by=["name ASC"]):
            versions = {
                str(version.version): version.run_id
                for version in client.search_model_versions(f"name = '{model.name}'")
            }
            aliases = {alias: str(version) for alias, version in model.aliases.items()}
            champion = aliases.get(CHAMPION)
            run_id = versions.get(champion) if champion else None
            run = client.get_run(run_id).info.run_name if run_id else None
            models.append(
                ListedModel(model.name, len(versions), champion, run, aliases.get(CHALLENGER))
            )
    return models
