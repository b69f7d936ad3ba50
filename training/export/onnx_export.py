"""Export of a generator of sentences to ONNX.

    encoder.onnx     features or source -> the state before the first token
    step.onnx        token, state -> log-probabilities of the next token, the fields that change
    generator.json   names of the inputs and of the state, settings of greedy search
    vocabularies.json, recipe.json

The files process one input at a time, of any length. A field of the state that no step changes,
such as the memory of an attention, is an output of the encoder alone.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx.symbolic_helper import parse_args

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.format_version import FormatVersion
from intertitle.pipeline.storage.manifest_folder import write_folder
from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID
from intertitle.training.export.states import tensors_of, with_tensors
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.base import Generator
from intertitle.training.models.rnn import RNNStack
from intertitle.training.search.constraints import NEVER_GENERATED

ONNX_FORMAT = FormatVersion("ONNX export", 1)
_OPSET = 17
_END = 2**31 - 1
# Length of the example that is traced, and number of its cells.
_LENGTH, _CELLS = 3, 4


def export_onnx(trained: TrainedModel, folder: Path) -> None:
    """Write a trained model as ONNX files.

    Args:
        trained: model that generates sentences.
        folder: new folder.

    Raises:
        UserError: the model does not generate sentences, or its state is not made of tensors.
    """
    name = trained.recipe.name
    if trained.task.output != "sentence" or not isinstance(trained.model, Generator):
        raise UserError(f"--to onnx: of no use to {name}: it writes no sentences")
    model = _one_at_a_time(trained.model)
    visual = trained.task.visual_input
    inputs: dict[str, Tensor] = {}
    if visual != "nothing":
        cells = (_CELLS,) if visual == "grid" else ()
        inputs["features"] = torch.rand(1, _LENGTH, *cells, trained.data.feature_dim)
    if trained.task.has_source:
        inputs["source"] = torch.full((1, _LENGTH), EOS_ID)
    encoder = _Encoder(model, list(inputs))
    with torch.no_grad():
        state = model.start(_with_inputs(_empty_batch(), inputs))
        try:
            tensors = tensors_of(state)
        except TypeError as error:
            raise UserError(f"--to onnx: not for {name}: its state has {error}") from error
        token = torch.full((1,), BOS_ID)
        step = _Step(model, state, list(tensors))
        changing = step.changing(token, tensors)
    long = {
        name: {1: "length", 2: "cells"} if t.dim() == 4 else {1: "length"}
        for name, t in inputs.items()
    }
    memory = {
        name: {1: "positions"}
        for name, tensor in tensors.items()
        if name not in changing and tensor.dim() > 1
    }
    files = {
        "encoder.onnx": _export(
            encoder, tuple(inputs.values()), list(inputs), list(tensors), {**long, **memory}
        ),
        "step.onnx": _export(
            step,
            (token, *tensors.values()),
            ["token", *tensors],
            ["log_probs", *(f"next.{name}" for name in changing)],
            memory,
        ),
        "generator.json": json.dumps(
            {
                "inputs": list(inputs),
                "state": list(tensors),
                "changing": changing,
                "begin": BOS_ID,
                "end": EOS_ID,
                "never": NEVER_GENERATED,
                "max_tokens": trained.recipe.search.max_tokens,
                "min_tokens": trained.recipe.search.min_tokens,
                "features": [json.loads(ref.fingerprint) for ref in trained.data.features],
            },
            indent=1,
        ).encode(),
        "vocabularies.json": trained.vocabularies.to_json().encode(),
        "recipe.json": trained.recipe.model_dump_json(indent=1).encode(),
    }
    write_folder(folder, files, ONNX_FORMAT)


def _empty_batch() -> Batch:
    """Make a batch of one row without inputs; its checks on the host cannot be traced."""
    nothing, zero = torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    features = torch.zeros(1, 0, 0)
    return Batch(features, zero, nothing, zero, nothing, nothing, zero, torch.ones(1))


def _with_inputs(batch: Batch, inputs: dict[str, Tensor]) -> Batch:
    """Return a copy of an empty batch with inputs, whose lengths a traced graph computes."""
    filled = copy.copy(batch)
    for name, field in (("features", "frame_lengths"), ("source", "source_lengths")):
        if name in inputs:
            object.__setattr__(filled, name, inputs[name])
            object.__setattr__(filled, field, _length(inputs[name]))
    return filled


def _length(tensor: Tensor) -> Tensor:
    """Return the length of a row, [1], as a sum, which a traced graph computes from its input."""
    first = tensor.flatten(2).select(2, 0) if tensor.dim() > 2 else tensor
    return torch.ones_like(first, dtype=torch.int64).sum(1)


def _one_at_a_time(model: Generator[Any]) -> Generator[Any]:
    """Return a copy whose layers read one row without padding."""
    alone = copy.deepcopy(model).cpu().eval()
    for module in alone.modules():
        if isinstance(module, RNNStack):
            module.read = _ReadAll(module.forward)  # type: ignore[method-assign]
    return alone


class _ReadAll:
    """Replacement of `RNNStack.read` for rows without padding."""

    def __init__(self, forward: Any) -> None:
        self._forward = forward

    def __call__(self, inputs: Tensor, lengths: Tensor, *, padded: bool = False) -> Any:
        return self._forward(inputs)


class _Encoder(nn.Module):
    def __init__(self, model: Generator[Any], names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names, self.empty = model, names, _empty_batch()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.names, inputs, strict=True))
        state = self.model.start(_with_inputs(self.empty, named))
        # A tensor that is two fields of a state needs two names.
        return tuple(tensor.clone() for tensor in tensors_of(state).values())


class _Step(nn.Module):
    def __init__(self, model: Generator[Any], state: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.state, self.names = model, state, names
        self.outputs: list[str] | None = None

    def changing(self, token: Tensor, tensors: dict[str, Tensor]) -> list[str]:
        """Return the names of the fields that a step changes, which become outputs."""
        _, state = self.model.step(with_tensors(self.state, tensors), token)
        new = tensors_of(state)
        self.outputs = [name for name in self.names if new[name] is not tensors[name]]
        return self.outputs

    def forward(self, token: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        state = with_tensors(self.state, dict(zip(self.names, tensors, strict=True)))
        log_probs, state = self.model.step(state, token)
        new = tensors_of(state)
        return (log_probs, *(new[name].clone() for name in self.outputs or ()))


def _export(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    lengths: dict[str, dict[int, str]],
) -> bytes:
    """Trace a network; torch.export would unroll recurrent layers to a fixed length."""
    for name, symbolic in (("take_along_dim", _take_along_dim), ("diff", _diff)):
        torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
            f"aten::{name}", symbolic, _OPSET
        )
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            tempfile.TemporaryDirectory(prefix="intertitle-") as scratch,
        ):
            file = Path(scratch) / "graph.onnx"
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                inputs,
                file,
                input_names=input_names,
                output_names=output_names,
                dynamic_axes={n: a for n, a in lengths.items() if n in input_names + output_names},
                opset_version=_OPSET,
                dynamo=False,
            )
            return file.read_bytes()
    finally:
        exporter_log.setLevel(level)


@parse_args("v", "v", "i")
def _take_along_dim(graph: Any, values: Any, indices: Any, dim: int) -> Any:
    """Expand the indices to the other dimensions of the values, and gather."""
    shapes = graph.op("Shape", values), graph.op("Shape", indices)
    parts = [
        _slice(graph, shapes[0], 0, dim),
        _slice(graph, shapes[1], dim, dim + 1),
        _slice(graph, shapes[0], dim + 1, _END),
    ]
    shape = graph.op("Concat", *parts, axis_i=0)
    return graph.op("GatherElements", values, graph.op("Expand", indices, shape), axis_i=dim)


@parse_args("v", "i", "i", "v", "v")
def _diff(graph: Any, values: Any, n: int, dim: int, prepend: Any, append: Any) -> Any:
    """Subtract each element from the next one."""
    later = _slice(graph, values, 1, _END, dim)
    return graph.op("Sub", later, _slice(graph, values, 0, -1, dim))


def _slice(graph: Any, values: Any, start: int, end: int, axis: int = 0) -> Any:
    constants = [
        graph.op("Constant", value_t=torch.tensor([number])) for number in (start, end, axis)
    ]
    return graph.op("Slice", values, *constants)
