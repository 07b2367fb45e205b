"""Resizing, sampling and boxes in the forms torch has no function for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from . import common

Numbers = torch.Tensor | Sequence[float]


def resize(
    x: torch.Tensor,
    roi: Numbers | None = None,
    scales: Numbers | None = None,
    sizes: Numbers | None = None,
    *,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    nearest: str = "round_prefer_floor",
    cubic_a: float = -0.75,
    exclude_outside: bool = False,
    extrapolation: float = 0.0,
    antialias: bool = False,
    axes: Sequence[int] | None = None,
    policy: str = "stretch",
) -> torch.Tensor:
    """Resize axis by axis: each result is a weighted sum of a few elements along the axis."""
    places = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    before = [x.shape[axis] for axis in places]
    factors, after = _factors(before, _given(scales), _given(sizes), policy)
    if mode == "linear" and not antialias and not exclude_outside:
        quick = _interpolated(x, places, factors, after, _given(scales) is None, coordinates)
        if quick is not None:
            return quick
    regions = _given(roi) or [0.0] * len(places) + [1.0] * len(places)
    y = x if x.is_floating_point() or mode == "nearest" else x.to(torch.float32)
    outside: list[tuple[int, torch.Tensor]] = []
    for number, axis in enumerate(places):
        size, wanted, factor = before[number], after[number], factors[number]
        start, end = regions[number], regions[number + len(places)]
        if wanted == size and factor == 1 and coordinates != "tf_crop_and_resize":
            continue
        source = _source(coordinates, size, wanted, factor, start, end)
        if coordinates == "tf_crop_and_resize":
            outside.append((axis, (source < 0) | (source > size - 1)))
        if mode == "nearest":
            index = _nearest(source, nearest, factor).clamp(0, size - 1).to(torch.int64)
            y = y.index_select(axis, index)
        else:
            shrink = min(factor, 1.0) if antialias else 1.0
            first, weights = _taps(source, mode, cubic_a, shrink)
            y = _combine(y, axis, first, weights, exclude_outside)
    for axis, mask in outside:
        shape = [-1 if place == axis else 1 for place in range(x.ndim)]
        y = torch.where(mask.reshape(shape), extrapolation, y)
    if x.is_floating_point() or mode == "nearest":
        return y.to(x.dtype)
    limits = torch.iinfo(x.dtype)
    return y.clamp(limits.min, limits.max).to(x.dtype)


def _given(values: Numbers | None) -> list[float] | None:
    """The numbers, None where there are none: older models pass an empty tensor."""
    found = None if values is None else common.numbers(values)
    return found or None


def _factors(
    before: list[int], scales: list[float] | None, sizes: list[float] | None, policy: str
) -> tuple[list[float], list[int]]:
    """The factor and the size after resizing, per axis."""
    if scales is not None:
        single = np.float32(before) * np.float32(scales)
        exact = [float(np.float32(scale)) for scale in scales]
        return exact, [math.floor(size) for size in single]
    assert sizes is not None
    ratios = [wanted / size for wanted, size in zip(sizes, before, strict=True)]
    if policy == "stretch":
        return ratios, [int(size) for size in sizes]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [ratio] * len(before), [math.floor(ratio * size + 0.5) for size in before]


def _interpolated(
    x: torch.Tensor,
    places: list[int],
    factors: list[float],
    after: list[int],
    by_sizes: bool,
    coordinates: str,
) -> torch.Tensor | None:
    """Linear interpolation of images by torch, None where it would give something else."""
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}.get(x.ndim)
    sizes = list(x.shape)
    for axis, factor, size in zip(places, factors, after, strict=True):
        if size != factor * x.shape[axis] and not by_sizes:
            return None
        sizes[axis] = size
    if mode is None or not x.is_floating_point() or sizes[:2] != list(x.shape[:2]):
        return None
    if coordinates == "align_corners":
        return F.interpolate(x, size=sizes[2:], mode=mode, align_corners=True)
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and 1 not in sizes[2:]):
        return F.interpolate(x, size=sizes[2:], mode=mode)
    return None


def _source(
    coordinates: str, size: int, wanted: int, factor: float, start: float, end: float
) -> torch.Tensor:
    """Where in the input each element of the result lies, along one axis."""
    # In ONNX's order: ties fall as float32 lets them.
    index = torch.arange(wanted, dtype=torch.float32)
    start, end = np.float32([start, end]).tolist()
    exact = factor * size  # a scale may ask for a fraction of an element
    if coordinates == "align_corners":
        return index * 0 if exact == 1 else index * (size - 1) / (exact - 1)
    if coordinates == "asymmetric":
        return index / factor
    if coordinates == "tf_crop_and_resize":
        if exact == 1:
            return index * 0 + (start + end) * (size - 1) / 2
        return start * (size - 1) + index * (end - start) * (size - 1) / (exact - 1)
    if coordinates == "pytorch_half_pixel" and wanted == 1:
        return index * 0
    centred = (index + 0.5) / factor - 0.5
    if coordinates == "half_pixel_symmetric":
        return centred + size / 2 * (1 - wanted / exact)
    return centred


def _nearest(source: torch.Tensor, rounding: str, factor: float) -> torch.Tensor:
    """The index nearest to each place."""
    if rounding == "round_prefer_floor":
        return torch.ceil(source - 0.5)
    if rounding == "round_prefer_ceil":
        return torch.floor(source + 0.5)
    if rounding == "ceil" or (rounding == "simple" and factor < 1):
        return torch.ceil(source)
    return torch.floor(source)


def _taps(
    source: torch.Tensor, mode: str, cubic_a: float, shrink: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first index each place draws from, and the weights from there on, one row per tap."""
    base = torch.ceil(source) - 1
    reach = 1 if mode == "linear" else 2
    start = math.floor(-reach / shrink) + 1
    steps = torch.arange(start, 2 - start, dtype=torch.float32)
    distance = ((steps[:, None] - (source - base)) * shrink).abs()
    if mode == "linear":
        weights = (1 - distance).clamp(min=0)
    else:
        a, d = cubic_a, distance
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
    return base + start, weights / weights.sum(0)


def _combine(
    x: torch.Tensor, axis: int, first: torch.Tensor, weights: torch.Tensor, exclude: bool
) -> torch.Tensor:
    """The weighted sums along one axis; what lies outside repeats the border or is left out."""
    size = x.shape[axis]
    index = first + torch.arange(len(weights))[:, None]
    if exclude:
        weights = torch.where((index >= 0) & (index < size), weights, 0.0)
        weights = weights / weights.sum(0)
    index = index.clamp(0, size - 1).to(torch.int64)
    shape = [-1 if place == axis else 1 for place in range(x.ndim)]
    y: torch.Tensor | None = None
    for tap, weight in enumerate(weights.to(x.dtype)):
        term = x.index_select(axis, index[tap]) * weight.reshape(shape)
        y = term if y is None else y + term
    assert y is not None
    return y


def grid_sample(
    x: torch.Tensor,
    grid: torch.Tensor,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool,
) -> torch.Tensor:
    """Samples at the places of a grid; signals with one spatial axis are images of height 1."""
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    if x.ndim > 3:
        return F.grid_sample(x, grid, **options)
    flat = torch.stack((grid[..., 0], torch.zeros_like(grid[..., 0])), -1)[:, None]
    return F.grid_sample(x[:, :, None], flat, **options)[:, :, 0]


def roi_align(
    x: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    *,
    output_size: tuple[int, int],
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    half_pixel: bool = True,
    mode: str = "avg",
) -> torch.Tensor:
    """Pool bilinear samples of each region of interest into bins of one size."""
    wide = x.to(torch.promote_types(torch.float32, x.dtype))
    pooled = [x.new_zeros(0, x.shape[1], *output_size)]
    for roi, batch in zip(rois.tolist(), batch_indices.tolist(), strict=True):
        left, top, right, bottom = (
            edge * spatial_scale - (0.5 if half_pixel else 0.0) for edge in roi
        )
        axes = []
        limits = ((top, bottom, x.shape[2], 0), (left, right, x.shape[3], 1))
        for start, end, size, number in limits:
            length = end - start if half_pixel else max(end - start, 1.0)
            bins = output_size[number]
            samples = sampling_ratio if sampling_ratio > 0 else math.ceil(length / bins)
            axes.append((*_bin_samples(start, length, bins, samples, size), samples))
        (y_low, y_high, y_part, y_in, rows), (x_low, x_high, x_part, x_in, columns) = axes
        if rows * columns <= 0:
            pooled.append(wide.new_zeros(1, x.shape[1], *output_size))
            continue
        image = wide[batch]
        corners = []
        for y_index, y_weight in ((y_low, 1 - y_part), (y_high, y_part)):
            for x_index, x_weight in ((x_low, 1 - x_part), (x_high, x_part)):
                weight = (y_weight * y_in)[:, None] * (x_weight * x_in)[None]
                corners.append(image[:, y_index][:, :, x_index] * weight.to(wide.dtype))
        bins_shape = (x.shape[1], output_size[0], rows, output_size[1], columns)
        stacked = torch.stack(corners)
        if mode == "avg":
            pooled.append(stacked.sum(0).reshape(bins_shape).mean((2, 4))[None])
        else:
            pooled.append(stacked.amax(0).reshape(bins_shape).amax((2, 4))[None])
    return torch.cat([part.to(x.dtype) for part in pooled])


def _bin_samples(
    start: float, length: float, bins: int, samples: int, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The two neighbours of each sample along an axis, the share of the upper, which are inside."""
    offsets = (torch.arange(samples, dtype=torch.float64) + 0.5) / max(samples, 1)
    place = start + (torch.arange(bins, dtype=torch.float64)[:, None] + offsets) * (length / bins)
    place = place.reshape(-1)
    inside = (place >= -1) & (place <= size)
    place = place.clamp(0, size - 1)
    low = place.floor()
    return low.long(), (low + 1).clamp(max=size - 1).long(), place - low, inside


def max_roi_pool(
    x: torch.Tensor, rois: torch.Tensor, *, pooled_shape: tuple[int, int], spatial_scale: float = 1
) -> torch.Tensor:
    """The maxima of the bins that each region of interest is divided into."""
    y = x.new_zeros(rois.shape[0], x.shape[1], *pooled_shape)
    for number, (batch, *edges) in enumerate(rois.tolist()):
        left, top, right, bottom = (math.floor(edge * spatial_scale + 0.5) for edge in edges)
        rows = _bins(top, bottom, pooled_shape[0], x.shape[2])
        columns = _bins(left, right, pooled_shape[1], x.shape[3])
        for i, (row, row_end) in enumerate(rows):
            for j, (column, column_end) in enumerate(columns):
                if row_end > row and column_end > column:
                    window = x[int(batch), :, row:row_end, column:column_end]
                    y[number, :, i, j] = window.amax((1, 2))
    return y


def _bins(start: int, end: int, bins: int, size: int) -> list[tuple[int, int]]:
    step = max(end - start + 1, 1) / bins
    edges = [(math.floor(i * step) + start, math.ceil((i + 1) * step) + start) for i in range(bins)]
    return [(min(max(a, 0), size), min(max(b, 0), size)) for a, b in edges]


def non_max_suppression(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    max_output_boxes_per_class: Any = None,
    iou_threshold: Any = None,
    score_threshold: Any = None,
    *,
    center_point_box: bool = False,
) -> torch.Tensor:
    """Rows of batch, class and box of the boxes that no better box of their class covers."""
    limit = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class)
    overlap = 0.0 if iou_threshold is None else float(iou_threshold)
    corners = boxes.numpy().astype(np.float32)
    if center_point_box:
        half = corners[..., 2:] / 2
        low, high = corners[..., :2] - half, corners[..., :2] + half
    else:
        low = np.minimum(corners[..., :2], corners[..., 2:])
        high = np.maximum(corners[..., :2], corners[..., 2:])
    values = scores.numpy()
    selected: list[tuple[int, int, int]] = []
    for batch in range(values.shape[0]) if limit > 0 else ():
        areas = np.prod(high[batch] - low[batch], -1)
        for kind in range(values.shape[1]):
            score = values[batch, kind]
            order = np.argsort(-score, kind="stable")
            if score_threshold is not None:
                order = order[score[order] > float(score_threshold)]
            count = 0
            while order.size and count < limit:
                best, order = order[0], order[1:]
                selected.append((batch, kind, int(best)))
                count += 1
                sides = np.minimum(high[batch][best], high[batch][order]) - np.maximum(
                    low[batch][best], low[batch][order]
                )
                common_area = np.prod(np.maximum(sides, 0), -1)
                union = areas[best] + areas[order] - common_area
                meets = (common_area > 0) & (areas[order] > 0) & (areas[best] > 0) & (union > 0)
                ratio = np.divide(common_area, union, out=np.zeros_like(union), where=meets)
                order = order[~(meets & (ratio > overlap))]
    return torch.tensor(selected, dtype=torch.int64).reshape(-1, 3)
