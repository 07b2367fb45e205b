"""Arithmetic on numbers and bits, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import (
    FLOATS,
    INTEGERS,
    computable,
    one_number,
    scalar,
    torch_type,
    typed,
)
from ramiel_backends.torch.table import TABLE, Row, Site, emits, literal, row


def binary(kind: str, template: str, otherwise: str, *, since: int = 1) -> None:
    """Add a row for an op of two operands that broadcast, for types with and without kernels."""

    def emit(site: Site) -> str:
        x, y = broadcast(site)
        if not computable(site):
            return otherwise.format(x, y)
        return template.format(x, y)

    TABLE.add(Row(kind, "", since, emit))


def broadcast(site: Site) -> tuple[str, str]:
    """Both operands, ready to broadcast: before opset 7 an axis may place the second."""
    if site.version >= 7 or "axis" not in site.op.attributes:
        return scalar(site, 0, 1), scalar(site, 1, 0)
    axis, ranks = site.attribute("axis"), (site.rank(0), site.rank(1))
    if ranks[0] is None or ranks[1] is None:
        return site[0], f"tensor.align({site[1]}, {site[0]}, {axis})"
    behind = ranks[0] - ranks[1] - axis % ranks[0] if ranks[0] else 0
    return site[0], site[1] + (f"[..., {', '.join(['None'] * behind)}]" if behind else "")


binary("Add", "{0} + {1}", "arithmetic.add({0}, {1})")
binary("BitwiseAnd", "{0} & {1}", "{0} & {1}")
binary("BitwiseOr", "{0} | {1}", "{0} | {1}")
binary("BitwiseXor", "{0} ^ {1}", "{0} ^ {1}")
binary("Mul", "{0} * {1}", "{0} * {1}")
binary("Sub", "{0} - {1}", "arithmetic.subtract({0}, {1})")

typed("Abs", "torch.abs({0})", "arithmetic.absolute({0})")
typed("BitwiseNot", "~{0}", "arithmetic.invert({0})")
row("Ceil", "torch.ceil({0})")
row("Floor", "torch.floor({0})")
row("Neg", "-{0}")
row("Reciprocal", "torch.reciprocal({0})")
row("Round", "torch.round({0})")


@emits("Sign")
def sign(site: Site) -> str:
    known = site.dtype(0) in INTEGERS and computable(site)
    return f"{'torch' if known else 'arithmetic'}.sign({site[0]})"


@emits("Div")
def div(site: Site) -> str:
    x, y = broadcast(site)
    if site.dtype(0) in FLOATS and x != site[0]:
        # torch computes a number / a tensor as a product with the reciprocal, which may overflow
        return f"torch.div({x}, {y})"
    if site.dtype(0) in FLOATS:
        return f"{x} / {y}"
    if site.dtype(0) in INTEGERS and computable(site):
        return f'torch.div({x}, {y}, rounding_mode="trunc")'
    return f"arithmetic.divide({x}, {y})"


@emits("Mod")
def mod(site: Site) -> str:
    function = "fmod" if site.attribute("fmod", 0) else "remainder"
    known = site.dtype(0) in FLOATS or one_number(site.constant(1))
    if known and computable(site):
        return f"torch.{function}({site[0]}, {scalar(site, 1, 0)})"
    return f"arithmetic.{function}({site[0]}, {site[1]})"


@emits("Pow")
def power(site: Site) -> str:
    base, exponent = site.dtype(0), site.dtype(1)
    if not (computable(site, 0) and computable(site, 1)):
        return f"arithmetic.power({site[0]}, {site[1]})"
    x, y = broadcast(site)
    if base != exponent:
        x, y = site[0], site[1]
        value = one_number(site.constant(1))
        if value is not None and base in FLOATS and (site.rank(0) or 0) >= (site.rank(1) or 0):
            y = literal(value)
        elif not (base in FLOATS and exponent in INTEGERS):
            cast = f".to({torch_type(base)})" if base is not None else ""
            return f"torch.pow({x}, {y}){cast}"
    return f"torch.pow({x}, {y})"


@emits("BitShift")
def bit_shift(site: Site) -> str:
    side = "left" if site.attribute("direction") == "LEFT" else "right"
    bits = one_number(site.constant(1))
    dtype = site.dtype(0)
    if bits is not None and dtype is not None and computable(site) and 0 <= bits < dtype.bits:
        return f"torch.bitwise_{side}_shift({site[0]}, {scalar(site, 1, 0)})"
    return f"arithmetic.shift_{side}({site[0]}, {site[1]})"


@emits("Sum")
def total(site: Site) -> str:
    return _folded("({} + {})".format, site.given)


@emits("Mean")
def mean(site: Site) -> str:
    if len(site.given) == 1:
        return site[0]
    return f"{total(site)} / {len(site.given)}"


@emits("Max")
def maximum(site: Site) -> str:
    return _extreme(site, "maximum")


@emits("Min")
def minimum(site: Site) -> str:
    return _extreme(site, "minimum")


def _extreme(site: Site, function: str) -> str:
    owner = "torch" if computable(site) else "arithmetic"
    return _folded(f"{owner}.{function}({{}}, {{}})".format, site.given)


def _folded(join: Callable[[str, str], str], parts: list[str]) -> str:
    """All parts joined in pairs, then the pairs: Python refuses to nest hundreds of calls."""
    if len(parts) == 1:
        return parts[0]
    middle = (len(parts) + 1) // 2
    return join(_folded(join, parts[:middle]), _folded(join, parts[middle:]))


@emits("Clip")
def clip_attributes(site: Site) -> str:
    low, high = site.attribute("min"), site.attribute("max")
    low = None if low is None or low <= -3.4e38 else low
    high = None if high is None or high >= 3.4e38 else high
    if low is None and high is None:
        return site[0]
    return call("torch.clamp", site[0], min=(low, None), max=(high, None))


@emits("Clip", since=11)
def clip(site: Site) -> str:
    if not (site.has(1) or site.has(2)):
        return site[0]
    limits = [one_number(site.constant(i)) if site.has(i) else None for i in (1, 2)]
    texts = [site[i + 1] if limit is None else literal(limit) for i, limit in enumerate(limits)]
    numbers = sum(limit is not None for limit in limits)
    if not computable(site):
        return f"arithmetic.clip({site[0]}, {site[1]}, {site[2]})"
    if 0 < numbers < site.has(1) + site.has(2):  # torch takes two numbers or two tensors
        texts = [site[1], site[2]]
    if not site.has(2):
        return f"torch.clamp({site[0]}, {texts[0]})"
    return f"torch.clamp({site[0]}, {'max=' if not site.has(1) else texts[0] + ', '}{texts[1]})"
