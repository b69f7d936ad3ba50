"""The server as an application of Ray Serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from intertitle.jobs.serving.config import (
    TOKEN_VARIABLE,
    ModelConfig,
    ServerConfig,
    build_config,
    hash_token,
)
from intertitle.jobs.serving.http.app import create_app
from intertitle.jobs.serving.models.replica import Replica
from intertitle.jobs.serving.models.routing import Route, ServeBackend
from intertitle.jobs.serving.records.records import open_records
from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.answers import ANSWER_BATCH
from intertitle.training.tracking.store.client import default_tracking_uri

# Requests in a replica's queue above which another replica is started, where there may be one.
_TARGET_REQUESTS = 16
_HEALTH_S = 5.0


@serve.ingress()
class Ingress:
    """Process that receives the requests of all models.

    Args:
        config: settings of the server.
        handles: handles of each model's deployments: "main", "canary" and "shadow".
    """

    def __init__(
        self, config: ServerConfig, handles: Mapping[str, Mapping[str, DeploymentHandle]]
    ) -> None:
        self._config = config
        self._records = open_records(config)
        self._routes = {
            model.name: self._route(model, handles[model.name]) for model in config.models
        }

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the ASGI application, which Serve asks for."""
        return create_app(self._config, self._routes, self._records)

    async def events(self, since: float) -> list[tuple[float, str]]:
        """Return what happened to the models after a time, each in one line."""
        backends = [item for route in self._routes.values() for item in route.backends()]
        return sorted([event for item in backends for event in await item.events(since)])

    def _route(self, model: ModelConfig, handles: Mapping[str, DeploymentHandle]) -> Route:
        backends = {kind: ServeBackend(handle) for kind, handle in handles.items()}
        recorder = self._records.shadows.get(model.name)
        return Route(
            model,
            backends["main"],
            backends.get("canary"),
            backends.get("shadow"),
            recorder.compare if recorder else None,
        )


def build_application(config: ServerConfig) -> Application:
    """Describe the deployments of a server: one for each model, and one that receives requests."""
    handles = {model.name: _model_deployments(config, model) for model in config.models}
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        num_replicas=1,
        # It refuses what is too much itself, with the time after which to try again.
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=_HEALTH_S,
    )
    return ingress.bind(config, handles)


def app(arguments: dict[str, Any]) -> Application:
    """Build the server from the arguments in a Serve configuration file, such as a RayService's.

    The token is that of the environment variable INTERTITLE_SERVE_TOKEN, and MLflow is found by
    MLFLOW_TRACKING_URI.

    Args:
        arguments: fields of `ServerConfig`.

    Raises:
        UserError: an argument is not allowed, or there is no token: Serve's configuration may make
            the server listen on any address.
    """
    token = hash_token(os.environ.get(TOKEN_VARIABLE))
    if token is None:
        raise UserError(f"{TOKEN_VARIABLE}: missing, allowed: the token that callers send")
    defaults = {"tracking_uri": default_tracking_uri(), "token_sha256": token}
    return build_application(build_config({**defaults, **arguments}))


def _model_deployments(config: ServerConfig, model: ModelConfig) -> dict[str, Application]:
    deployments = {"main": _deployment(config, model, "main", model.spec)}
    for kind, spec in (("canary", model.canary), ("shadow", model.shadow)):
        if spec is not None:
            deployments[kind] = _deployment(config, model, kind, spec)
    return deployments


def _deployment(config: ServerConfig, model: ModelConfig, kind: str, spec: str) -> Application:
    replicas: dict[str, Any] = {"num_replicas": config.min_replicas}
    if config.max_replicas > config.min_replicas:
        replicas = {
            "autoscaling_config": {
                "min_replicas": config.min_replicas,
                "max_replicas": config.max_replicas,
                "target_ongoing_requests": _TARGET_REQUESTS,
            }
        }
    deployment = serve.deployment(
        Replica,
        name=model.name if kind == "main" else f"{model.name}-{kind}",
        max_ongoing_requests=ANSWER_BATCH,
        max_queued_requests=config.limits.requests,
        ray_actor_options={"num_cpus": 1 if kind == "main" else 0, "num_gpus": config.gpus},
        health_check_period_s=_HEALTH_S,
        **replicas,
    )
    return deployment.bind(config, model, spec)
