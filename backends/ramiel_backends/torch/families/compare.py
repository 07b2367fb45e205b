"""Comparisons, logic, and choices."""

from __future__ import annotations

from ramiel_backends.torch.families._types import (
    SMALL_FLOATS,
    computable,
    is_tensor,
    scalar,
    typed,
)
from ramiel_backends.torch.families.arithmetic import binary
from ramiel_backends.torch.table import Site, emits, row

binary("And", "{0} & {1}", "{0} & {1}")
binary("Greater", "{0} > {1}", "compare.greater({0}, {1})")
binary("GreaterOrEqual", "{0} >= {1}", "compare.greater_or_equal({0}, {1})")
binary("Less", "{0} < {1}", "compare.less({0}, {1})")
binary("LessOrEqual", "{0} <= {1}", "compare.less_or_equal({0}, {1})")
binary("Or", "{0} | {1}", "{0} | {1}")
binary("Xor", "{0} ^ {1}", "{0} ^ {1}")

typed("IsNaN", "torch.isnan({0})", "compare.is_nan({0})")
row("Not", "~{0}")
binary("Equal", "{0} == {1}", "compare.equal({0}, {1})")


@emits("IsInf")
def is_inf(site: Site) -> str:
    negative, positive = (site.attribute(f"detect_{name}", 1) for name in ("negative", "positive"))
    if not (negative or positive):
        return f"torch.zeros_like({site[0]}, dtype=torch.bool)"
    function = "isinf" if negative and positive else "isposinf" if positive else "isneginf"
    wide = f"{site[0]}.float()" if site.dtype(0) in SMALL_FLOATS else site[0]
    return f"torch.{function}({wide})"


@emits("Where")
def where(site: Site) -> str:
    if not is_tensor(site, 1):
        return f"compare.where({site[0]}, {site[1]}, {site[2]})"
    if not computable(site, 1):
        return f"torch.where({site[0]}, {site[1]}, {site[2]})"
    x, y = scalar(site, 1, 2), scalar(site, 2, 1)
    return f"torch.where({site[0]}, {x}, {y})"
