"""Shapes: what a tensor's is, and tensors that take another without a change of elements."""

from __future__ import annotations

import math

from ramiel_backends.torch.families._calls import call, sizes
from ramiel_backends.torch.families._types import (
    constant_numbers,
    from_front,
    is_tensor,
    known_shape,
)
from ramiel_backends.torch.table import Site, emits, literal, row

row("Identity", "{0}")


@emits("Shape")
def shape(site: Site) -> str:
    start, end = site.attribute("start", 0), site.attribute("end")
    part = "" if not start and end is None else f"[{start or ''}:{'' if end is None else end}]"
    return f"torch.tensor({site[0]}.shape{part}, dtype=torch.int64)"


@emits("Size")
def size(site: Site) -> str:
    return f"torch.tensor({site[0]}.{'numel()' if is_tensor(site) else 'size'})"


@emits("Reshape")
def reshape_attribute(site: Site) -> str:
    return _reshape(site, tuple(site.attribute("shape", ())))


@emits("Reshape", since=5)
def reshape(site: Site) -> str:
    wanted = site.constant(1)
    if wanted is None:
        allow_zero = (bool(site.attribute("allowzero", 0)), False)
        return call("shape.reshape", site[0], site[1], allow_zero=allow_zero)
    return _reshape(site, tuple(int(dim) for dim in wanted.reshape(-1)))


def _reshape(site: Site, wanted: tuple[int, ...]) -> str:
    keeps = 0 in wanted and not site.attribute("allowzero", 0)
    if not is_tensor(site) or (0 in wanted and -1 in wanted and _may_be_empty(site)):
        allow_zero = (bool(site.attribute("allowzero", 0)), False)
        return call("shape.reshape", site[0], literal(wanted), allow_zero=allow_zero)
    if not keeps:
        return f"{site[0]}.reshape({', '.join(map(str, wanted)) or '()'})"
    known = sizes(site, 0)
    dims: list[str] = []
    for axis, dim in enumerate(wanted):
        found = known[axis] if known is not None and not dim else None
        dims.append(str(found if found is not None else dim or f"{site[0]}.shape[{axis}]"))
    return f"{site[0]}.reshape({', '.join(dims)})"


def _may_be_empty(site: Site) -> bool:
    return 0 in (known_shape(site) or (0,))


@emits("Flatten")
def flatten(site: Site) -> str:
    axis, rank = site.attribute("axis", 1), site.rank(0)
    known = known_shape(site)
    place = from_front(axis, rank)
    if place == 1 and rank is not None and rank >= 2 and is_tensor(site):
        return f"{site[0]}.flatten(1)"
    if known is not None and place is not None and is_tensor(site):
        return f"{site[0]}.reshape({math.prod(known[:place])}, {math.prod(known[place:])})"
    return f"shape.flatten({site[0]}, {axis})"


@emits("Squeeze")
def squeeze_attribute(site: Site) -> str:
    return _squeeze(site, site.attribute("axes"))


@emits("Squeeze", since=13)
def squeeze(site: Site) -> str:
    axes = site.constant(1)
    if site.has(1) and axes is None:
        return f"shape.squeeze({site[0]}, {site[1]})"
    return _squeeze(site, None if axes is None else tuple(int(axis) for axis in axes.reshape(-1)))


def _squeeze(site: Site, axes: tuple[int, ...] | None) -> str:
    if not is_tensor(site):
        return call("shape.squeeze", site[0], literal(axes))
    if axes is None:
        return f"{site[0]}.squeeze()"
    return f"{site[0]}.squeeze({literal(axes[0] if len(axes) == 1 else axes)})"


@emits("Unsqueeze")
def unsqueeze_attribute(site: Site) -> str:
    return _unsqueeze(site, site.attribute("axes"))


@emits("Unsqueeze", since=13)
def unsqueeze(site: Site) -> str:
    axes = site.constant(1)
    if axes is None:
        return f"shape.unsqueeze({site[0]}, {site[1]})"
    return _unsqueeze(site, tuple(int(axis) for axis in axes.reshape(-1)))


def _unsqueeze(site: Site, axes: tuple[int, ...]) -> str:
    rank = site.rank(0)
    if len(axes) > 1 and rank is not None:
        axes = tuple(axis % (rank + len(axes)) for axis in axes)
    if not is_tensor(site) or (len(axes) > 1 and min(axes) < 0):
        return f"shape.unsqueeze({site[0]}, {literal(axes)})"
    return site[0] + "".join(f".unsqueeze({axis})" for axis in sorted(axes))


@emits("Transpose")
def transpose(site: Site) -> str:
    order, rank = site.attribute("perm"), site.rank(0)
    if order is None and rank is not None:
        order = tuple(reversed(range(rank)))
    if order is None or not is_tensor(site):
        return call("shape.transpose", site[0], literal(order))
    if order == (1, 0):
        return f"{site[0]}.t()"
    if order == tuple(range(len(order))):
        return site[0]
    return f"{site[0]}.permute({', '.join(map(str, order))})"


@emits("Expand")
def expand(site: Site) -> str:
    wanted, known = site.constant(1), sizes(site, 0)
    if wanted is None or known is None or not is_tensor(site):
        return f"shape.expand({site[0]}, {constant_numbers(site, 1)})"
    dims = [int(dim) for dim in wanted.reshape(-1)]
    dims = [1] * (len(known) - len(dims)) + dims
    fresh = len(dims) - len(known)
    spread = [-1 if dim == 1 and axis >= fresh else dim for axis, dim in enumerate(dims)]
    for axis, extent in enumerate(known):
        if extent == dims[fresh + axis]:
            spread[fresh + axis] = extent
    if not fresh and all(dim == -1 or dim == known[axis] for axis, dim in enumerate(spread)):
        return site[0]
    return f"{site[0]}.expand({', '.join(map(str, spread))})"
