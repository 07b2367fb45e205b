"""From ops to statements: looks rows up in the table, and names what they read and assign."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from ramiel_backends.torch import layout
from ramiel_backends.torch.names import Namespace
from ramiel_backends.torch.statements import Assign, Statement
from ramiel_backends.torch.table import TABLE, Site
from ramiel_ir.errors import RamielError
from ramiel_ir.ir import Op, Value
from ramiel_ir.pipeline import No

REGIONS = ("If", "Loop", "Scan")
"""The ops that become Python statements instead of a row's expression."""


def is_region_op(op: Op) -> bool:
    """Whether the op becomes a Python statement."""
    return op.domain == "" and op.kind in REGIONS


def write_row(op: Op, expressions: tuple[str | None, ...]) -> str | No:
    """The expression of the op's row over these operands, or why there is none.

    Rows trust the model; one that fails on a model that is wrong says so by raising.
    """
    version = op.graph.opsets.get(op.domain, 1) if op.graph is not None else 1
    row = TABLE.find(op.domain, op.kind, version)
    if row is None:
        return No("there is no row for it")
    try:
        return row.emit(Site(op, expressions, version))
    except Exception as error:
        return No(f"its attributes or types do not fit: {type(error).__name__}: {error!a}")


@dataclass
class Translator:
    """Writes ops as statements in one generated file.

    A weight has one name in the whole file, which is its key; any other value one per sample.
    """

    names: Namespace
    samples: int = 1
    weights: dict[Value, str] = field(default_factory=dict)
    _values: dict[tuple[Value, int], str] = field(default_factory=dict)

    def name(self, value: Value, sample: int) -> str:
        """The identifier of a value."""
        if value.weight is not None:
            if value not in self.weights:
                self.weights[value] = self.names.name(_readable(value))
            return self.weights[value]
        if (value, sample) not in self._values:
            suffix = f"_s{sample}" if self.samples > 1 else ""
            self._values[value, sample] = self.names.name(f"{_readable(value)}{suffix}")
        return self._values[value, sample]

    def bind(self, value: Value, sample: int, name: str) -> None:
        """Let `value` go by the name of another one from here on."""
        self._values[value, sample] = name

    def op(self, op: Op, sample: int) -> list[Statement]:
        """The statements that compute the op's results. Raises `RamielError` without a row."""
        operands = tuple(
            None if value is None else self.name(value, sample) for value in op.operands
        )
        source = write_row(op, operands)
        if isinstance(source, No):
            raise RamielError(f"the torch backend cannot emit {op}: {source.reason}")
        targets = tuple("_" if value is None else self.name(value, sample) for value in op.results)
        return [Assign(targets, parse_row(op, source))]


def parse_row(op: Op, source: str) -> ast.expr:
    """The expression a row wrote. Raises `RamielError` where it is none."""
    try:
        return layout.parse(source)
    except (SyntaxError, ValueError) as error:
        raise RamielError(f"the row of {op.qualified_kind!a} writes no expression") from error


def _readable(value: Value) -> str:
    """The value's name; where that is a bare number, with the op's kind before it."""
    if value.op is not None and value.name[:1].isdigit():
        return f"{value.op.kind}_{value.name}"
    return value.name
