"""The fields of KubeRay 1.7 that this project sets, in our words, for where its own are not.

No package that can be installed has KubeRay's definitions. What these say is held to them where
KUBERAY_CRDS names a folder that has them (ray-operator/config/crd/bases of its sources).
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
from referencing import Registry, Resource

Schema = dict[str, Any]

_KUBERNETES = "https://kubernetes.io/api/_definitions.json"
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _kubernetes(name: str) -> Schema:
    return {"$ref": f"{_KUBERNETES}#/$defs/io.k8s.{name}"}


_POD = _kubernetes("api.core.v1.PodTemplateSpec")

_WORKERS = _object(
    ("groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"),
    groupName=_TEXT,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    rayStartParams=_TEXTS,
    template=_POD,
)

CLUSTER = _object(
    ("headGroupSpec",),
    rayVersion=_TEXT,
    authOptions=_object(mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_object(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=_COUNT,
        resources=_kubernetes("api.core.v1.ResourceRequirements"),
    ),
    headGroupSpec=_object(("rayStartParams", "template"), rayStartParams=_TEXTS, template=_POD),
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)

JOB = _object(
    entrypoint=_TEXT,
    backoffLimit=_COUNT,
    activeDeadlineSeconds=_COUNT,
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_COUNT,
    runtimeEnvYAML=_TEXT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=_POD,
)

CRON_JOB = _object(("schedule", "jobTemplate"), schedule=_TEXT, timeZone=_TEXT, jobTemplate=JOB)

SPECS = {"RayCluster": CLUSTER, "RayJob": JOB, "RayCronJob": CRON_JOB}


def validate(tree: Any) -> None:
    """Hold an object to its kind, and its pods to Kubernetes' own strict schema.

    Raises:
        jsonschema.ValidationError: it is not what KubeRay reads.
    """
    kind = _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"enum": [*SPECS]},
        metadata=_kubernetes("apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        spec=SPECS.get(tree["kind"], {}),
    )
    package = resources.files("kubernetes_validate") / "kubernetes-json-schema"
    newest = package / "v1.37.0-local-strict" / "_definitions.json"
    definitions: Any = json.loads(newest.read_text("utf-8"))
    registry: Any = Registry().with_resource(_KUBERNETES, Resource.from_contents(definitions))
    jsonschema.Draft202012Validator(kind, registry=registry).validate(tree)
