"""The op table of the torch backend: which Python expression computes each ONNX op.

A row is a template, or a short function where a template cannot say it:

    row("Relu", "torch.relu({0})")
    row("LeakyRelu", "F.leaky_relu({0}, {alpha})", alpha=0.01)

    @emits("Softmax", since=13)
    def softmax(site: Site) -> str:
        return f"torch.softmax({site[0]}, {site.attribute('axis', -1)})"

`since` is the first version of the op set in which the row holds; the newest row that is not newer
than the model's op set is taken. Rows stand in the files of `families/`, each for one family. A row
may decline by returning `No(reason)`; the model is then refused before anything is written.

Values at run time are torch tensors. Types torch lacks (strings, integers and floats of less than
8 bits) are numpy arrays, sequences are lists, an empty optional is None. An op with one result is
an expression of that value; an op with several results is an expression of a tuple, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ramiel_ir.ir import Array, DType, Op, Type
from ramiel_ir.pipeline import No

Emit = Callable[["Site"], "str | No"]


# Ops whose result never shares memory with an operand, whatever row writes them.
_ALLOCATING = frozenset(["BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"])


class ModelText(str):
    """Text of the model. Formatted into source it is a literal, whatever it says."""

    def __str__(self) -> str:
        return literal(str.__str__(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


@dataclass(frozen=True)
class Site:
    """One op about to be written: expressions, attributes, and what is known of its operands."""

    op: Op
    expressions: tuple[str | None, ...]
    version: int
    """The model's version of the op set of the op's domain."""

    def __getitem__(self, index: int) -> str:
        """The expression of operand `index`, `"None"` where it is absent."""
        found = self.expressions[index] if index < len(self.expressions) else None
        return "None" if found is None else found

    def has(self, index: int) -> bool:
        """Whether operand `index` is given."""
        return index < len(self.expressions) and self.expressions[index] is not None

    @property
    def given(self) -> list[str]:
        """The expressions of the operands that are present, in order."""
        return [expression for expression in self.expressions if expression is not None]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute: int, float, `ModelText`, bytes, or a tuple of those."""
        return _guarded(self.op.attribute(name, default))

    def constant(self, index: int) -> Array | None:
        """The data of operand `index` where it is known now, None otherwise."""
        value = self.op.operand(index)
        if value is None or value.weight is None or value.weight.is_detached:
            return None
        return value.weight.array

    def type(self, index: int) -> Type | None:
        """What is known of operand `index`."""
        value = self.op.operand(index)
        return None if value is None else value.type

    def dtype(self, index: int) -> DType | None:
        """The element type of operand `index`, None where it is unknown."""
        type = self.type(index)
        return type.element if type is not None and isinstance(type.element, DType) else None

    def rank(self, index: int) -> int | None:
        """The rank of operand `index`, None where it is unknown."""
        type = self.type(index)
        return None if type is None or type.shape is None else len(type.shape)

    def result_type(self, index: int = 0) -> Type | None:
        """What is known of result `index`."""
        results = self.op.results
        value = results[index] if index < len(results) else None
        return None if value is None else value.type

    def reusable(self, index: int) -> bool:
        """Whether the result may overwrite operand `index`.

        That is so when an op of the same cluster made the operand, in memory of its own, and nobody
        else reads it: not another op, not another worker, not the caller.
        """
        value = self.op.operand(index)
        if value is None or value.op is None or len(value.uses) != 1 or value.is_output:
            return False
        maker = value.op
        same_place = maker.graph is self.op.graph and maker.cluster == self.op.cluster
        return same_place and not maker.domain and maker.kind in _ALLOCATING

    def wants(self, index: int) -> bool:
        """Whether the model asks for result `index`."""
        return index < len(self.op.results) and self.op.results[index] is not None


def _guarded(value: Any) -> Any:
    if isinstance(value, str):
        return ModelText(value)
    return type(value)(map(_guarded, value)) if isinstance(value, (tuple, list)) else value


def literal(value: Any) -> str:
    """`value` as Python source: numbers, strings (ASCII only), tuples; nan and inf as calls."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, str):
        text = ascii(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, float):
        return _shortest(value)
    return ascii(value)


def _shortest(value: float) -> str:
    """The shortest decimal that restores the float32 that `value` is, or `value` itself."""
    import numpy as np

    with np.errstate(over="ignore"):
        single = np.float32(value)
    return repr(float(str(single))) if float(single) == value else repr(value)


@dataclass(frozen=True)
class Row:
    """How one op is written from version `since` on."""

    kind: str
    domain: str
    since: int
    emit: Emit


@dataclass
class Table:
    """All rows, by op."""

    rows: dict[tuple[str, str], list[Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add a row; two rows for the same op and version are a mistake."""
        known = self.rows.setdefault((row.domain, row.kind), [])
        if any(other.since == row.since for other in known):
            raise ValueError(f"two rows for {row.domain}.{row.kind} since {row.since}")
        known.append(row)
        known.sort(key=lambda other: other.since)

    def find(self, domain: str, kind: str, version: int) -> Row | None:
        """The row that holds for an op of a model with this op-set version."""
        rows = [row for row in self.rows.get((domain, kind), ()) if row.since <= version]
        return rows[-1] if rows else None


TABLE = Table()


def row(kind: str, template: str, *, since: int = 1, domain: str = "", **defaults: Any) -> None:
    """Add a row that is a template: `{0}` an operand, `{name}` an attribute with its default."""

    def emit(site: Site) -> str:
        known = {name: site.attribute(name, value) for name, value in defaults.items()}
        texts = {name: literal(value) for name, value in known.items()}
        return template.format(*(site[i] for i in range(max(len(site.expressions), 8))), **texts)

    TABLE.add(Row(kind, domain, since, emit))


def emits(kind: str, *, since: int = 1, domain: str = "") -> Callable[[Emit], Emit]:
    """Add a row that is a function from the `Site` to an expression."""

    def register(emit: Emit) -> Emit:
        TABLE.add(Row(kind, domain, since, emit))
        return emit

    return register
