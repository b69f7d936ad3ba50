"""States of a model as flat lists of tensors, which ONNX can pass from step to step."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def tensors_of(state: Any, path: str = "state") -> dict[str, Tensor]:
    """Return the tensors of a state by the path of their field, such as `state.reading.h`."""
    if isinstance(state, Tensor):
        return {path: state}
    tensors: dict[str, Tensor] = {}
    if isinstance(state, tuple):
        for number, value in enumerate(state):
            tensors |= tensors_of(value, f"{path}.{number}")
    elif is_dataclass(state):
        for field in fields(state):
            tensors |= tensors_of(getattr(state, field.name), f"{path}.{field.name}")
    elif state is not None:
        raise TypeError(f"{path}: {type(state).__name__}, which is no tensor")
    return tensors


def with_tensors(state: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """Return a state with other tensors, by the paths of `tensors_of`."""
    if isinstance(state, Tensor):
        return tensors[path]
    if isinstance(state, tuple):
        return tuple(with_tensors(v, tensors, f"{path}.{n}") for n, v in enumerate(state))
    if is_dataclass(state) and not isinstance(state, type):
        changes = {
            field.name: with_tensors(getattr(state, field.name), tensors, f"{path}.{field.name}")
            for field in fields(state)
        }
        return replace(state, **changes)
    return state
