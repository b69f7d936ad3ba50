"""The compose file, held to compose's own schema."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from intertitle.training.tracking.server.accounts import ACCOUNT, ACCOUNT_PASSWORD, ADMIN_PASSWORD
from tests.infra.files import read


@pytest.fixture(scope="module")
def schema() -> Any:
    vendored = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    tree = json.loads(vendored.read_text("utf-8"))
    return jsonschema.validators.validator_for(tree)(tree)


@pytest.fixture
def compose() -> Any:
    return read("compose.yaml")


def test_it_is_what_compose_reads(schema: Any, compose: Any) -> None:
    schema.validate(compose)


@pytest.mark.parametrize(
    ("service", "field", "value"),
    [
        ("head", "healthchek", {"test": ["CMD", "true"]}),
        ("worker", "deploy", {"resources": {"limit": {"cpus": "2"}}}),
        ("tracking", "depends_on", {"database": {"condition": "healthy"}}),
        ("database", "volumes", "database"),
    ],
)
def test_a_slip_is_refused(
    schema: Any, compose: Any, service: str, field: str, value: object
) -> None:
    compose["services"][service][field] = value
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(compose)


def test_whatever_stays_says_whether_it_is_well_and_waits_for_what_it_needs(compose: Any) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert ("healthcheck" in service) is (name != "bucket"), name
        for needed, how in service.get("depends_on", {}).items():
            ends = needed == "bucket"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert how == {"condition": expected}
    assert set(services["head"]["depends_on"]) == {"tracking"}
    assert set(services["tracking"]["depends_on"]) == {"database", "bucket"}


def test_it_is_reached_from_this_machine_alone(compose: Any) -> None:
    published = {
        name: each["ports"] for name, each in compose["services"].items() if "ports" in each
    }
    assert set(published) == {"head", "tracking"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_only_the_server_reaches_its_stores_and_has_their_keys(compose: Any) -> None:
    services = compose["services"]
    near = {name for name, each in services.items() if "stores" in each["networks"]}
    assert near == {"tracking", "database", "objects", "bucket"}
    assert compose["networks"]["stores"] == {"internal": True}
    for name in ("head", "worker", "gpu-worker"):
        told = services[name]["environment"]
        assert not [key for key in told if key.startswith(("AWS_", "PG", "POSTGRES"))]
        # Its account is that which the server makes, not the admin's.
        assert ADMIN_PASSWORD not in told and ADMIN_PASSWORD not in str(told)
        for variable in (ACCOUNT, ACCOUNT_PASSWORD):
            assert told[variable] == services["tracking"]["environment"][variable]


def test_a_gpu_is_asked_for_where_one_is_used(compose: Any) -> None:
    worker = compose["services"]["gpu-worker"]
    (devices,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert devices["capabilities"] == ["gpu"]
    assert f"--num-gpus={devices['count']}" in worker["command"]
    assert worker["profiles"] == ["gpu"]
    assert "--num-gpus=0" in compose["services"]["worker"]["command"]


def test_the_bucket_is_made_once(compose: Any, object_store: Path) -> None:
    command = compose["services"]["bucket"]["command"]
    artifacts = compose["services"]["tracking"]["environment"]["MLFLOW_ARTIFACTS_DESTINATION"]
    assert artifacts.startswith("s3://intertitle/")
    for _ in range(2):
        subprocess.run([sys.executable, *command[1:]], check=True)
    assert (object_store / "intertitle").is_dir()
