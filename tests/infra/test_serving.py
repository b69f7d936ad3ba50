"""Where the server runs: the RayService of KubeRay and the service of compose."""

from __future__ import annotations

import json
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from intertitle.jobs.commands import COMMANDS
from intertitle.jobs.serving.config import TOKEN_VARIABLE
from intertitle.jobs.serving.http import proxy
from intertitle.pipeline.errors import UserError
from tests.infra import kuberay

FOLDER = Path(__file__).parents[2] / "infra"


def read(path: str) -> Any:
    return yaml.safe_load((FOLDER / path).read_text("utf-8"))


@pytest.fixture
def service() -> Any:
    return read("kubernetes/ray-service.yaml")


def test_its_cluster_has_the_fields_that_kuberay_has(service: Any) -> None:
    cluster = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": service["metadata"],
        "spec": service["spec"]["rayClusterConfig"],
    }
    kuberay.validate(cluster)
    assert set(service["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    assert cluster["spec"]["authOptions"]["mode"] == "token"


def test_its_application_can_be_built_with_a_token_alone(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    build = getattr(import_module(module), name)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(UserError, match=f"{TOKEN_VARIABLE}: missing"):
        build(application.args)
    monkeypatch.setenv(TOKEN_VARIABLE, "correct horse battery")
    build(application.args)
    with pytest.raises(UserError, match="replicas: 2: Extra inputs are not permitted"):
        build({**application.args, "replicas": 2})
    pods = service["spec"]["rayClusterConfig"]
    for group in (pods["headGroupSpec"], *pods["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        variables = {entry["name"]: entry for entry in container["env"]}
        callback = variables.pop(proxy.VARIABLE)["value"]
        assert callback == f"{proxy.__name__}:{proxy.middlewares.__name__}"
        secrets = [entry["valueFrom"]["secretKeyRef"]["key"] for entry in variables.values()]
        assert TOKEN_VARIABLE in secrets


def test_compose_starts_the_command_with_a_token() -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    tree = json.loads(vendored.read_text("utf-8"))
    compose, beside = read("compose.serve.yaml"), read("compose.yaml")
    jsonschema.validators.validator_for(tree)(tree).validate(compose)
    serve = compose["services"]["serve"]
    assert serve["environment"][TOKEN_VARIABLE].startswith("${" + TOKEN_VARIABLE + ":?")
    assert all(port.startswith("127.0.0.1:") for port in serve["ports"])
    assert {*serve["networks"]} <= {*beside["networks"]}
    assert {*serve["depends_on"]} <= {*beside["services"]}
    flags = {flag for option in COMMANDS["serve"].load().params for flag in option.opts}
    assert {part.partition("=")[0] for part in serve["command"][3:]} <= flags
