"""Random graphs, costs and pipelines: a plain seeded generator, and hypothesis strategies over it.

`random_graph` makes valid ONNX (opset 21) that onnx.reference can evaluate: forks, joins, ops of
several results, unused values, outputs that are inputs or weights, captures, sequences.
`random_dag` makes structure only, thousands per second, for laws about costs and schedules.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from ramiel_ir import registry
from ramiel_ir.costs import Costs
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.pipeline import Option, Pass

_T = TypeVar("_T")
SHAPES: tuple[tuple[int, ...], ...] = ((), (4,), (2, 4), (4, 4))
F32, I64, BOOL = DType.F32, DType.I64, DType.BOOL


def seeds() -> st.SearchStrategy[int]:
    """Seeds for the generators below; a failing example is one number."""
    return st.integers(0, 2**32 - 1)


def examples(count: int) -> settings:
    """Hypothesis settings of all property tests: the same examples in every run."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


# Graphs that can be evaluated ---------------------------------------------------------------------


def random_graph(seed: int, size: int = 14, *, weaken: bool = True) -> Graph:
    """A verified graph of about `size` ops; with `weaken` some types are less than fully known."""
    made = _Builder(random.Random(seed)).build(size)
    if weaken:
        _weaken_types(made, random.Random(seed + 1))
    verify(made)
    return made


def random_inputs(graph: Graph, seed: int) -> dict[str, Any]:
    """An array for every input."""
    numbers = np.random.default_rng(seed)
    return {value.name: _random_array(value.type, numbers) for value in graph.inputs}


def _random_array(type: Type | None, numbers: np.random.Generator) -> Any:
    assert type is not None and type.shape is not None and isinstance(type.element, DType)
    shape = [dim for dim in type.shape if isinstance(dim, int)]
    if type.element is BOOL:
        return np.asarray(numbers.integers(0, 2, shape), bool)
    if type.element is I64:
        return np.asarray(numbers.integers(-3, 4, shape), np.int64)
    return np.asarray(numbers.normal(size=shape), np.float32)


class _Builder:
    """Grows a graph op by op from a pool of values that have full types."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.numbers = np.random.default_rng(rng.getrandbits(32))
        self.graph = Graph("random", opsets={"": 21})
        self.pool: list[Value] = []
        self.count = 0

    def build(self, size: int) -> Graph:
        rng = self.rng
        for element, shape in ((F32, (2, 4)), (F32, (4, 4)), (I64, (4,)), (BOOL, ()), (F32, (4,))):
            if element is F32 or rng.random() < 0.7:
                self.pool.append(self.graph.add_input(Value(self.name("x"), Type(element, shape))))
        for _ in range(rng.randrange(1, 4)):
            self.weight(rng.choice((F32, F32, I64, BOOL)), rng.choice(SHAPES))
        while len(self.graph.ops) < size:
            rng.choice(_RECIPES)(self)
        for op in self.graph.ops:
            op.name = f"node {self.count}" if rng.random() < 0.2 else ""
        outputs = [value for value in self.pool if not value.uses and rng.random() < 0.8]
        outputs += rng.sample(self.pool, min(2, len(self.pool)))
        if rng.random() < 0.3:
            outputs.append(rng.choice(self.graph.inputs))
        if rng.random() < 0.3 and self.graph.weights:
            outputs.append(rng.choice(self.graph.weights))
        if rng.random() < 0.3:
            outputs.append(outputs[0])
        self.graph.set_outputs(outputs)
        if rng.random() < 0.3:
            self.graph.metadata["ramiel.range.x"] = '0,"1"\n'
        return self.graph

    def name(self, hint: str = "v") -> str:
        self.count += 1
        odd = self.rng.random() < 0.05
        return f"{hint} {self.count}/é\r\n" if odd else f"{hint}{self.count}"

    def weight(self, element: DType, shape: tuple[int, ...]) -> Value:
        array = _random_array(Type(element, shape), self.numbers)
        if element is F32 and shape and self.rng.random() < 0.1:
            array.reshape(-1)[0] = self.rng.choice((np.nan, np.inf, -np.inf, -0.0))
        self.pool.append(self.graph.add_weight(self.name("w"), Tensor.of(array)))
        return self.pool[-1]

    def pick(self, element: DType = F32, shape: tuple[int, ...] | None = None) -> Value:
        """A value of the pool, late ones more likely; a weight where there is none."""
        fits = [
            value
            for value in self.pool
            if value.type is not None
            and value.type.kind == "tensor"
            and value.type.element is element
            and (shape is None or value.type.shape == shape)
        ]
        if not fits:
            return self.weight(element, shape if shape is not None else self.rng.choice(SHAPES))
        return fits[int(len(fits) * self.rng.random() ** 0.6)]

    def add(
        self,
        kind: str,
        operands: list[Value | None],
        *types: Type,
        absent: tuple[int, ...] = (),
        regions: dict[str, Graph] | None = None,
        **attributes: Any,
    ) -> list[Value]:
        values = [
            None if index in absent else Value(self.name(), type)
            for index, type in enumerate(types)
        ]
        self.graph.append(Op(kind, operands, values, attributes, regions=regions))
        present = [value for value in values if value is not None]
        self.pool += present
        return present


def _shape_of(value: Value) -> tuple[int, ...]:
    assert value.type is not None and value.type.shape is not None
    return tuple(dim for dim in value.type.shape if isinstance(dim, int))


def _unary(b: _Builder) -> None:
    source = b.pick()
    kind = b.rng.choice(("Relu", "Neg", "Abs", "Tanh", "Identity", "Sigmoid", "Floor"))
    b.add(kind, [source], Type(F32, _shape_of(source)))


def _leaky(b: _Builder) -> None:
    source = b.pick()
    b.add("LeakyRelu", [source], Type(F32, _shape_of(source)), alpha=b.rng.random())


def _binary(b: _Builder) -> None:
    left = b.pick(b.rng.choice((F32, F32, I64)))
    assert left.type is not None and isinstance(left.type.element, DType)
    right = b.pick(left.type.element, _shape_of(left))
    b.add(b.rng.choice(("Add", "Sub", "Mul")), [left, right], left.type)


def _square(b: _Builder) -> None:
    source = b.pick()
    b.add("Mul", [source, source], Type(F32, _shape_of(source)))


def _variadic(b: _Builder) -> None:
    first = b.pick()
    rest = [b.pick(F32, _shape_of(first)) for _ in range(b.rng.randrange(4))]
    b.add(b.rng.choice(("Max", "Min", "Sum")), [first, *rest], Type(F32, _shape_of(first)))


def _matmul(b: _Builder) -> None:
    left = b.pick(F32, b.rng.choice(((2, 4), (4, 4))))
    b.add("MatMul", [left, b.pick(F32, (4, 4))], Type(F32, _shape_of(left)))


def _transpose(b: _Builder) -> None:
    b.add("Transpose", [b.pick(F32, (4, 4))], Type(F32, (4, 4)), perm=[1, 0])


def _split(b: _Builder) -> None:
    absent = (b.rng.randrange(2),) if b.rng.random() < 0.3 else ()
    half = Type(F32, (2, 4))
    b.add("Split", [b.pick(F32, (4, 4))], half, half, absent=absent, axis=0, num_outputs=2)


def _concat(b: _Builder) -> None:
    parts: list[Value | None] = [b.pick(F32, (2, 4)), b.pick(F32, (2, 4))]
    b.add("Concat", parts, Type(F32, (4, 4)), axis=0)


def _top_k(b: _Builder) -> None:
    count = b.graph.add_weight(b.name("k"), Tensor.of(np.array([4], np.int64)))
    b.add("TopK", [b.pick(F32, (4,)), count], Type(F32, (4,)), Type(I64, (4,)), axis=-1)


def _compare(b: _Builder) -> None:
    left = b.pick()
    right = b.pick(F32, _shape_of(left))
    b.add(b.rng.choice(("Less", "Greater")), [left, right], Type(BOOL, _shape_of(left)))


def _where(b: _Builder) -> None:
    left = b.pick()
    shape = _shape_of(left)
    b.add("Where", [b.pick(BOOL, shape), left, b.pick(F32, shape)], Type(F32, shape))


def _cast(b: _Builder) -> None:
    source = b.pick(b.rng.choice((I64, BOOL)))
    to = b.rng.choice((F32, I64, BOOL))
    b.add("Cast", [source], Type(to, _shape_of(source)), to=to.onnx_code)


def _reduce(b: _Builder) -> None:
    b.add("ReduceSum", [b.pick(F32, (2, 4))], Type(F32, ()), keepdims=0)


def _clip(b: _Builder) -> None:
    source = b.pick()
    b.add("Clip", [source, None, b.pick(F32, ())], Type(F32, _shape_of(source)))


def _reshape(b: _Builder) -> None:
    target = b.graph.add_weight(b.name("shape"), Tensor.of(np.array([2, 2, 2], np.int64)))
    (cube,) = b.add("Reshape", [b.pick(F32, (2, 4)), target], Type(F32, (2, 2, 2)))
    back = b.graph.add_weight(b.name("shape"), Tensor.of(np.array([2, -1], np.int64)))
    b.add("Reshape", [cube, back], Type(F32, (2, 4)))


def _shape(b: _Builder) -> None:
    b.add("Shape", [b.pick(F32, (2, 4))], Type(I64, (2,)))


def _dropout(b: _Builder) -> None:
    source = b.pick()
    shape = _shape_of(source)
    mask = [Type(BOOL, shape)] * b.rng.randrange(2)
    b.add("Dropout", [source], Type(F32, shape), *mask)


def _random(b: _Builder) -> None:  # with a seed it is the same each time, and still not pure
    source = b.pick(F32, (2, 4))
    b.add("RandomNormalLike", [source], Type(F32, (2, 4)), seed=float(b.rng.randrange(99)))


def _constant(b: _Builder) -> None:
    value = Tensor.of(np.array([b.rng.random()], np.float32))
    size = b.graph.add_weight(b.name("size"), Tensor.of(np.array([2, 4], np.int64)))
    b.add("ConstantOfShape", [size], Type(F32, (2, 4)), value=value)


def _sequence(b: _Builder) -> None:
    items: list[Value | None] = [b.pick(F32, (2, 4)), b.pick(F32, (2, 4)), b.pick(F32, (2, 4))]
    (made,) = b.add("SequenceConstruct", items, Type(Type(F32, (2, 4)), None, "sequence"))
    at = b.graph.add_weight(b.name("at"), Tensor.of(np.array(b.rng.randrange(3), np.int64)))
    b.add("SequenceAt", [made, at], Type(F32, (2, 4)))


def _if(b: _Builder) -> None:
    captured = b.pick(F32, (2, 4))
    then_branch, else_branch = Graph("then"), Graph("otherwise")
    for branch in (then_branch, else_branch):
        local = branch.add_weight(b.name("c"), Tensor.of(np.array([0.5], np.float32)))
        kind = b.rng.choice(("Add", "Mul"))
        inner = branch.add(kind, [captured, local], b.name(), Type(F32, (2, 4)))
        branch.set_outputs([inner])
    other = else_branch.add("Identity", [b.pick(F32, (2, 4))], b.name(), Type(F32, (2, 4)))
    if b.rng.random() < 0.5:
        else_branch.set_outputs([other])
    regions = {"then_branch": then_branch, "else_branch": else_branch}
    b.add("If", [b.pick(BOOL, ())], Type(F32, (2, 4)), regions=regions)


_RECIPES: tuple[Callable[[_Builder], None], ...] = (
    _unary, _unary, _unary, _leaky, _binary, _binary, _binary, _square, _variadic, _variadic,
    _matmul, _matmul, _transpose, _split, _split, _concat, _concat, _top_k, _compare, _where,
    _cast, _reduce, _clip, _reshape, _shape, _dropout, _random, _constant, _sequence, _if,
)  # fmt: skip


def _weaken_types(graph: Graph, rng: random.Random) -> None:
    """Forget parts of some types: a dimension, a rank, everything."""
    for op in graph.ops:
        for value in op.writes:
            if value.type is None or value.type.kind != "tensor" or rng.random() < 0.9:
                continue
            element, shape = value.type.element, value.type.shape or ()
            symbolic = tuple(rng.choice((dim, None, "N", "a b")) for dim in shape)
            value.type = rng.choice((None, Type(element), Type(element, symbolic)))


# Structure only -----------------------------------------------------------------------------------


def random_dag(rng: random.Random, size: int) -> Graph:
    """A graph of up to `size` ops without meaning: any fan-in, fan-out and number of results."""
    graph = Graph("dag", [Value("x")], opsets={"": 21})
    values = [graph.inputs[0]]
    reach = rng.choice((3, 8, 1000))
    for number in range(rng.randrange(1, size + 1)):
        operands = [rng.choice(values[-reach:]) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
        names = [f"v{number}.{index}" for index in range(rng.choice((1, 1, 1, 2)))]
        values += graph.add(rng.choice(("Relu", "Sum", "MatMul", "Reshape")), operands, names)
    graph.set_outputs(value for value in values if not value.uses or rng.random() < 0.05)
    return graph


def random_clusters(graph: Graph, rng: random.Random, *, partly: bool = False) -> None:
    """Give each op any cluster at all; `partly` leaves some without."""
    numbers = rng.sample(range(9), rng.randrange(1, 5))
    for op in graph.ops:
        op.cluster = None if partly and rng.random() < 0.3 else rng.choice(numbers)


@dataclass(frozen=True)
class RandomCosts(Costs):
    """Costs drawn per value from `choices`; a clone costs what its original costs.

    Where messages are `busy`, sending, receiving and starting a segment occupy workers.
    """

    name: ClassVar[str] = "random"
    seed: int = 0
    choices: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 2.0, 3.5, 10.0)
    edges: tuple[float, ...] = (0.0, 1.0, 1.0, 2.5, 20.0)
    busy: bool = False

    def _draw(self, text: str, choices: tuple[_T, ...]) -> _T:
        return choices[zlib.crc32(f"{self.seed} {text}".encode()) % len(choices)]

    def estimate_op(self, op: Op, threads: int) -> float:
        name = _original(op.label)
        scales = self._draw(f"threads {name}", (False, True))
        return self._draw(f"op {name}", self.choices) / (threads if scales else 1)

    def estimate_edge(self, value: Value) -> float:
        return self._draw(f"edge {_original(value.name)}", self.edges)

    def estimate_send(self, value: Value) -> float:
        return self._draw(f"send {_original(value.name)}", (0.0, 0.5, 3.0)) * self.busy

    def estimate_receive(self, value: Value) -> float:
        return self._draw(f"receive {_original(value.name)}", (0.0, 0.25, 2.0)) * self.busy

    def estimate_segment(self) -> float:
        return self._draw("segment", (0.0, 1.5)) * self.busy


def _original(name: str) -> str:
    return re.sub(r"(_\d+)+$", "", name)


# Pipelines ----------------------------------------------------------------------------------------

_OPTIONS: dict[str, dict[str, list[Any]]] = {
    "merge": {"max_clusters": [None, 1, 2, 3, 4]},
    "clone": {"growth": [0.0, 0.2, 1.0, 3.0]},
    "fold": {"max_elements": [0, 4, 1 << 26]},
    "gate": {"margin": [0.0, 0.03, 0.5]},
    "refine": {"budget": [100, 2000], "seed": [0, 1]},
}


def random_pass(rng: random.Random, *, graph_passes_only: bool = True) -> Option:
    """A registered pass with random options."""
    while True:
        name = rng.choice(registry.PASSES.names())
        cls = registry.PASSES.find(name)
        if issubclass(cls, Pass) or not graph_passes_only:
            options = {key: rng.choice(values) for key, values in _OPTIONS.get(name, {}).items()}
            made = cls(**options)
            assert isinstance(made, Option)
            return made


def random_pipeline(rng: random.Random, length: int = 5) -> list[Option]:
    """Up to `length` registered passes, graph passes before plan passes."""
    steps = [random_pass(rng, graph_passes_only=False) for _ in range(rng.randrange(length + 1))]
    return sorted(steps, key=lambda step: not isinstance(step, Pass))


def spec(steps: list[Option]) -> str:
    """The pipeline string of some passes."""
    return ",".join(map(str, steps))
