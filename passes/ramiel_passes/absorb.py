"""Batch normalisation becomes part of the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ramiel_ir.ir import Array, Graph, Names, Op, Tensor, Value
from ramiel_ir.pipeline import Context, No, Pass

_FLOATS = ("f32", "f64")


@dataclass(frozen=True)
class Absorb(Pass):
    """Fold BatchNormalization into the weights of the Conv whose result only it reads.

    At inference a batch normalisation is a scale and a shift per channel, and a convolution is
    linear: scaling its output channels is scaling its kernels. With s = scale / √(variance + ε),
    the kernels become s · W and the bias s · (b − mean) + shift. The op and a walk over memory are
    gone; numbers change by rounding only. Floats of 32 and 64 bits, constant operands, of one
    number per channel.
    """

    name = "absorb"

    def run(self, graph: Graph, context: Context) -> bool | No:
        names = Names(graph)
        pairs = {op: conv for op in graph.ops if (conv := _absorber(op)) is not None}
        if not pairs:
            return No("no Conv is followed by a BatchNormalization alone")
        graph.replace({op: _absorb(graph, names, op, conv) for op, conv in pairs.items()})
        graph.erase(*pairs.values())
        graph.erase_weights([value for value in graph.weights if not value.uses])
        return True


def _absorber(op: Op) -> Op | None:
    """The Conv that can take in `op`, None where there is none or `op` is something else."""
    if op.kind != "BatchNormalization" or op.domain or op.attribute("training_mode", 0):
        return None
    if len(op.writes) != 1 or op.attribute("spatial", 1) != 1:
        return None
    source = op.operand(0)
    conv = None if source is None else source.op
    if conv is None or conv.kind != "Conv" or conv.domain or conv.graph is not op.graph:
        return None
    if source is None or len(source.uses) != 1 or conv.cluster != op.cluster:
        return None
    vectors = [_constant(value) for value in (*conv.operands[2:], *op.operands[1:])]
    kernels = _constant(conv.operand(1))
    if kernels is None or not kernels.shape:
        return None
    channels = kernels.shape[:1]
    fit = all(vector is not None and vector.shape == channels for vector in vectors)
    return conv if fit else None


def _constant(value: Value | None) -> Tensor | None:
    """The floats that the value always is, None where it may vary or is something else."""
    weight = None if value is None else value.weight
    if weight is None or weight.is_detached or weight.dtype.text not in _FLOATS:
        return None
    return weight


def _data(value: Value | None) -> Array:
    assert value is not None and value.weight is not None
    return value.weight.array


def _absorb(graph: Graph, names: Names, op: Op, conv: Op) -> Op:
    """The Conv that does the work of both."""
    scale, shift, mean, variance = (_data(value).astype(np.float64) for value in op.operands[1:5])
    factor = scale / np.sqrt(variance + op.attribute("epsilon", 1e-5))
    kernels = _data(conv.operand(1))
    dtype = kernels.dtype
    bias = _data(conv.operand(2)) if conv.operand(2) is not None else np.zeros(len(kernels))
    scaled = kernels * factor.reshape(-1, *[1] * (kernels.ndim - 1))
    moved = factor * (bias - mean) + shift
    result = op.writes[0]
    weights = [
        graph.add_weight(names.fresh(f"{result.name}.{what}"), Tensor.of(data))
        for what, data in (("weight", scaled.astype(dtype)), ("bias", moved.astype(dtype)))
    ]
    return Op(
        "Conv",
        [conv.operand(0), *weights],
        [Value(result.name, result.type)],
        conv.attributes,
        cluster=conv.cluster,
        name=conv.name,
    )
