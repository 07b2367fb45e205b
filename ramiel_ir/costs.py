"""Cost models: µs per op, and µs for a value to reach another worker.

`StaticCosts` is the paper's: a weight per kind of op and 1 per edge. `AnalyticCosts` estimates µs
from FLOPs and bytes, where shapes are known.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ramiel_ir.derived import Part
from ramiel_ir.ir import DType, Graph, Op, Type, Value


class Costs(ABC):
    """What computing an op and moving a value cost, in µs.

    Costs lie on a grid of 1/1024 µs, so that sums of them are exact and ties are ties.
    """

    name: ClassVar[str]
    company: float = 1.0
    """How much longer ops take while another worker computes, who shares caches and memory."""

    @abstractmethod
    def estimate_op(self, op: Op, threads: int) -> float:
        """µs for one run of `op` on `threads` intra-op threads."""

    @abstractmethod
    def estimate_edge(self, value: Value) -> float:
        """µs between the end of `value`'s producer and the moment another worker can use it."""

    def estimate_send(self, value: Value) -> float:
        """µs of the edge for which the worker that sends can do nothing else."""
        return 0.0

    def estimate_receive(self, value: Value) -> float:
        """µs of the edge for which the worker that receives can do nothing else."""
        return 0.0

    def estimate_segment(self) -> float:
        """µs that a worker needs to start computing after a message, whatever it computes."""
        return 0.0

    def request(self, workers: int, inputs: Sequence[Value]) -> float:
        """µs of a request beside what its workers do: handing over inputs, waking the workers."""
        return 0.0

    def op(self, op: Op, threads: int = 1, *, alone: bool = True) -> float:
        """The estimate for an op on the only worker, or on one of several, on the grid."""
        return _on_grid(self.estimate_op(op, threads) * (1.0 if alone else self.company))

    def part(self, op: Op, part: Part, threads: int = 1) -> float:
        """The estimate for an op that makes only a part of what `op` makes, on the grid."""
        return _on_grid(self.estimate_op(op, threads) * part.share)

    def edge(self, value: Value) -> float:
        """The estimate for handing `value` to another worker, on the grid."""
        return _on_grid(self.estimate_edge(value))

    def send(self, value: Value) -> float:
        """The estimate for sending `value`, on the grid."""
        return _on_grid(self.estimate_send(value))

    def receive(self, value: Value) -> float:
        """The estimate for receiving `value`, on the grid."""
        return _on_grid(self.estimate_receive(value))

    def segment(self) -> float:
        """The estimate for starting a segment, on the grid."""
        return _on_grid(self.estimate_segment())


def _on_grid(microseconds: float) -> float:
    return max(1, round(microseconds * 1024)) / 1024 if microseconds > 0 else 0.0


def distances(graph: Graph, costs: Costs, threads: int = 1) -> dict[Op, float]:
    """µs from the start of each op to the end of the graph along its longest path.

    `d(op) = w(op) + max over successors s of (c(op → s) + d(s))`, just w(op) for a last op.
    """
    found: dict[Op, float] = {}
    for op in reversed(graph.ops):
        longest = 0.0
        for result in op.writes:
            users = result.users()
            if users:
                edge = costs.edge(result)
                longest = max(longest, edge + max(found[user] for user in users))
        found[op] = costs.op(op, threads) + longest
    return found


@dataclass(frozen=True)
class Work:
    """The bounds of a graph, in µs: no plan beats max(critical path, work / P)."""

    work: float
    critical_path: float

    @property
    def parallelism(self) -> float:
        """How many workers could be busy on average: work / critical path."""
        return self.work / self.critical_path if self.critical_path else 1.0

    def bound(self, workers: int) -> float:
        """The least makespan of any plan on this many workers."""
        return max(self.critical_path, self.work / workers)


def work(graph: Graph, costs: Costs, threads: int = 1) -> Work:
    """Sum of op costs, and the longest path by op costs without edge costs."""
    longest: dict[Op, float] = {}
    total = 0.0
    for op in reversed(graph.ops):
        after = (longest[user] for result in op.writes for user in result.users())
        cost = costs.op(op, threads)
        longest[op] = cost + max(after, default=0.0)
        total += cost
    return Work(total, max(longest.values(), default=0.0))


# Ops that only give an existing buffer another shape, or that run once.
_FREE = frozenset(
    [
        "Cast",
        "Constant",
        "ConstantOfShape",
        "Dropout",
        "Flatten",
        "Identity",
        "Reshape",
        "Shape",
        "Size",
        "Squeeze",
        "Unsqueeze",
    ]
)


@dataclass(frozen=True)
class StaticCosts(Costs):
    """The paper's model: elementwise ops weigh 1, convolutions grow with the kernel, an edge is 1.

    Das and Rauchwerger (2024), section III: the weights order ops, they are no times. Convolutions
    weigh twice their kernel's width plus height, matrix products 8, poolings 4, normalisations 2,
    ops that only give a tensor another shape 0.
    """

    name: ClassVar[str] = "static"

    def estimate_op(self, op: Op, threads: int) -> float:
        if op.regions:
            bodies = op.regions.values()
            return 1.0 + sum(self.estimate_op(inner, 1) for body in bodies for inner in body.ops)
        if op.kind in _FREE:
            return 0.0
        if "Conv" in op.kind:
            return 2.0 * sum(_kernel(op))
        return _STATIC_WEIGHTS.get(op.kind, 1.0)

    def estimate_edge(self, value: Value) -> float:
        return 1.0


_STATIC_WEIGHTS = {
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "FusedMatMul"), 8.0),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Attention"), 32.0),
    **dict.fromkeys(("AveragePool", "MaxPool", "LRN", "Resize"), 4.0),
    **dict.fromkeys(
        ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "Softmax"), 2.0
    ),
}


def _kernel(op: Op) -> tuple[int, ...]:
    """The kernel's extents, from the attribute or from the weight's shape."""
    given = op.attribute("kernel_shape")
    if given:
        return tuple(given)
    weight = op.operand(1)
    shape = None if weight is None or weight.type is None else weight.type.shape
    return tuple(dim if isinstance(dim, int) else 3 for dim in (shape or (0, 0, 3, 3))[2:])


@dataclass(frozen=True)
class MessageCosts:
    """What messages cost: µs, and µs per byte.

    A message of n bytes arrives `fixed + (send_per_byte + receive_per_byte) n` µs after its sender
    begins with it. `send + send_per_byte n` of that the sender is busy, `receive + receive_per_byte
    n` the receiver: it reads memory that another core's cache holds. `segment` µs go by when a
    worker starts to compute after a message. Beside what its workers do, a request takes `request`
    µs, `wake` more (less, if negative) where there are several workers, and `input +
    input_per_byte n` for each model input of n bytes.
    """

    fixed: float = 10.0
    send: float = 4.0
    receive: float = 2.0
    send_per_byte: float = 1e-4
    receive_per_byte: float = 1e-4
    segment: float = 0.0
    request: float = 100.0
    wake: float = 20.0
    input: float = 3.0
    input_per_byte: float = 1e-4


@dataclass(frozen=True)
class MicrosecondCosts(Costs):
    """A model in µs of this machine: `messages` says what messages cost."""

    messages: MessageCosts = field(default_factory=MessageCosts, kw_only=True)

    def estimate_edge(self, value: Value) -> float:
        per_byte = self.messages.send_per_byte + self.messages.receive_per_byte
        return self.messages.fixed + per_byte * value_bytes(value.type)

    def estimate_send(self, value: Value) -> float:
        return self.messages.send + self.messages.send_per_byte * value_bytes(value.type)

    def estimate_receive(self, value: Value) -> float:
        return self.messages.receive + self.messages.receive_per_byte * value_bytes(value.type)

    def estimate_segment(self) -> float:
        return self.messages.segment

    def request(self, workers: int, inputs: Sequence[Value]) -> float:
        costs = self.messages
        nbytes = sum(value_bytes(value.type) for value in inputs)
        handed = costs.input * len(inputs) + costs.input_per_byte * nbytes
        return costs.request + costs.wake * (workers > 1) + handed


@dataclass(frozen=True)
class AnalyticCosts(MicrosecondCosts):
    """A roofline: the longer of arithmetic and memory traffic, and a fixed cost per op.

    Rates are of one thread: `gflops` billion operations per second (a multiply-add is two),
    `gigabytes_per_second` of memory traffic; `overhead` µs per op. A further thread adds `scaling`
    of the first one's rate and `fork` µs per op. Unknown dimensions count as 1.
    """

    name: ClassVar[str] = "analytic"
    gflops: float = 200.0
    gigabytes_per_second: float = 10.0
    overhead: float = 5.0
    scaling: float = 0.9
    fork: float = 2.0

    def estimate_op(self, op: Op, threads: int) -> float:
        if op.regions:
            trips = 1 if op.kind == "If" else 8
            bodies = op.regions.values()
            inner = sum(self.estimate_op(inner, threads) for body in bodies for inner in body.ops)
            return self.overhead + trips * inner
        if op.kind in _FREE:
            return 1.0 if op.kind != "Cast" else self._traffic(op)
        flops = _FLOPS.get(op.kind, _elementwise)(op)
        alone = max(flops / self.gflops / 1e3, self._traffic(op))
        shared = alone / (1 + self.scaling * (threads - 1)) + self.fork * (threads > 1)
        return self.overhead + min(alone, shared)

    def _traffic(self, op: Op) -> float:
        values = [value for value in (*op.operands, *op.results) if value is not None]
        return sum(value_bytes(value.type) for value in values) / self.gigabytes_per_second / 1e3


def _count(type: Type | None) -> int:
    """Elements of a tensor, unknown dimensions taken as 1."""
    if type is None or type.shape is None:
        return 1
    return math.prod(dim if isinstance(dim, int) else 1 for dim in type.shape)


def value_bytes(type: Type | None) -> float:
    """Bytes of a value, unknown dimensions taken as 1 and unknown types as 32 bits."""
    bits = type.element.bits if type is not None and isinstance(type.element, DType) else 32
    return _count(type) * (bits or 64) / 8


def _result_count(op: Op) -> int:
    return max((_count(result.type) for result in op.writes), default=1)


def _elementwise(op: Op) -> float:
    return float(_result_count(op))


def _expensive(op: Op) -> float:
    return 20.0 * _result_count(op)


def _convolution(op: Op) -> float:
    weight = op.operand(1)
    shape = None if weight is None or weight.type is None else weight.type.shape
    if shape is None:
        return _elementwise(op)
    per_output = math.prod(dim for dim in shape[1:] if isinstance(dim, int))
    return 2.0 * _result_count(op) * per_output


def _quantized_convolution(op: Op) -> float:
    weight = op.operand(3)
    return (
        2.0
        * _result_count(op)
        * (_count(weight.type) if weight else 1)
        / max(1, _first_dim(weight))
    )


def _first_dim(value: Value | None) -> int:
    shape = value.type.shape if value is not None and value.type is not None else None
    return shape[0] if shape and isinstance(shape[0], int) else 1


def _transposed(op: Op) -> float:
    source, weight = op.operand(0), op.operand(1)
    if source is None or weight is None:
        return _elementwise(op)
    return 2.0 * _count(source.type) * _count(weight.type) / max(1, _first_dim(weight))


def _matrix_product(op: Op) -> float:
    left = op.operand(0)
    shape = left.type.shape if left is not None and left.type is not None else None
    if not shape:
        return _elementwise(op)
    inner = shape[0] if op.attribute("transA", 0) else shape[-1]
    return 2.0 * _result_count(op) * (inner if isinstance(inner, int) else 1)


def _pooling(op: Op) -> float:
    return float(_result_count(op) * math.prod(op.attribute("kernel_shape", (1,))))


def _global_pooling(op: Op) -> float:
    source = op.operand(0)
    return float(_count(source.type)) if source is not None else 1.0


def _recurrent(op: Op) -> float:
    source, weight, recurrence = op.operand(0), op.operand(1), op.operand(2)
    if source is None or weight is None or recurrence is None or source.type is None:
        return _elementwise(op)
    steps = math.prod(dim for dim in (source.type.shape or ())[:2] if isinstance(dim, int))
    return 2.0 * steps * (_count(weight.type) + _count(recurrence.type))


_FLOPS: dict[str, Callable[[Op], float]] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger"), _convolution),
    "QLinearConv": _quantized_convolution,
    "ConvTranspose": _transposed,
    **dict.fromkeys(("MatMul", "Gemm", "MatMulInteger", "FusedMatMul"), _matrix_product),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pooling),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "ReduceMean"), _global_pooling),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("Sigmoid", "Tanh", "Exp", "Erf", "Pow", "Softmax", "LRN"), _expensive),
    **dict.fromkeys(("Gelu", "QuickGelu", "HardSwish"), _expensive),
}
