"""Changes to the graphs of ONNX networks: frames as their input, features as their output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Mean and standard deviation of ImageNet's training images, RGB, which torchvision and most
# exported networks use.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def begin_with_frames(graph: onnx.GraphProto, image: onnx.ValueInfoProto, size: int) -> None:
    """Insert cast, transpose and normalisation before a graph that takes float32 [N, 3, H, W]."""
    batch = image.type.tensor_type.shape.dim[0]
    frames = helper.make_tensor_value_info(
        "intertitle_frames",
        TensorProto.UINT8,
        [1 if batch.HasField("dim_value") else "batch", size, size, 3],
    )
    # Constants are nodes, because in older files every initializer has to be an input, too.
    scaling = [
        helper.make_node(
            "Constant",
            [],
            [name],
            value=numpy_helper.from_array(
                (255 * np.array(values, np.float64)).astype(np.float32).reshape(3, 1, 1)
            ),
        )
        for name, values in (("intertitle_mean", IMAGENET_MEAN), ("intertitle_std", IMAGENET_STD))
    ]
    nodes = [
        *scaling,
        helper.make_node("Cast", [frames.name], ["intertitle_cast"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["intertitle_cast"], ["intertitle_rgb"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["intertitle_rgb", "intertitle_mean"], ["intertitle_centred"]),
        helper.make_node("Div", ["intertitle_centred", "intertitle_std"], [image.name]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.remove(image)
    graph.input.insert(0, frames)


def end_in_features(graph: onnx.GraphProto, features: str) -> None:
    """Append pooling, or flattening, to a graph that returns a grid [N, D, H, W]."""
    (grid,) = graph.output
    if features == "pooled":
        nodes = [
            helper.make_node("GlobalAveragePool", [grid.name], ["intertitle_mean_of_grid"]),
            helper.make_node(
                "Flatten", ["intertitle_mean_of_grid"], ["intertitle_features"], axis=1
            ),
        ]
    else:
        cells = numpy_helper.from_array(np.array([0, 0, -1], np.int64))
        nodes = [
            helper.make_node("Constant", [], ["intertitle_cells"], value=cells),
            helper.make_node("Reshape", [grid.name, "intertitle_cells"], ["intertitle_flat"]),
            helper.make_node(
                "Transpose", ["intertitle_flat"], ["intertitle_features"], perm=[0, 2, 1]
            ),
        ]
    graph.node.extend(nodes)
    graph.output.remove(grid)
    graph.output.append(
        helper.make_tensor_value_info("intertitle_features", TensorProto.FLOAT, None)
    )


def describe_value(value: onnx.ValueInfoProto) -> str:
    """Return the name, type and shape of an input or output."""
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    dims = [dim.dim_param or dim.dim_value or "?" for dim in value.type.tensor_type.shape.dim]
    return f"{value.name!r} {kind} [{', '.join(map(str, dims))}]"


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Iterate over all tensors of a file, including those of graphs inside its nodes."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from (
        part for tensor in graph.sparse_initializer for part in (tensor.values, tensor.indices)
    )
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(inner)
