"""Declarations of samplers, and the samplers by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.pipeline.plugins import Registry

if TYPE_CHECKING:
    from intertitle.training.config.sections import TrainingConfig
    from intertitle.training.data.dataset import Dataset
    from intertitle.training.data.sampler import Sampler


@dataclass(frozen=True, slots=True)
class SamplerKind:
    """A sampler that recipes choose by `training.sampler`.

    Attributes:
        name: name of the sampler.
        make: function from the training split and the settings to the sampler.
    """

    name: str
    make: Callable[[Dataset, TrainingConfig], Sampler]


BY_TOKENS = "tokens"
SAMPLERS = Registry(
    "intertitle.samplers",
    "sampler",
    SamplerKind,
    {BY_TOKENS: "intertitle.training.data.sampler:BY_TOKENS"},
)
