"""KubeRay's objects."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from intertitle.jobs.cluster.submission import JOB_VARIABLE
from tests.infra import kuberay
from tests.infra.files import read

KINDS = {"RayCluster": "ray-cluster", "RayJob": "ray-job", "RayCronJob": "ray-cron-job"}


@pytest.fixture(params=KINDS)
def tree(request: pytest.FixtureRequest) -> Any:
    return read(f"kubernetes/{KINDS[request.param]}.yaml")


def cluster_of(tree: Any) -> Any:
    spec = tree["spec"]
    spec = spec.get("jobTemplate", spec)
    return spec.get("rayClusterSpec", spec)


def test_it_has_the_fields_that_kuberay_has(tree: Any) -> None:
    kuberay.validate(tree)


SLIPS: list[Callable[[Any], object]] = [
    lambda tree: tree.update(apiVersion="ray.io/v1alpha1"),
    lambda tree: tree["spec"].update(shutdownAfterJobFinished=True),
    lambda tree: cluster_of(tree).update(enableInTreeAutoscalling=True),
    lambda tree: cluster_of(tree)["authOptions"].update(mode="none"),
    lambda tree: cluster_of(tree)["workerGroupSpecs"][0].update(maxReplicas="8"),
    lambda tree: cluster_of(tree)["workerGroupSpecs"][0].pop("groupName"),
    # In a pod, which is Kubernetes' own.
    lambda tree: cluster_of(tree)["headGroupSpec"]["template"]["spec"].update(toleration=[]),
]


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refused(tree: Any, slip: Callable[[Any], object]) -> None:
    slip(tree)
    with pytest.raises(jsonschema.ValidationError):
        kuberay.validate(tree)


def test_workers_come_and_go_within_limits(tree: Any) -> None:
    cluster = cluster_of(tree)
    assert cluster["enableInTreeAutoscaling"]
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] == group["replicas"] < group["maxReplicas"]
    # A training takes the nodes there are when it begins.
    gpus = {group["groupName"]: group["minReplicas"] for group in cluster["workerGroupSpecs"]}[
        "gpu"
    ]
    if tree["kind"] == "RayJob":
        assert f"--workers {gpus}" in tree["spec"]["entrypoint"]


def test_gpus_and_spot_machines_are_where_they_are_meant_to_be(tree: Any) -> None:
    cluster = cluster_of(tree)
    placed = {
        group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]
    }
    head = cluster["headGroupSpec"]["template"]["spec"]
    spot = {"key": "karpenter.sh/capacity-type", "value": "spot"}
    assert placed["cpu-spot"]["nodeSelector"] == {spot["key"]: spot["value"]}
    assert spot.items() <= placed["cpu-spot"]["tolerations"][0].items()
    assert placed["gpu"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert placed["gpu"]["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert placed["gpu"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    # The head has the cluster's state: no work, and no machine that is taken away.
    assert "tolerations" not in head and "nodeSelector" not in head
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}


def test_a_token_is_asked_for(tree: Any) -> None:
    auth = cluster_of(tree)["authOptions"]
    assert auth == {"mode": "token", "secretName": "intertitle-ray"}
    # From here on Ray has one.
    assert tuple(map(int, cluster_of(tree)["rayVersion"].split("."))) >= (2, 52, 0)


def test_an_attempt_goes_on_with_what_the_one_before_it_began() -> None:
    job = read("kubernetes/ray-job.yaml")
    assert job["spec"]["backoffLimit"] > 0
    environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert environment == {JOB_VARIABLE: job["metadata"]["name"]}


# KubeRay's own definitions, which are not ours to keep here.

CRDS = os.environ.get("KUBERAY_CRDS")
has_crds = pytest.mark.skipif(not CRDS, reason="KUBERAY_CRDS names no folder of KubeRay's CRDs")


@functools.cache
def crd(kind: str) -> Any:
    """KubeRay's schema of a kind; fields that it does not have are refused, as kubectl does."""
    text = Path(CRDS or "", f"ray.io_{kind.lower()}s.yaml").read_text("utf-8")
    # A megabyte each.
    definition = yaml.load(text, yaml.CSafeLoader)
    (version,) = [v for v in definition["spec"]["versions"] if v["name"] == "v1"]
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}
    return strict(schema)


def strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: strict(value) for key, value in schema.items()}
    if "properties" in known and not known.get("x-kubernetes-preserve-unknown-fields"):
        known.setdefault("additionalProperties", False)
    if known.get("x-kubernetes-int-or-string"):
        known.pop("type", None)
    return known


@has_crds
def test_it_is_what_kuberay_itself_reads(tree: Any) -> None:
    jsonschema.Draft202012Validator(crd(tree["kind"])).validate(tree)


@has_crds
@pytest.mark.parametrize("slip", SLIPS[1:])
def test_kuberay_itself_refuses_a_slip(tree: Any, slip: Callable[[Any], object]) -> None:
    slip(tree)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(crd(tree["kind"])).validate(tree)


@has_crds
@pytest.mark.parametrize("kind", KINDS)
def test_our_words_are_kuberays(kind: str) -> None:
    compare(kuberay.SPECS[kind], crd(kind)["properties"]["spec"], kind)


def compare(ours: Any, theirs: Any, where: str) -> None:
    """Each field of ours is one of theirs, of the same type, and required where theirs is."""
    if "$ref" in ours:
        return
    for name in ("type", "enum"):
        if name in ours and name in theirs:
            assert ours[name] == theirs[name], where
    if "properties" in ours:
        assert set(theirs.get("required", ())) <= set(ours["required"]), where
        for name, field in ours["properties"].items():
            assert name in theirs["properties"], f"{where}.{name}"
            compare(field, theirs["properties"][name], f"{where}.{name}")
    if "items" in ours:
        compare(ours["items"], theirs["items"], f"{where}[]")
