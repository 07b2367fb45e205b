"""Reductions: sums, means, extremes, norms along axes, and running sums."""

from __future__ import annotations

from functools import partial

from ramiel_backends.torch.families._calls import call, sizes
from ramiel_backends.torch.families._types import (
    FLOATS,
    computable,
    constant_number,
    one_number,
    torch_type,
)
from ramiel_backends.torch.table import TABLE, Row, Site, emits, literal
from ramiel_ir.ir import DType

Axes = tuple[int, ...] | None
"""The axes to reduce, None for all."""

_DIRECT = {
    "ReduceMax": "torch.amax({x}, {axes}{keep})",
    "ReduceMean": "torch.mean({x}, {axes}{keep})",
    "ReduceMin": "torch.amin({x}, {axes}{keep})",
    "ReduceSum": "torch.sum({x}, {axes}{keep})",
    "ReduceL1": "torch.sum(torch.abs({x}), {axes}{keep})",
    "ReduceL2": "torch.linalg.vector_norm({x}, 2, {axes}{keep})",
    "ReduceLogSum": "torch.log(torch.sum({x}, {axes}{keep}))",
    "ReduceLogSumExp": "torch.logsumexp({x}, {axes}{keep})",
    "ReduceSumSquare": "torch.sum(torch.square({x}), {axes}{keep})",
}
_LIBRARY = {
    "ReduceMax": "maximum",
    "ReduceMean": "mean",
    "ReduceMin": "minimum",
    "ReduceProd": "product",
    "ReduceSum": "total",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "log_sum",
    "ReduceLogSumExp": "log_sum_exp",
    "ReduceSumSquare": "sum_square",
}
_AXES_ARE_AN_OPERAND = {"ReduceSum": 13}


def _reduce(kind: str, site: Site) -> str:
    keep = bool(site.attribute("keepdims", 1))
    if site.version < _AXES_ARE_AN_OPERAND.get(kind, 18):
        axes, known = site.attribute("axes"), True
    else:
        constant = site.constant(1)
        axes = None if constant is None else tuple(int(axis) for axis in constant.reshape(-1))
        known = axes is not None or not site.has(1)
    noop = bool(site.attribute("noop_with_empty_axes", 0))
    if known and _is_direct(kind, site, axes or None) and (axes or not noop):
        keeping = ", keepdim=True" if keep else ""
        if kind == "ReduceProd":  # torch.prod takes one axis, as a number
            return f"torch.prod({site[0]}, {axes[0] if axes else 0}{keeping})"
        if axes and len(axes) == 1:
            text = literal(axes[0])
        else:
            text = _all(site) if not axes else literal(axes)
        return _DIRECT[kind].format(x=site[0], axes=text, keep=keeping)
    text = literal(axes or None) if known else site[1]
    options = {"keepdims": (keep, True), "noop": (noop, False)}
    function = f"reduce.{_LIBRARY[kind]}"
    return call(function, site[0], text, **options)


def _all(site: Site) -> str:
    rank = site.rank(0)
    return "None" if rank is None else literal(tuple(range(rank)))


def _is_direct(kind: str, site: Site, axes: Axes) -> bool:
    """Whether torch's own function can say it: a float of known, non-empty extent."""
    if site.dtype(0) not in FLOATS:
        return False
    shape = sizes(site, 0)
    if kind in ("ReduceMean", "ReduceSum", "ReduceL1", "ReduceSumSquare", "ReduceLogSum"):
        return bool(shape) and (axes is not None or shape is not None)
    if not shape or (kind == "ReduceProd" and len(axes or shape) != 1):
        return False
    return all(shape[axis] for axis in axes or range(len(shape)))


for _kind in _LIBRARY:
    TABLE.add(Row(_kind, "", 1, partial(_reduce, _kind)))


@emits("ArgMax")
def arg_max(site: Site) -> str:
    return _arg(site, "argmax")


@emits("ArgMin")
def arg_min(site: Site) -> str:
    return _arg(site, "argmin")


def _arg(site: Site, function: str) -> str:
    axis, keep = site.attribute("axis", 0), bool(site.attribute("keepdims", 1))
    last = bool(site.attribute("select_last_index", 0))
    if computable(site) and not last and site.dtype(0) is not DType.BOOL:
        return call(f"torch.{function}", site[0], literal(axis), keepdim=(keep, False))
    owner = f"reduce.{function}"
    return call(owner, site[0], literal(axis), keepdims=(keep, True), last=(last, False))


@emits("CumSum")
def cumulative_sum(site: Site) -> str:
    return _cumulative(site, "cumsum")


@emits("CumProd")
def cumulative_product(site: Site) -> str:
    return _cumulative(site, "cumprod")


def _cumulative(site: Site, function: str) -> str:
    exclusive, reverse = (bool(site.attribute(name, 0)) for name in ("exclusive", "reverse"))
    axis, dtype = constant_number(site, 1), site.dtype(0)
    known = one_number(site.constant(1)) is not None and dtype is not None and computable(site)
    if known and dtype is not None and not exclusive and not reverse:
        cast = "" if dtype in (*FLOATS, DType.I64) else f", dtype={torch_type(dtype)}"
        return f"torch.{function}({site[0]}, {axis}{cast})"
    options = {"exclusive": (exclusive, False), "reverse": (reverse, False)}
    return call(f"reduce.{function}", site[0], axis, **options)
