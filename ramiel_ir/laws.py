"""The laws of the IR: `verify` proves them, `difference` says whether two graphs are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.types import Tensor


def verify(graph: Graph) -> None:
    """Prove the laws of the IR, or raise `ModelError` that names the op or value.

    Each value has one producer and a name of its own, is defined before it is used, and its
    use-list holds exactly its uses; weights agree with their types; clusters are numbers from 0.
    """
    _Verifier().graph(graph)


class _Verifier:
    def __init__(self) -> None:
        self.visible: dict[str, Value] = {}
        self.uses: Counter[Value] = Counter()

    def graph(self, graph: Graph) -> None:
        defined: list[Value] = []

        def define(value: Value, producer: Op | Graph) -> None:
            if value.producer is not producer:
                raise ModelError(f"{producer}: {value} is produced by {value.producer!r} as well")
            if value.name in self.visible:
                raise ModelError(f"{producer}: the name {value} stands for two values")
            if not value.name:
                raise ModelError(f"{producer}: a value has no name")
            self.visible[value.name] = value
            defined.append(value)

        for value in graph.inputs:
            define(value, graph)
        for value in graph.weights:
            define(value, graph)
            if value.weight is None or value.weight.type != value.type:
                raise ModelError(f"weight {value} has another type than its data")
        for op in graph.ops:
            self.op(op, graph)
            for result in op.writes:
                define(result, op)
        for index, value in enumerate(graph.outputs):
            if self.visible.get(value.name) is not value:
                raise ModelError(f"output {value} of @{graph.name} is not defined in it")
            self.use(value, graph, index)
        for value in defined:
            del self.visible[value.name]
        if graph.owner is None:
            for value in graph.values():
                if len(value.uses) != self.uses[value]:
                    raise ModelError(f"the use-list of {value} holds more than its uses")

    def op(self, op: Op, graph: Graph) -> None:
        if op.graph is not graph:
            raise ModelError(f"{op} does not know that it is in @{graph.name}")
        if op.cluster is not None and op.cluster < 0:
            raise ModelError(f"{op} has the cluster {op.cluster}; clusters count from 0")
        for index, value in enumerate(op.operands):
            if value is None:
                continue
            if self.visible.get(value.name) is not value:
                raise ModelError(f"{op} reads {value} before it is defined")
            self.use(value, op, index)
        for region in op.regions.values():
            if region.owner is not op:
                raise ModelError(f"a region of {op} does not know its owner")
            self.graph(region)

    def use(self, value: Value, user: Op | Graph, index: int) -> None:
        if (user, index) not in value.uses:
            raise ModelError(f"the use-list of {value} lacks its use by {user}")
        self.uses[value] += 1


def difference(left: Graph, right: Graph) -> str | None:
    """The first place where two graphs differ in structure, None where they are equal.

    Weights compare by name, type and digest. Node names and constant bytes play no part.
    """
    return _difference(left, right, {})


def _difference(left: Graph, right: Graph, pairs: dict[Value, Value]) -> str | None:
    def differs(what: str, a: Any, b: Any) -> str | None:
        return None if a == b else f"@{left.name}: {what}: {a!r} != {b!r}"

    def declare(a: Value | None, b: Value | None) -> str | None:
        if a is None or b is None:
            return differs("result", a, b)
        pairs[a] = b
        digests = [value.weight and value.weight.digest for value in (a, b)]
        return differs("value", (a.name, a.type, digests[0]), (b.name, b.type, digests[1]))

    def checks() -> Iterator[str | None]:
        yield differs("header", (left.name, left.metadata), (right.name, right.metadata))
        yield differs("opsets", left.opsets, right.opsets)
        for field_name in ("inputs", "weights", "ops", "outputs"):
            counts = len(getattr(left, field_name)), len(getattr(right, field_name))
            yield differs(f"number of {field_name}", *counts)
        for a, b in zip(left.inputs, right.inputs, strict=True):
            yield declare(a, b)
        for a, b in zip(_by_name(left.weights), _by_name(right.weights), strict=True):
            yield declare(a, b)
        for op, other in zip(left.ops, right.ops, strict=True):
            yield differs("op", *((o.qualified_kind, o.cluster) for o in (op, other)))
            yield differs(f"attributes of {op}", *(_comparable(o) for o in (op, other)))
            yield differs(
                f"operands of {op}",
                [value and pairs[value] for value in op.operands],
                list(other.operands),
            )
            yield differs(f"regions of {op}", list(op.regions), list(other.regions))
            for name, region in op.regions.items():
                yield _difference(region, other.regions[name], pairs)
            yield differs(f"number of results of {op}", len(op.results), len(other.results))
            for result, twin in zip(op.results, other.results, strict=True):
                yield declare(result, twin)
        yield differs("outputs", [pairs[value] for value in left.outputs], list(right.outputs))

    return next((found for found in checks() if found is not None), None)


def _by_name(values: Iterable[Value]) -> list[Value]:
    return sorted(values, key=lambda value: value.name)


def _comparable(op: Op) -> list[tuple[str, str, Any]]:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(plain(item) for item in value)
        if isinstance(value, Tensor):
            return (value.type, value.digest)
        return repr(value) if isinstance(value, float) else value  # nan equals nan here

    return sorted((name, attr.kind, plain(attr.value)) for name, attr in op.attributes.items())
