"""Describe a training for its run: the comparable parameters and the input data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from intertitle.training.config.recipe import Recipe, flatten
from intertitle.training.data.data_ref import DataRef, corpus_profile, features_profile
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.tracking.run import DataInput
from intertitle.training.trainer.workers.placement import trains_on_gpus


def params_of(recipe: Recipe, sizes: Sizes, workers: int) -> dict[str, Any]:
    """Return everything that determines a training, as flat run parameters.

    Needs a running Ray: the device and the precision depend on the cluster's resources.
    """
    # On the meta device a model has shapes but no values.
    with torch.device("meta"):
        num_parameters = sum(p.numel() for p in build_model(recipe.model, sizes).parameters())
    on_gpu = trains_on_gpus(workers)
    return {
        **flatten(recipe),
        "workers": workers,
        **asdict(sizes),
        "num_parameters": num_parameters,
        "device": "cuda" if on_gpu else "cpu",
        "precision": "bfloat16" if on_gpu else "float32",
    }


def inputs_of(data: DataRef) -> list[DataInput]:
    """Return the corpus and the features as data set inputs, with their profiles."""
    profile, use = corpus_profile(data), "training"
    sources = [("corpus", data.corpus, data.corpus_fingerprint, profile)]
    if data.features:
        store = data.features
        sources.append(("features", store.path, store.snapshot, features_profile(store)))
    return [DataInput(n, path, digest, use, p.columns, p.facts) for n, path, digest, p in sources]
