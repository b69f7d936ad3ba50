"""Import of the libraries that networks come from."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from intertitle.pipeline.errors import UserError

# Operators that torchvision needs when it is imported; see `import_library`.
_OPERATORS = ("nms", "qnms")
_OPERATOR_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_operators: torch.library.Library | None = None


def import_library(name: str, prefix: str) -> ModuleType:
    """Import a library that may need torchvision.

    Args:
        name: name of the module, which is also that of the extra.
        prefix: beginning of the names of its backbones, for the message.

    Raises:
        UserError: the library is not installed, or can't be used.
    """
    global _operators
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"backbone: {prefix}... needs {name} ({error}): pip install 'intertitle[{name}]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _operators is not None:
            raise UserError(f"backbone: {prefix}...: {name} can't be used: {error}") from error
        # A torchvision built for another build of torch (such as one for GPUs, with a torch for the
        # CPU) can't load its operators and fails because their names are not defined. No backbone
        # needs them, so that defining the names is enough.
        _operators = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            _operators.define(operator + _OPERATOR_ARGUMENTS)  # type: ignore[no-untyped-call]
        return import_library(name, prefix)
