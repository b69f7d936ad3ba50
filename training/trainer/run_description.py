"""Describe a training for its run: the comparable parameters and the input data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from intertitle.training.config.recipe import Recipe, flatten
from intertitle.training.data.data_ref import Data, corpus_profile, features_profile
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.tracking.inputs import DataInput
from intertitle.training.trainer.numerics.precision import precision_of
from intertitle.training.trainer.workers.placement import trains_on_gpus


def params_of(recipe: Recipe, sizes: Sizes, workers: int) -> dict[str, Any]:
    """Return everything that determines a training, as flat run parameters.

    Needs a running Ray: the device depends on the cluster's resources.
    """
    # On the meta device a model has shapes but no values.
    with torch.device("meta"):
        num_parameters = sum(p.numel() for p in build_model(recipe.model, sizes).parameters())
    return {
        **flatten(recipe),
        "workers": workers,
        **asdict(sizes),
        "num_parameters": num_parameters,
        "device": "cuda" if trains_on_gpus(workers) else "cpu",
        "precision": precision_of(recipe.training),
    }


def inputs_of(data: Data) -> list[DataInput]:
    """Return the corpus and each store as data set inputs, with their profiles."""
    ref, use = data.ref, "training"
    sources = [("corpus", ref.corpus, ref.corpus_fingerprint, corpus_profile(data.corpus))]
    for n, store in enumerate(data.features.stores if data.features else (), start=1):
        name, feature_ref = "features" if n == 1 else f"features_{n}", ref.features[n - 1]
        profile = features_profile(store)
        sources.append((name, feature_ref.path, feature_ref.snapshot, profile))
    return [DataInput(n, path, digest, use, p.columns, p.facts) for n, path, digest, p in sources]
