"""Ray actors that run the backbone during one call of `precompute`."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from intertitle.pipeline.backbones import (
    Backbone,
    BackboneSpec,
    Precision,
    PreparedModel,
    open_backbone,
    prepare_backbone,
)
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.precompute.scheduling.nodes import Nodes, Place, current_place
from intertitle.pipeline.storage.failpoints import failpoint


class _BackboneWorker:
    """Ray actor that holds a backbone.

    Args:
        spec: specification of the backbone.
        num_threads: number of CPU threads that the backbone may use.
    """

    def __init__(self, spec: BackboneSpec, num_threads: int) -> None:
        self._spec, self._num_threads = spec, num_threads
        self._backbone: Backbone | None = None

    def embed(
        self, model: list[Any], *parts: NDArray[np.uint8]
    ) -> tuple[Place, NDArray[np.float32]]:
        """Compute the features of a chunk.

        Args:
            model: Ray reference to the prepared model, wrapped in a list so that Ray does not fetch
                it for every call; the actor fetches it once, in its first call.
            parts: frames, uint8 [N, H, W, 3] each.

        Returns:
            The place where the features were computed, and the features.
        """
        if self._backbone is None:
            prepared: PreparedModel = ray.get(model[0])
            self._backbone = open_backbone(self._spec, self._num_threads, prepared)
        failpoint("embed")
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return current_place(), self._backbone(frames)


def num_gpus() -> int:
    """Return the number of GPUs of the Ray cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


class BackbonePool:
    """Pool of backbone actors that take chunks in turn.

    Args:
        spec: specification of the backbone.
        precision: numeric precision that the backbone computes in.
        count: number of actors; None starts one per GPU, or one per CPU core without GPUs.
        nodes: nodes of the cluster that may run the actors.

    Raises:
        UserError: `count` is larger than the number of GPUs.
    """

    def __init__(
        self, spec: BackboneSpec, precision: Precision, count: int | None, nodes: Nodes
    ) -> None:
        gpus = num_gpus()
        self.num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        if gpus and count and count > gpus:
            raise UserError(f"workers: {count}, allowed: at most {gpus}, one per GPU")
        # On CPUs, one single-threaded backbone per core is the fastest: the threads of a
        # multi-threaded one wait for each other after every layer, and compete with the decoders
        # for the cores.
        count = count or gpus or self.num_cpus
        self._spec, self._nodes = spec, nodes
        self._options: dict[str, Any] = {
            # Actors share the cores with the decode tasks that feed them. Reserving cores for
            # either would leave some idle, so actors reserve none and the operating system
            # schedules both.
            "num_cpus": 0,
            "num_gpus": 1 if gpus else 0,
            "scheduling_strategy": "SPREAD",
            # The scheduler replaces an actor that dies or keeps failing, so Ray restarts none. Ray
            # only retries calls that were lost in transit.
            "max_restarts": 0,
            "max_task_retries": 3,
        }
        # The model is prepared once here, rather than by every actor at the same time.
        self._model = ray.put(prepare_backbone(spec, precision))
        self._num_threads = max(1, self.num_cpus // count)
        self._actors = [self._start() for _ in range(count)]
        self._calls = 0

    def embed(self, parts: list[Any]) -> tuple[Any, Any, Any]:
        """Submit a chunk's frames to the next actor.

        Returns:
            The actor, and references to its `Place` and to the features.
        """
        actor = self._actors[self._calls % len(self._actors)]
        self._calls += 1
        place, features = actor.embed.options(num_returns=2).remote([self._model], *parts)
        return actor, place, features

    def replace(self, actor: Any) -> bool:
        """Kill an actor and start a new one; return False if it was replaced already."""
        if actor not in self._actors:
            return False
        ray.kill(actor)
        self._actors[self._actors.index(actor)] = self._start()
        return True

    def _start(self) -> Any:
        options = {**self._options, **self._nodes.for_networks()}
        return ray.remote(_BackboneWorker).options(**options).remote(self._spec, self._num_threads)

    def __enter__(self) -> BackbonePool:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
