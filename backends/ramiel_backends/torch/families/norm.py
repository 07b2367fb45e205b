"""Normalizations."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call, every, results, sizes
from ramiel_backends.torch.families._types import FLOATS
from ramiel_backends.torch.table import Site, emits

_EPSILON = 1e-5


def _epsilon(site: Site, default: float | None = _EPSILON) -> tuple[float, float | None]:
    return site.attribute("epsilon", _EPSILON), default


def _same_type(site: Site) -> bool:
    """Whether all operands given are known to have the same type, one torch computes with."""
    found = {site.dtype(index) for index in range(len(site.expressions)) if site.has(index)}
    return len(found) == 1 and found <= set(FLOATS)


def _batch_norm(site: Site, training: bool) -> str:
    x, scale, bias, mean, var = every(site)[:5]
    epsilon = _epsilon(site)
    rank = site.rank(0)
    spatial = site.version >= 9 or bool(site.attribute("spatial", 1))
    if not training and spatial and (rank or 0) >= 2 and _same_type(site):
        return call("F.batch_norm", x, mean, var, scale, bias, eps=epsilon)
    if not training:
        return call("norm.batch_norm", x, scale, bias, mean, var, eps=epsilon)
    expression = call(
        "norm.batch_norm_training",
        *(x, scale, bias, mean, var),
        eps=epsilon,
        momentum=(site.attribute("momentum", 0.9), 0.9),
    )
    return results(site, expression, 5)


@emits("BatchNormalization")
def batch_norm(site: Site) -> str:
    # before version 14 the number of results tells training from inference
    return _batch_norm(site, training=len(site.op.results) > 1)


@emits("BatchNormalization", since=14)
def batch_norm_14(site: Site) -> str:
    return _batch_norm(site, training=bool(site.attribute("training_mode", 0)))


@emits("InstanceNormalization")
def instance_norm(site: Site) -> str:
    x, scale, bias = every(site)
    known = sizes(site, 0)
    spatial = [size for size in known[2:] if size is not None] if known else []
    # torch refuses a single spatial element
    if _same_type(site) and len(spatial) and max(spatial) > 1:
        return call("F.instance_norm", x, f"weight={scale}", f"bias={bias}", eps=_epsilon(site))
    return call("norm.instance_norm", x, scale, bias, eps=_epsilon(site))


def _normalized_shape(site: Site, axis: int) -> tuple[int, ...] | None:
    """The shape over which to normalize, where the scale is known to have exactly it."""
    x, scale = sizes(site, 0), sizes(site, 1)
    if x is None or scale is None or len(scale) != (-axis if axis < 0 else len(x) - axis):
        return None
    shape = []
    for known, size in zip(x[len(x) - len(scale) :], scale, strict=True):
        if size is None or (known != size and (known is not None or size <= 1)):
            return None
        shape.append(size)
    return tuple(shape) or None


def _same_shape(site: Site, left: int, right: int) -> bool:
    known = sizes(site, left)
    return known is not None and None not in known and known == sizes(site, right)


@emits("LayerNormalization", since=1)
def layer_norm(site: Site) -> str:
    axis = site.attribute("axis", -1)
    shape = _normalized_shape(site, axis)
    plain = not site.has(2) or _same_shape(site, 1, 2)
    if shape and plain and len(site.op.results) == 1 and _same_type(site):
        x, *parameters = every(site)
        return call("F.layer_norm", x, str(shape), *parameters, eps=_epsilon(site))
    expression = call("norm.layer_norm", *every(site), axis=(axis, -1), eps=_epsilon(site))
    return results(site, expression, 3)


@emits("GroupNormalization", since=21)
def group_norm(site: Site) -> str:
    x, scale, bias = every(site)
    groups = str(site.attribute("num_groups"))
    known = sizes(site, 0)
    # torch refuses a single element per group
    if _same_type(site) and known and any(size is not None and size > 1 for size in known[2:]):
        return call("F.group_norm", x, groups, scale, bias, eps=_epsilon(site))
    return call("norm.group_norm", x, groups, scale, bias, eps=_epsilon(site))


@emits("GroupNormalization", since=18)
def group_norm_18(site: Site) -> str:
    x, scale, bias = every(site)
    groups = str(site.attribute("num_groups"))
    return call("norm.group_norm_18", x, groups, scale, bias, eps=_epsilon(site))


@emits("RMSNormalization", since=1)
def rms_norm(site: Site) -> str:
    axis = site.attribute("axis", -1)
    shape = _normalized_shape(site, axis)
    epsilon = _epsilon(site, default=None)
    if shape and _same_type(site):
        return call("F.rms_norm", site[0], str(shape), site[1], eps=epsilon)
    return call("norm.rms_norm", *every(site), axis=(axis, -1), eps=_epsilon(site))


@emits("LpNormalization")
def lp_norm(site: Site) -> str:
    options = {"dim": (site.attribute("axis", -1), 1), "p": (site.attribute("p", 2), 2)}
    return call("norm.lp_norm", site[0], **options)


@emits("MeanVarianceNormalization")
def mean_variance_norm(site: Site) -> str:
    return call("norm.mean_variance_norm", site[0], axes=(site.attribute("axes", (0, 2, 3)), None))
