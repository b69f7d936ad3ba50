"""The CronJob and the NetworkPolicy, held to Kubernetes' own schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from intertitle.jobs.cluster.session import JOB_SERVER_PORT
from intertitle.jobs.serving.config import TOKEN_VARIABLE
from intertitle.jobs.serving.http import proxy
from intertitle.pipeline.errors import SIGTERM_EXIT_CODE
from intertitle.training.tracking.server.accounts import ACCOUNT, ACCOUNT_PASSWORD
from tests.infra.files import fields, pods, read, trees

# Older schemas ask for fields that a rule of failures may lack; the newest that there are.
VERSIONS = ("1.29", "1.37")
# The environment variables of a job: the address of MLflow and an account for it, which are not
# those of its admin, and the keys and the address of an object store.
JOB_VARIABLES = {"MLFLOW_TRACKING_URI", ACCOUNT, ACCOUNT_PASSWORD}
OPTIONAL_JOB_VARIABLES = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_REGION"),
}


def validate(tree: Any, version: str) -> None:
    assert kubernetes_validate.validate(tree, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["cron-job", "network-policy"])
def test_it_is_what_kubernetes_reads(name: str, version: str) -> None:
    validate(read(f"kubernetes/{name}.yaml"), version)


JOB_SLIPS: list[Callable[[Any], object]] = [
    lambda spec: spec.update(timezone="UTC"),
    lambda spec: spec.update(startingDeadlineSeconds="an hour"),
    lambda spec: spec["jobTemplate"]["spec"].update(backofLimit=3),
    lambda spec: spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0].pop("action"),
]


@pytest.mark.parametrize("slip", JOB_SLIPS)
def test_a_slip_of_the_job_is_refused(slip: Callable[[Any], object]) -> None:
    tree = read("kubernetes/cron-job.yaml")
    slip(tree["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(tree, VERSIONS[-1])


POLICY_SLIPS: list[Callable[[Any], object]] = [
    lambda spec: spec.update(policyType=["Ingress"]),
    lambda spec: spec["ingress"][0].update(to=[]),
    lambda spec: spec["egress"][1]["ports"][0].update(port=[53]),
]


@pytest.mark.parametrize("slip", POLICY_SLIPS)
def test_a_slip_of_the_policy_is_refused(slip: Callable[[Any], object]) -> None:
    tree = read("kubernetes/network-policy.yaml")
    slip(tree["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(tree, VERSIONS[-1])


def test_every_pod_of_ours_is_under_the_policy() -> None:
    labels = read("kubernetes/network-policy.yaml")["spec"]["podSelector"]["matchLabels"]
    found = [value["metadata"]["labels"] for tree in trees().values() for value in templates(tree)]
    assert len(found) == sum(1 for tree in trees().values() for _ in pods(tree)) > 0
    assert all(each == labels for each in found)


def templates(tree: Any) -> list[Any]:
    """Each pod with its labels."""
    if isinstance(tree, list):
        return [found for value in tree for found in templates(value)]
    if not isinstance(tree, dict):
        return []
    own = [tree] if "containers" in (tree.get("spec") or {}) else []
    return own + [found for value in tree.values() for found in templates(value)]


def test_only_the_job_server_and_the_server_of_models_are_reached_from_elsewhere() -> None:
    spec = read("kubernetes/network-policy.yaml")["spec"]
    among, jobs, models = spec["ingress"]
    assert among == {"from": [{"podSelector": spec["podSelector"]}]}
    service = yaml.safe_load(read("kubernetes/ray-service.yaml")["spec"]["serveConfigV2"])
    for rule, label, port in (
        (jobs, "intertitle-client", JOB_SERVER_PORT),
        (models, "intertitle-caller", service["http_options"]["port"]),
    ):
        pods_with_label, kuberay = rule["from"]
        assert [entry["port"] for entry in rule["ports"]] == [port]
        assert pods_with_label["podSelector"]["matchLabels"] == {label: "true"}
        (name,) = kuberay["podSelector"]["matchLabels"].values()
        assert name == "kuberay-operator" and kuberay["namespaceSelector"] == {}
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]


def test_a_machine_that_is_taken_away_is_no_failure_and_a_mistake_is_not_tried_again() -> None:
    job = read("kubernetes/cron-job.yaml")["spec"]["jobTemplate"]["spec"]
    taken_away, mistake = job["podFailurePolicy"]["rules"]
    assert taken_away["action"] == "Ignore"
    assert taken_away["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert mistake["action"] == "FailJob" and mistake["onExitCodes"]["values"] == [2]
    assert SIGTERM_EXIT_CODE not in mistake["onExitCodes"]["values"]
    # The policy needs that.
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_secrets_are_named_and_a_job_gets_those_that_it_reads() -> None:
    containers = [
        container
        for tree in trees().values()
        for pod in pods(tree)
        for container in pod["containers"]
    ]
    for container in containers:
        # All of a Secret would be MLflow's admin's password too, where it is in there.
        assert "envFrom" not in container
        if container["name"] == "submitter":
            assert "env" not in container
            continue
        variables = {variable.pop("name"): variable for variable in container["env"]}
        if token := variables.pop(TOKEN_VARIABLE, None):
            reference = {"name": "intertitle", "key": TOKEN_VARIABLE}
            assert token == {"valueFrom": {"secretKeyRef": reference}}
            assert "value" in variables.pop(proxy.VARIABLE)
        assert variables.keys() == JOB_VARIABLES | OPTIONAL_JOB_VARIABLES
        for name, variable in variables.items():
            optional = {"optional": True} if name in OPTIONAL_JOB_VARIABLES else {}
            reference = {"name": "intertitle", "key": name, **optional}
            assert variable == {"valueFrom": {"secretKeyRef": reference}}
    assert len(containers) == 14


def test_only_a_pod_that_exceeds_its_own_memory_is_killed() -> None:
    sizes = [
        value for tree in trees().values() for key, value in fields(tree) if is_size(key, value)
    ]
    for size in sizes:
        assert size["requests"] == size["limits"]
    # Those of the pods, and of KubeRay's autoscaler for four clusters.
    assert len(sizes) == 17


def is_size(key: str, value: Any) -> bool:
    return key == "resources" and "requests" in value
