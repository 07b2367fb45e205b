"""The IR: a `Graph` of `Op`s over `Value`s, each with a `Type`.

    Graph    inputs, weights, ops in topological order, outputs; a region is a Graph in an Op
    Op       one computation: operands, results, attributes, regions (of If, Loop and Scan)
    Value    a tensor, sequence or optional with exactly one producer and an ordered use-list
    Type     element type and shape, as far as they are known (in types.py)

Values and ops compare by identity. Everything that may end up printed is kept in order. What a
graph must obey stands in laws.py; printer.py prints it and parser.py reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ramiel_ir.errors import ModelError
from ramiel_ir.types import Array, Attribute, AttributeKind, Dim, DType, Tensor, Type

__all__ = [
    "Array",
    "Attribute",
    "AttributeKind",
    "DType",
    "Dim",
    "Graph",
    "Names",
    "Op",
    "Tensor",
    "Type",
    "Use",
    "Value",
    "clone_op",
]


class Use(NamedTuple):
    """Where a value is read: operand `position` of an op, or output `position` of a graph."""

    user: Op | Graph
    position: int


class Value:
    """A value with exactly one producer: an op, or the graph whose input or weight it is."""

    __slots__ = ("name", "producer", "type", "uses", "weight")

    def __init__(self, name: str, type: Type | None = None, weight: Tensor | None = None) -> None:
        self.name = name
        self.type = type if weight is None else weight.type
        self.weight = weight
        self.producer: Op | Graph | None = None
        self.uses: dict[Use, None] = {}

    def __repr__(self) -> str:
        return f"%{self.name}"

    @property
    def op(self) -> Op | None:
        """The op that produces it, None for an input or a weight."""
        return self.producer if isinstance(self.producer, Op) else None

    @property
    def graph(self) -> Graph | None:
        """The graph it is defined in."""
        return self.producer.graph if isinstance(self.producer, Op) else self.producer

    def users(self) -> list[Op]:
        """The ops of its own graph that read it, in order of first use, each once.

        A use inside a region counts as a use by the op that owns the region.
        """
        home = self.graph
        found: dict[Op, None] = {}
        for user, _ in self.uses:
            op = user.owner if isinstance(user, Graph) else user
            while op is not None and op.graph is not home:
                op = op.graph.owner if op.graph is not None else None
            if op is not None:
                found[op] = None
        return list(found)

    @property
    def is_output(self) -> bool:
        """Whether its own graph returns it."""
        return any(user is self.graph for user, _ in self.uses)

    def replace_all_uses(self, other: Value) -> None:
        """Let every reader of this value read `other` instead."""
        for user, index in list(self.uses):
            if isinstance(user, Op):
                user.set_operand(index, other)
            else:
                user.set_output(index, other)


_RANDOM = frozenset(
    [
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "BiasDropout",
        "DropoutGrad",
        "BitmaskDropout",
        "BitmaskBiasDropout",
        "Sampling",
    ]
)
_PURE_DOMAINS = (
    "",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
)


class Op:
    """One computation. Operands and results may be absent (None); the order of both is meaning."""

    __slots__ = (
        "_operands",
        "attributes",
        "cluster",
        "domain",
        "graph",
        "kind",
        "name",
        "regions",
        "results",
    )

    def __init__(
        self,
        kind: str,
        operands: Iterable[Value | None],
        results: Iterable[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        regions: Mapping[str, Graph] | None = None,
        cluster: int | None = None,
        name: str = "",
    ) -> None:
        self.kind = kind
        self.domain = domain
        self.name = name
        self.cluster = cluster
        self.graph: Graph | None = None
        self.attributes = {key: Attribute.of(attr) for key, attr in (attributes or {}).items()}
        self._operands: list[Value | None] = []
        self.results = tuple(results)
        self.regions = dict(regions or {})
        for value in operands:
            self._operands.append(None)
            self.set_operand(len(self._operands) - 1, value)
        for result in self.results:
            if result is not None:
                if result.producer is not None:
                    raise ModelError(f"{result} already has a producer")
                result.producer = self
        for region in self.regions.values():
            region.owner = self

    def __repr__(self) -> str:
        return f"{self.label} = {self.qualified_kind}"

    @property
    def label(self) -> str:
        """How messages name the op: its first result."""
        return next((f"%{result.name}" for result in self.results if result is not None), "_")

    @property
    def qualified_kind(self) -> str:
        """The op kind, with its domain in front where that is not ONNX's own."""
        return f"{self.domain}.{self.kind}" if self.domain else self.kind

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """The values it reads, by position."""
        return tuple(self._operands)

    def set_operand(self, index: int, value: Value | None) -> None:
        """Let operand `index` read `value`."""
        old = self._operands[index]
        if old is not None:
            del old.uses[Use(self, index)]
        self._operands[index] = value
        if value is not None:
            value.uses[Use(self, index)] = None

    def operand(self, index: int) -> Value | None:
        """Operand `index`, None where it is absent or left out at the end."""
        return self._operands[index] if index < len(self._operands) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or the default."""
        return self.attributes[name].value if name in self.attributes else default

    def replace_reads(self, old: Value, new: Value) -> None:
        """Let this op and its regions read `new` wherever they read `old`."""
        for user, index in list(old.uses):
            inside = user if isinstance(user, Op) else user.owner
            while inside is not None and inside is not self and inside.graph is not None:
                inside = inside.graph.owner
            if inside is not self:
                continue
            if isinstance(user, Op):
                user.set_operand(index, new)
            else:
                user.set_output(index, new)

    @property
    def captures(self) -> list[Value]:
        """The outer values its regions read, in order of first use, each once."""
        found: dict[Value, None] = {}
        for region in self.regions.values():
            for value in region.captures:
                if value.graph is not self.graph or value.op is not self:
                    found[value] = None
        return list(found)

    @property
    def reads(self) -> list[Value]:
        """Operands and captures, each once, in order."""
        found = dict.fromkeys(value for value in self._operands if value is not None)
        if self.regions:
            found.update(dict.fromkeys(self.captures))
        return list(found)

    @property
    def writes(self) -> list[Value]:
        """The results that are present."""
        return [result for result in self.results if result is not None]

    @property
    def pure(self) -> bool:
        """Whether running it twice, or at compile time, gives the same: not random, not stateful.

        Ops of domains we know nothing about are not pure.
        """
        if self.kind in _RANDOM or self.domain not in _PURE_DOMAINS:
            return False
        if self.kind == "Dropout" and self.domain == "" and self.operand(2) is not None:
            training = self.operand(2)
            assert training is not None
            if training.weight is None or training.weight.is_detached:
                return False
            if bool(training.weight.array.reshape(-1)[0]):
                return False
        return all(op.pure for region in self.regions.values() for op in region.ops)


class Graph:
    """Inputs, weights, ops in topological order, outputs. Inside an op it is a region.

    `opsets` (domain to version) and `metadata` belong to the outermost graph; regions share them.
    """

    __slots__ = ("_opsets", "_outputs", "inputs", "metadata", "name", "ops", "owner", "weights")

    def __init__(
        self,
        name: str = "graph",
        inputs: Iterable[Value] = (),
        *,
        opsets: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.owner: Op | None = None
        self.inputs: list[Value] = []
        self.weights: list[Value] = []
        self.ops: list[Op] = []
        self.metadata: dict[str, str] = {}
        self._outputs: list[Value] = []
        self._opsets = dict(opsets or {})
        for value in inputs:
            self.add_input(value)

    def __repr__(self) -> str:
        return f"graph @{self.name} ({len(self.ops)} ops)"

    @property
    def opsets(self) -> dict[str, int]:
        """Version of the op set per domain; "" is ONNX's own."""
        root = self
        while root.owner is not None and root.owner.graph is not None:
            root = root.owner.graph
        return root._opsets

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values it returns; the same value may stand there twice."""
        return tuple(self._outputs)

    def set_output(self, index: int, value: Value) -> None:
        """Return `value` as output `index`; an index one past the end appends."""
        if index == len(self._outputs):
            self._outputs.append(value)
        else:
            del self._outputs[index].uses[Use(self, index)]
            self._outputs[index] = value
        value.uses[Use(self, index)] = None

    def set_outputs(self, values: Iterable[Value]) -> None:
        """Return exactly `values`."""
        for index, value in enumerate(self._outputs):
            del value.uses[Use(self, index)]
        self._outputs = []
        for index, value in enumerate(values):
            self.set_output(index, value)

    def add_input(self, value: Value) -> Value:
        """Append an input."""
        value.producer = self
        self.inputs.append(value)
        return value

    def add_weight(self, name: str, tensor: Tensor) -> Value:
        """Append a constant and return its value."""
        value = Value(name, weight=tensor)
        value.producer = self
        self.weights.append(value)
        return value

    def append(self, op: Op) -> Op:
        """Add an op at the end."""
        op.graph = self
        self.ops.append(op)
        return op

    def add(
        self,
        kind: str,
        operands: Iterable[Value | None],
        results: str | Sequence[str],
        types: Type | Sequence[Type | None] | None = None,
        **attributes: Any,
    ) -> Any:
        """Append an op of ONNX's own domain by result names; return its result, or its results."""
        names = [results] if isinstance(results, str) else list(results)
        given = list(types) if isinstance(types, Sequence) else [types] * len(names)
        values = [
            Value(name, type) if name else None for name, type in zip(names, given, strict=True)
        ]
        self.append(Op(kind, operands, values, attributes))
        return values[0] if isinstance(results, str) else tuple(values)

    def reorder(self, ops: Sequence[Op]) -> None:
        """Give the ops another order. They must be the same ops."""
        assert len(ops) == len(self.ops) and set(ops) == set(self.ops)
        self.ops = list(ops)

    def replace(self, replacements: Mapping[Op, Op]) -> None:
        """Put new ops in the places of old ones; each result takes over the uses of its like."""
        for old, new in replacements.items():
            for before, after in zip(old.results, new.results, strict=True):
                if before is not None and after is not None:
                    before.replace_all_uses(after)
            new.graph = self
        places = [replacements.get(op, op) for op in self.ops]
        self.erase(*replacements)
        self.ops = places

    def erase(self, *ops: Op) -> None:
        """Remove ops that nobody reads. Raises `ModelError` for one that still has uses."""
        going = set(ops)
        for op in sorted(ops, key=self._positions().__getitem__, reverse=True):
            for result in op.writes:
                if result.uses:
                    raise ModelError(f"{op} cannot be erased: {result} still has uses")
            for index in range(len(op.operands)):
                op.set_operand(index, None)
            for region in op.regions.values():
                region._drop_uses()
            op.graph = None
        self.ops = [op for op in self.ops if op not in going]

    def splice(self, op: Op, body: Graph, names: Names) -> list[Op]:
        """Put copies of the ops of `body` in the place of `op`; return them.

        Inputs of `body` stand for what `op` reads, by name, its outputs for the results that
        are present, in order. Results keep their names, and the copies the cluster of `op`; all
        other values get names from `names`, which knows the outermost graph.
        """
        given = {value.name: value for value in op.reads}
        copies = {value: given[value.name] for value in body.inputs}
        for value in body.weights:
            assert value.weight is not None
            copies[value] = self.add_weight(names.fresh(value.name), value.weight)
        ops = [clone_op(inner, copies) for inner in body.ops]
        made = {value: None for copy in ops for value in copy.writes}
        for result, output in zip(op.writes, body.outputs, strict=True):
            new = copies[output]
            if new not in made:  # an operand, a constant, or what another result already is
                new = Value(names.fresh(result.name), result.type)
                ops.append(Op("Identity", [copies[output]], [new]))
            made.pop(new, None)
            result.replace_all_uses(new)
            new.type = result.type or new.type
            result.name, new.name = names.fresh(result.name), result.name
        for copy in ops:
            copy.graph, copy.cluster = self, op.cluster
            for region in copy.regions.values():
                made.update((value, None) for value in region.values())
        for value in made:
            value.name = names.fresh(value.name)
        place = self.ops.index(op)
        self.ops[place:place] = ops
        self.erase(op)
        return ops

    def erase_weights(self, values: Iterable[Value]) -> None:
        """Remove weights that nobody reads."""
        going = set(values)
        for value in going:
            if value.uses:
                raise ModelError(f"{value} cannot be erased: it still has uses")
        self.weights = [value for value in self.weights if value not in going]

    def _positions(self) -> dict[Op, int]:
        return {op: index for index, op in enumerate(self.ops)}

    def _drop_uses(self) -> None:
        self.set_outputs(())
        for op in self.ops:
            for index in range(len(op.operands)):
                op.set_operand(index, None)
            for region in op.regions.values():
                region._drop_uses()

    @property
    def captures(self) -> list[Value]:
        """The values of enclosing graphs that it reads, in order of first use, each once."""
        own: set[Value] = {*self.inputs, *self.weights}
        found: dict[Value, None] = {}
        for op in self.ops:
            found.update((value, None) for value in op.reads if value not in own)
            own.update(op.writes)
        found.update((value, None) for value in self._outputs if value not in own)
        return list(found)

    def walk(self) -> Iterator[Op]:
        """Every op, those inside regions included, outer before inner."""
        for op in self.ops:
            yield op
            for region in op.regions.values():
                yield from region.walk()

    def values(self) -> Iterator[Value]:
        """Every value defined here or in a region."""
        yield from self.inputs
        yield from self.weights
        for op in self.ops:
            yield from op.writes
            for region in op.regions.values():
                yield from region.values()

    @property
    def clusters(self) -> dict[int, list[Op]]:
        """The ops of each cluster in graph order, by cluster number; ops without one left out."""
        found: dict[int, list[Op]] = {}
        for op in self.ops:
            if op.cluster is not None:
                found.setdefault(op.cluster, []).append(op)
        return dict(sorted(found.items()))

    def clone(self) -> Graph:
        """A deep copy that shares only the constant data."""
        return self._clone({})

    def _clone(self, copies: dict[Value, Value]) -> Graph:
        graph = Graph(self.name, opsets=self._opsets)
        graph.metadata = dict(self.metadata)
        for value in self.inputs:
            copies[value] = graph.add_input(Value(value.name, value.type))
        for value in self.weights:
            assert value.weight is not None
            copies[value] = graph.add_weight(value.name, value.weight)
        for op in self.ops:
            copies_of_op = clone_op(op, copies)
            graph.append(copies_of_op)
        graph.set_outputs(copies.get(value, value) for value in self._outputs)
        return graph


def clone_op(op: Op, copies: dict[Value, Value]) -> Op:
    """A copy of `op` that reads `copies` of its operands where there are some.

    Records the copies of its results in `copies`. Regions are copied with it.
    """
    results = [result and Value(result.name, result.type) for result in op.results]
    for old, new in zip(op.results, results, strict=True):
        if old is not None and new is not None:
            copies[old] = new
    return Op(
        op.kind,
        [value and copies.get(value, value) for value in op.operands],
        results,
        op.attributes,
        domain=op.domain,
        regions={name: region._clone(copies) for name, region in op.regions.items()},
        cluster=op.cluster,
        name=op.name,
    )


@dataclass
class Names:
    """Gives out value names that the graph does not have yet."""

    graph: Graph
    _taken: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._taken = {value.name for value in self.graph.values()}

    def fresh(self, hint: str) -> str:
        """`hint` itself, or `hint` with the first free number behind it."""
        name, number = hint, 0
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._taken.add(name)
        return name
