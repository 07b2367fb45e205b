"""Run a model at given dimensions, and again with one of its branches switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort

RTOL, ATOL = 1e-3, 1e-5

Arrays = dict[str, np.ndarray]


def session(model: onnx.ModelProto, *, optimized: bool = False) -> ort.InferenceSession:
    """Load into a session of one thread, without optimizations unless asked for."""
    levels = ort.GraphOptimizationLevel
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def outputs(
    model: onnx.ModelProto | ort.InferenceSession, inputs: Arrays, *, optimized: bool = False
) -> Arrays:
    """The outputs of one run, by name."""
    loaded = session(model, optimized=optimized) if isinstance(model, onnx.ModelProto) else model
    names = [output.name for output in loaded.get_outputs()]
    return dict(zip(names, loaded.run(None, inputs), strict=True))


def draw(model: onnx.ModelProto, *, seed: int = 0, **dimensions: int) -> Arrays:
    """Random inputs in the ranges that the model states, at the given symbolic dimensions."""
    rng = np.random.default_rng(seed)
    ranges = {
        entry.key.removeprefix("ramiel.range."): entry.value.split(",")
        for entry in model.metadata_props
    }
    drawn: Arrays = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value or dimensions[dim.dim_param] for dim in tensor.shape.dim]
        low, high = ranges[value.name]
        if tensor.elem_type == onnx.TensorProto.INT64:
            drawn[value.name] = rng.integers(int(low), int(high), shape)
        else:
            drawn[value.name] = rng.uniform(float(low), float(high), shape).astype(np.float32)
    return drawn


def distance(reference: Arrays, other: Arrays) -> float:
    """The greatest difference of an output, in units of the tolerance; all must be finite."""
    assert reference.keys() == other.keys()
    worst = 0.0
    for name, expected in reference.items():
        assert expected.shape == other[name].shape
        assert np.isfinite(expected).all() and np.isfinite(other[name]).all()
        tolerance = RTOL * np.abs(expected).max() + ATOL
        worst = max(worst, float(np.abs(expected - other[name]).max() / tolerance))
    return worst


def joins(model: onnx.ModelProto, suffix: str, operands: Sequence[int]) -> list[tuple[str, int]]:
    """The given operands of every node whose name ends with `suffix`."""
    return [
        (node.name, operand)
        for node in model.graph.node
        if node.name.endswith(suffix)
        for operand in operands
    ]


def effects(
    model: onnx.ModelProto, branches: Sequence[tuple[str, int]], inputs: Arrays
) -> dict[tuple[str, int], float]:
    """How far the outputs move when zeros take the place of one branch, in tolerances.

    A branch is an operand of a node, the join. Each is multiplied by an input that is 1 or 0.
    """
    gated = onnx.ModelProto()
    gated.CopyFrom(model)
    names = {branch: f"gate.{index}" for index, branch in enumerate(branches)}
    products: dict[str, list[onnx.NodeProto]] = {}
    nodes = {node.name: node for node in gated.graph.node}
    for (join, operand), gate in names.items():
        value = nodes[join].input[operand]
        product = onnx.helper.make_node("Mul", [value, gate], [f"{gate}.out"])
        products.setdefault(join, []).append(product)
        nodes[join].input[operand] = f"{gate}.out"
        gated.graph.input.append(onnx.helper.make_tensor_value_info(gate, 1, []))
    ordered = [new for node in gated.graph.node for new in (*products.get(node.name, ()), node)]
    del gated.graph.node[:]
    gated.graph.node.extend(ordered)
    loaded = session(gated)
    labels = [output.name for output in loaded.get_outputs()]
    opened = {gate: np.ones((), np.float32) for gate in names.values()}

    def run(gates: Mapping[str, np.ndarray]) -> Arrays:
        return dict(zip(labels, loaded.run(None, {**inputs, **gates}), strict=True))

    reference = run(opened)
    closed = np.zeros((), np.float32)
    return {
        branch: distance(reference, run({**opened, gate: closed})) for branch, gate in names.items()
    }


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The shape of every value that has one, symbolic dimensions by name."""
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
    }


def weights(model: onnx.ModelProto) -> Arrays:
    """All initializers by name."""
    return {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}


def assert_plain(model: onnx.ModelProto) -> None:
    """Every shape is static, and no op computes shapes or holds a constant."""
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Shape", "Size", "ConstantOfShape", "Constant", "Slice"}
    known = shapes(model)
    for node in model.graph.node:
        for name in node.output:
            assert all(isinstance(dim, int) for dim in known[name]), name
