"""Resizing, sampling and boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ramiel_backends.torch.families._calls import call, every, merged, numbers, sizes
from ramiel_backends.torch.families._types import FLOATS
from ramiel_backends.torch.table import Site, emits, literal
from ramiel_ir.pipeline import No

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")


def _resize(
    site: Site,
    roi: int | None,
    scales: int | None,
    target: int | None,
    given: tuple[float, ...] | None = None,
    **options: Any,
) -> str:
    """A resize whose operands are at these places; `given` are scales known as attributes."""
    by_scales = given or (numbers(site, scales) if scales is not None else None) or None
    by_sizes = (numbers(site, target) if target is not None else None) or None
    direct = _interpolate(site, by_scales, by_sizes, options)
    if direct is not None:
        return direct
    operands = [site[0], "None", "None", "None"]
    crops = options.get("coordinates") == "tf_crop_and_resize"
    places = (roi if crops else None, scales, target)
    for place, index in enumerate(places):
        if index is not None and site.has(index):
            known = numbers(site, index)
            operands[place + 1] = site[index] if known is None else literal(known or None)
    if given:
        operands[2] = literal(given)
    defaults = {
        "mode": "nearest",
        "coordinates": "half_pixel",
        "nearest": "round_prefer_floor",
        "cubic_a": -0.75,
        "exclude_outside": False,
        "extrapolation": 0.0,
        "antialias": False,
        "axes": None,
        "policy": "stretch",
    }
    pairs = {name: (options[name], defaults[name]) for name in defaults if name in options}
    return call("vision.resize", *operands, **pairs)


def _interpolate(
    site: Site,
    scales: tuple[float, ...] | None,
    wanted: tuple[float, ...] | None,
    options: dict[str, Any],
) -> str | None:
    """`F.interpolate` where it is known to compute the same."""
    rank, shape = site.rank(0), sizes(site, 0)
    plain = site.dtype(0) in FLOATS and rank in _LINEAR and options.get("policy") != "not_larger"
    if not plain or options.get("antialias") or options.get("policy") == "not_smaller":
        return None
    assert rank is not None
    axes = [axis % rank for axis in options.get("axes") or range(rank)]
    factors, after = [1.0] * rank, list(shape or (None,) * rank)
    for place, axis in enumerate(axes):
        if scales:
            factors[axis] = scales[place]
            after[axis] = None
        elif wanted:
            before = shape[axis] if shape else None
            if before is None:
                if axis < 2:
                    return None
                factors[axis] = 0.0
            else:
                factors[axis] = wanted[place] / before
            after[axis] = int(wanted[place])
    if factors[:2] != [1.0, 1.0] or not (scales or wanted):
        return None
    whole = all(factor >= 1 and factor == int(factor) for factor in factors)
    mode, found = options.get("mode", "nearest"), options.get("coordinates", "half_pixel")
    if mode == "nearest":
        if not whole or not _repeats(factors, found, options.get("nearest", "round_prefer_floor")):
            return None
        size = f"scale_factor={literal(merged([int(factor) for factor in factors[2:]]))}"
        return f"F.interpolate({site[0]}, {size})"
    if mode == "cubic":
        same = rank == 4 and np.float32(options.get("cubic_a", -0.75)) == np.float32(-0.75)
        if not same or options.get("exclude_outside"):
            return None
    elif options.get("exclude_outside"):
        return None
    half = found == "half_pixel" or (whole and found in _HALF_PIXEL)
    if found == "pytorch_half_pixel" and wanted and None not in after and min(after[2:]) > 1:
        half = True
    if not half and found != "align_corners":
        return None
    if wanted and None not in after[2:]:
        size = f"size={literal(tuple(after[2:]))}"
    elif whole:
        size = f"scale_factor={literal(merged([int(factor) for factor in factors[2:]]))}"
    else:
        return None
    kind = "bicubic" if mode == "cubic" else _LINEAR[rank]
    corners = ", align_corners=True" if found == "align_corners" else ""
    return f'F.interpolate({site[0]}, {size}, mode="{kind}"{corners})'


def _repeats(factors: list[float], coordinates: str, nearest: str) -> bool:
    """Whether nearest resizing by these whole factors only repeats each element."""
    if max(factors) > 4 and any(int(factor) & (int(factor) - 1) for factor in factors):
        return False  # torch's rounding is exact for these and powers of two
    if coordinates in _HALF_PIXEL:
        return nearest.startswith("round")
    if coordinates != "asymmetric":
        return False
    return nearest == "floor" or (nearest == "round_prefer_floor" and max(factors) <= 2)


@emits("Upsample")
def upsample_1(site: Site) -> str:
    scales = (1.0, 1.0, site.attribute("height_scale"), site.attribute("width_scale"))
    return _upsample(site, scales)


@emits("Upsample", since=7)
def upsample_7(site: Site) -> str:
    return _upsample(site, site.attribute("scales"))


@emits("Upsample", since=9)
def upsample_9(site: Site) -> str:
    return _upsample(site, None)


def _upsample(site: Site, given: tuple[float, ...] | None) -> str:
    mode = "nearest" if site.attribute("mode", "nearest") == "nearest" else "linear"
    scales = 1 if given is None else None
    options = {"mode": mode, "coordinates": "asymmetric", "nearest": "floor"}
    return _resize(site, None, scales, None, given, **options)


@emits("Resize", since=10)
def resize_10(site: Site) -> str:
    mode = site.attribute("mode", "nearest")
    return _resize(site, None, 1, None, mode=mode, coordinates="asymmetric", nearest=_simple(site))


def _simple(site: Site) -> str:
    """Version 10 does not say how it rounds: down when it enlarges, up when it shrinks."""
    scales = numbers(site, 1)
    return "floor" if scales and min(scales) >= 1 else "simple"


@emits("Resize", since=11)
def resize(site: Site) -> str:
    return _resize(
        site,
        *(1, 2, 3),
        mode=site.attribute("mode", "nearest"),
        coordinates=site.attribute("coordinate_transformation_mode", "half_pixel"),
        nearest=site.attribute("nearest_mode", "round_prefer_floor"),
        cubic_a=site.attribute("cubic_coeff_a", -0.75),
        exclude_outside=bool(site.attribute("exclude_outside", 0)),
        extrapolation=site.attribute("extrapolation_value", 0.0),
        antialias=bool(site.attribute("antialias", 0)),
        axes=site.attribute("axes") or None,
        policy=site.attribute("keep_aspect_ratio_policy", "stretch"),
    )


@emits("GridSample", since=16)
def grid_sample(site: Site) -> str | No:
    mode = site.attribute("mode", "linear")
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    rank = site.rank(0)
    if rank is not None and (rank > 5 or (rank == 5 and mode == "bicubic")):
        return No("torch samples one to three spatial axes, by cubics at most two")
    return call(
        "F.grid_sample" if rank in (4, 5) else "vision.grid_sample",
        *every(site),
        mode=(mode, "bilinear"),
        padding_mode=(site.attribute("padding_mode", "zeros"), "zeros"),
        align_corners=(bool(site.attribute("align_corners", 0)), None),
    )


@emits("AffineGrid", since=20)
def affine_grid(site: Site) -> str:
    known = numbers(site, 1)
    size = f"{site[1]}.tolist()" if known is None else literal(known)
    corners = bool(site.attribute("align_corners", 0))
    return f"F.affine_grid({site[0]}, {size}, align_corners={corners})"


@emits("RoiAlign", since=10)
def roi_align_10(site: Site) -> str:
    return _roi_align(site, "output_half_pixel")


@emits("RoiAlign", since=16)
def roi_align(site: Site) -> str:
    return _roi_align(site, "half_pixel")


def _roi_align(site: Site, default: str) -> str:
    size = (site.attribute("output_height", 1), site.attribute("output_width", 1))
    half = site.attribute("coordinate_transformation_mode", default) == "half_pixel"
    return call(
        "vision.roi_align",
        *every(site),
        output_size=(size, None),
        sampling_ratio=(site.attribute("sampling_ratio", 0), 0),
        spatial_scale=(site.attribute("spatial_scale", 1.0), 1.0),
        half_pixel=(half, True),
        mode=(site.attribute("mode", "avg"), "avg"),
    )


@emits("MaxRoiPool")
def max_roi_pool(site: Site) -> str:
    return call(
        "vision.max_roi_pool",
        *every(site),
        pooled_shape=(site.attribute("pooled_shape"), None),
        spatial_scale=(site.attribute("spatial_scale", 1.0), 1.0),
    )


@emits("NonMaxSuppression", since=10)
def non_max_suppression(site: Site) -> str:
    centres = bool(site.attribute("center_point_box", 0))
    return call("vision.non_max_suppression", *every(site), center_point_box=(centres, False))
