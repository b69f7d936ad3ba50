"""Private names of libraries: each has one module that uses it, and versions in which it exists."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from intertitle.jobs.cluster.session import RAY_SYSTEM_CONFIG
from intertitle.training.tracking.store import sqlite

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Use:
    """What a module uses of a library.

    Attributes:
        library: its distribution.
        versions: those that have the names, which are those that pyproject.toml allows.
        names: of modules and of what they hold.
    """

    library: str
    versions: str
    names: tuple[str, ...]


USES = {
    "jobs/cluster/ray_internals.py": Use(
        "ray",
        ">=2.60,<3",
        (
            "ray._private.ray_constants:ENABLE_RAY_CLUSTER",
            "ray.serve.context:_get_global_client",
            "ray._private.grpc_utils:init_grpc_channel",
            "ray.core.generated.gcs_service_pb2:GetClusterIdRequest",
            "ray.core.generated.gcs_service_pb2_grpc:NodeInfoGcsServiceStub",
        ),
    ),
    "pipeline/storage/object_store.py": Use(
        "s3fs",
        ">=2025.3",
        tuple(
            f"s3fs:S3FileSystem.{name}" for name in ("_call_s3", "_makedirs", "_isfile", "_info")
        ),
    ),
    "training/tracking/server/locations.py": Use(
        "mlflow", ">=3.17.2,<4", ("mlflow.prompt.constants:_PROMPT_SOURCE_PLACEHOLDERS",)
    ),
    # Tables of its database.
    "training/tracking/store/local_runs.py": Use(
        "mlflow",
        ">=3.17.2,<4",
        (
            *(
                f"mlflow.store.tracking.dbmodels.models:{column}"
                for column in (
                    *("SqlExperiment.lifecycle_stage", "SqlRun.experiment_id", "SqlRun.run_uuid"),
                    *("SqlRun.name", "SqlRun.lifecycle_stage", "SqlRun.status"),
                    *("SqlRun.start_time", "SqlRun.artifact_uri"),
                )
            ),
            *(
                f"mlflow.store.model_registry.dbmodels.models:{column}"
                for column in (
                    *("SqlModelVersion.name", "SqlModelVersion.version", "SqlModelVersion.run_id"),
                    *("SqlModelVersion.current_stage", "SqlRegisteredModelAlias.name"),
                    *("SqlRegisteredModelAlias.alias", "SqlRegisteredModelAlias.version"),
                )
            ),
        ),
    ),
    "training/tracking/store/sqlite.py": Use(
        "mlflow",
        ">=3.17.2,<4",
        ("mlflow.tracking._tracking_service.utils:_SERVER_ARTIFACT_ROOT_ENV_VAR",),
    ),
}


@pytest.mark.parametrize("module", USES)
def test_the_versions_that_are_allowed_have_the_names(module: str) -> None:
    use = USES[module]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(line for extra in extras for line in extra)]
    allowed = [
        requirement.specifier
        for requirement in map(Requirement, declared)
        if requirement.name == use.library
    ]
    assert set(allowed) == {SpecifierSet(use.versions)}
    for name in use.names:
        place, _, path = name.partition(":")
        try:
            found = import_module(place)
            for attribute in path.split("."):
                found = getattr(found, attribute)
        except (ImportError, AttributeError):
            pytest.fail(
                f"{use.library} {version(use.library)} has no {name} any more: {module}, which "
                f"uses it, holds for {use.library}{use.versions}"
            )


def test_mlflow_reads_the_root_of_artifacts_from_the_same_variable() -> None:
    utils = import_module("mlflow.tracking._tracking_service.utils")
    assert utils._SERVER_ARTIFACT_ROOT_ENV_VAR == sqlite._ROOT


def test_ray_listens_on_loopback_and_hands_its_settings_to_all_processes(ray_cluster: None) -> None:
    import ray

    def settings() -> dict[str, int]:
        from ray._raylet import Config

        return {name: getattr(Config, name)() for name in RAY_SYSTEM_CONFIG}

    assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
    # Who asks more often than others expect is hung up on, and its task has failed.
    assert settings() == ray.get(ray.remote(settings).remote()) == RAY_SYSTEM_CONFIG


# Public in spite of their underscore.
DOCUMENTED = {"_replace", "_asdict", "_fields", "_exit"}


def test_no_other_module_uses_a_private_name() -> None:
    strays = []
    for top in ("pipeline", "training", "jobs"):
        for file in sorted((ROOT / top).rglob("*.py")):
            module = str(file.relative_to(ROOT))
            if module not in USES:
                strays += [
                    f"{module}: {name}" for name in private_names(ast.parse(file.read_text()))
                ]
    assert not strays


def private_names(tree: ast.Module) -> list[str]:
    """Names that a module imports from private modules or takes from another object."""
    found: list[str] = []
    for node in ast.walk(tree):
        imported: list[str] = []
        if isinstance(node, ast.ImportFrom):
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            is_own = owner in ("self", "cls", "super()") or node.attr in DOCUMENTED
            if is_private(node.attr) and not is_own:
                found.append(f"{owner}.{node.attr}")
        found += [name for name in imported if any(map(is_private, name.split(".")))]
    return found


def is_private(name: str) -> bool:
    return (name.startswith("_") and not name.startswith("__")) or name == "generated"
