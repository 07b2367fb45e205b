"""How rows of several families write calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ramiel_backends.torch.table import Site, literal

Option = tuple[Any, Any]
"""The value of a keyword argument and the default it is left out for."""


def call(function: str, *operands: str, **options: Option) -> str:
    """A call of `function` without absent operands at the end and without options at default."""
    arguments = list(operands)
    while arguments and arguments[-1] == "None":
        arguments.pop()
    for name, (value, default) in options.items():
        text = literal(value)
        if text != literal(default):
            arguments.append(f"{name}={text}")
    return f"{function}({', '.join(arguments)})"


def every(site: Site) -> tuple[str, ...]:
    """The expressions of all operands, `None` for absent ones."""
    return tuple(site[index] for index in range(len(site.expressions)))


def results(site: Site, expression: str, total: int) -> str:
    """As many of the `total` results that `expression` has as the op lists."""
    count = len(site.op.results)
    if count == 1:
        return f"{expression}[0]"
    return expression if count == total else f"{expression}[:{count}]"


def merged(values: Sequence[int]) -> int | tuple[int, ...]:
    """One number where all are equal, as torch accepts it for all axes."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def sizes(site: Site, index: int) -> tuple[int | None, ...] | None:
    """The dimensions of operand `index`, None for those that are not known numbers."""
    type = site.type(index)
    if type is None or type.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in type.shape)


def numbers(site: Site, index: int) -> tuple[int | float, ...] | None:
    """The numbers in operand `index`, flattened, where it is known now."""
    array = site.constant(index)
    return None if array is None else tuple(array.reshape(-1).tolist())
