"""Elements taken and put by index, by order, and by condition."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import (
    at_axis,
    computable,
    constant_number,
    is_tensor,
    one_number,
)
from ramiel_backends.torch.table import TABLE, Row, Site, emits, literal

# Gather -------------------------------------------------------------------------------------------


@emits("Gather")
def gather(site: Site) -> str:
    axis, indices = site.attribute("axis", 0), site.constant(1)
    index = site[1]
    if indices is not None and indices.ndim == 0:
        index = literal(one_number(indices))
    direct = at_axis(site[0], axis, index, site.rank(0)) if is_tensor(site) else None
    return direct or f"index.gather({site[0]}, {site[1]}, {axis})"


@emits("GatherElements")
def gather_elements(site: Site) -> str:
    axis, indices = site.attribute("axis", 0), site.constant(1)
    known = indices is not None and indices.size and indices.dtype == "int64" and indices.min() >= 0
    if known and computable(site):
        return f"torch.gather({site[0]}, {axis}, {site[1]})"
    return f"index.gather_elements({site[0]}, {site[1]}, {axis})"


@emits("GatherND")
def gather_nd(site: Site) -> str:
    return call(
        "index.gather_nd", site[0], site[1], batch_dims=(site.attribute("batch_dims", 0), 0)
    )


# Scatter ------------------------------------------------------------------------------------------


def _scatter_elements(site: Site) -> str:
    reduction = (site.attribute("reduction", "none"), "none")
    texts = [site[0], site[1], site[2], str(site.attribute("axis", 0))]
    return call("index.scatter_elements", *texts, reduction=reduction)


TABLE.add(Row("Scatter", "", 9, _scatter_elements))
TABLE.add(Row("ScatterElements", "", 11, _scatter_elements))


@emits("ScatterND")
def scatter_nd(site: Site) -> str:
    reduction = (site.attribute("reduction", "none"), "none")
    return call("index.scatter_nd", site[0], site[1], site[2], reduction=reduction)


@emits("TensorScatter")
def tensor_scatter(site: Site) -> str:
    options = {"axis": (site.attribute("axis", -2), -2)}
    circular = (site.attribute("mode", "linear") == "circular", False)
    return call("index.write_cache", site[0], site[1], site[2], **options, circular=circular)


# Order and condition ------------------------------------------------------------------------------


@emits("TopK")
def top_k_attribute(site: Site) -> str:
    return _top_k(site, str(site.attribute("k")))


@emits("TopK", since=10)
def top_k(site: Site) -> str:
    return _top_k(site, constant_number(site, 1))


def _top_k(site: Site, count: str) -> str:
    largest = (bool(site.attribute("largest", 1)), True)
    axis = str(site.attribute("axis", -1))
    return call("index.top_k", site[0], count, axis, largest=largest)


@emits("NonZero")
def non_zero(site: Site) -> str:
    if computable(site):
        return f"torch.nonzero({site[0]}).t()"
    return f"index.non_zero({site[0]})"


@emits("Compress")
def compress(site: Site) -> str:
    axis = site.attribute("axis")
    return call("index.compress", site[0], site[1], axis=(axis, None))


@emits("Unique")
def unique(site: Site) -> str:
    options = {
        "axis": (site.attribute("axis"), None),
        "in_order": (bool(site.attribute("sorted", 1)), True),
    }
    found = call("index.unique", site[0], **options)
    count = len(site.op.results)
    return f"{found}[0]" if count == 1 else found if count == 4 else f"{found}[:{count}]"


@emits("OneHot")
def one_hot(site: Site) -> str:
    axis = (site.attribute("axis", -1), -1)
    return call("index.one_hot", site[0], constant_number(site, 1), site[2], axis=axis)
