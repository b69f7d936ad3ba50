"""The backbones of one call, in Ray actors."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.backbone import (
    Backbone,
    BackboneSpec,
    Precision,
    PreparedModel,
    open_backbone,
    prepare_backbone,
)
from pipeline.errors import UserError
from pipeline.failpoints import failpoint
from pipeline.precompute.nodes import Nodes, Place, here


class _BackboneWorker:
    """Holds a network; lives in a Ray actor.

    Args:
        spec: of the network.
        num_threads: that it may use.
    """

    def __init__(self, spec: BackboneSpec, num_threads: int) -> None:
        self._spec, self._num_threads = spec, num_threads
        self._backbone: Backbone | None = None

    def embed(
        self, model: list[Any], *parts: NDArray[np.uint8]
    ) -> tuple[Place, NDArray[np.float32]]:
        """The features of a chunk, and where they were made.

        Args:
            model: a reference to the network, in a list, so that it is fetched once, and not before
                the first call.
            parts: frames, uint8 [N, H, W, 3] each.
        """
        if self._backbone is None:
            prepared: PreparedModel = ray.get(model[0])
            self._backbone = open_backbone(self._spec, self._num_threads, prepared)
        failpoint("embed")
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return here(), self._backbone(frames)


def num_gpus() -> int:
    """Of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


class Workers:
    """Actors, each with the network, in turn.

    Args:
        spec: of the network.
        precision: that it computes in.
        count: how many; None is one a GPU, or one a core without GPUs.
        nodes: that they run on.

    Raises:
        UserError: more are wanted than there are GPUs.
    """

    def __init__(
        self, spec: BackboneSpec, precision: Precision, count: int | None, nodes: Nodes
    ) -> None:
        gpus = num_gpus()
        self.num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        if gpus and count and count > gpus:
            raise UserError(f"workers: {count}, allowed: at most {gpus}, one a GPU")
        # On a CPU a network of one thread a core leaves none waiting for another: threads of one
        # network wait for each other after every layer, and take turns with the decoders badly.
        count = count or gpus or self.num_cpus
        self._spec, self._nodes = spec, nodes
        self._options: dict[str, Any] = {
            # It shares the cores with the decode tasks that feed it. Reserving cores for either
            # would leave some idle, so it reserves none and the system shares them out.
            "num_cpus": 0,
            "num_gpus": 1 if gpus else 0,
            "scheduling_strategy": "SPREAD",
            # One that dies is replaced, like one that lives and is broken. What is tried again here
            # is a message that got lost.
            "max_restarts": 0,
            "max_task_retries": 3,
        }
        # Exported once here, rather than by every actor at the same time.
        self._model = ray.put(prepare_backbone(spec, precision))
        self._num_threads = max(1, self.num_cpus // count)
        self._actors = [self._start() for _ in range(count)]
        self._calls = 0

    def embed(self, parts: list[Any]) -> tuple[Any, Any, Any]:
        """Hand a chunk's frames to an actor; it, and references to its `Place` and the features."""
        actor = self._actors[self._calls % len(self._actors)]
        self._calls += 1
        place, features = actor.embed.options(num_returns=2).remote([self._model], *parts)
        return actor, place, features

    def replace(self, actor: Any) -> bool:
        """End an actor and start another in its place; False where that was done before."""
        if actor not in self._actors:
            return False
        ray.kill(actor)
        self._actors[self._actors.index(actor)] = self._start()
        return True

    def _start(self) -> Any:
        options = {**self._options, **self._nodes.for_networks()}
        return ray.remote(_BackboneWorker).options(**options).remote(self._spec, self._num_threads)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
