"""What a run says of its training: parameters that compare, and the data it learns from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from training.config import Recipe, flatten
from training.data.source import DataSource, corpus_profile, features_profile
from training.models.build import build_model
from training.models.generator import Sizes
from training.placement import on_gpus
from training.tracking.run import DataInput


def params_of(recipe: Recipe, sizes: Sizes, workers: int) -> dict[str, Any]:
    """What determines a training, flat. Needs a running Ray: what it has is computed on."""
    # On no device, a model has shapes without values.
    with torch.device("meta"):
        num_parameters = sum(p.numel() for p in build_model(recipe.model, sizes).parameters())
    on_gpu = on_gpus(workers)
    return {
        **flatten(recipe),
        "workers": workers,
        **asdict(sizes),
        "num_parameters": num_parameters,
        "device": "cuda" if on_gpu else "cpu",
        "precision": "bfloat16" if on_gpu else "float32",
    }


def inputs_of(data: DataSource) -> list[DataInput]:
    """The corpus and the features, with what a person wants to know of them."""
    profile, use = corpus_profile(data), "training"
    given = [("corpus", data.corpus, data.corpus_fingerprint, profile)]
    if data.features:
        store = data.features
        given.append(("features", store.path, store.snapshot, features_profile(store)))
    return [DataInput(n, path, digest, use, p.columns, p.facts) for n, path, digest, p in given]
