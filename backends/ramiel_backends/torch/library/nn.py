"""Convolutions, pools and dropout in the forms torch has no function for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

Sizes = Sequence[int]


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    auto_pad: str = "NOTSET",
    groups: int = 1,
) -> torch.Tensor:
    """Convolution whose padding depends on the size of `x`."""
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    begins, ends, _ = _windows(
        x.shape[2:], weight.shape[2:], strides, dilations, pads, auto_pad, False
    )
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    x = F.pad(x, _torch_pads(begins, ends))
    return function(x, weight, bias, stride=strides, dilation=dilations, groups=groups)


def pointwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Convolution of a large image with kernels of 1 by 1, by oneDNN also on one thread.

    There torch multiplies matrices instead, unless the kernel is dilated, and that can take twice
    the time. Dilation spaces out the elements of a kernel: where there is one, it changes nothing.
    """
    return F.conv2d(x, weight, bias, dilation=2)


def conv_transpose(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    auto_pad: str = "NOTSET",
    output_padding: Sizes | None = None,
    output_shape: Sizes | None = None,
    groups: int = 1,
) -> torch.Tensor:
    """Transposed convolution: the full one, cropped or extended to the shape ONNX asks for."""
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    pads = pads or (0,) * (2 * rank)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and output_shape is None:
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    begins, ends = list(pads[:rank]), list(pads[rank:])
    if output_shape is not None:
        for axis, wanted in enumerate(output_shape[-rank:]):
            reach = (weight.shape[2 + axis] - 1) * dilations[axis] + 1
            total = strides[axis] * (x.shape[2 + axis] - 1) + extra[axis] + reach - wanted
            small = total // 2
            begins[axis] = small if auto_pad == "SAME_UPPER" else total - small
            ends[axis] = total - begins[axis]
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    full = function(x, weight, None, stride=strides, dilation=dilations, groups=groups)
    outer = [more - end for more, end in zip(extra, ends, strict=True)]
    y = F.pad(full, _torch_pads([-begin for begin in begins], outer))
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def deform_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    *,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    groups: int = 1,
    offset_groups: int = 1,
) -> torch.Tensor:
    """Deformable convolution: samples at shifted places, then one product with the kernel."""
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    batch, channels = x.shape[:2]
    kernel, out = weight.shape[2:], offset.shape[2:]
    taps = math.prod(kernel)
    begins = (pads or (0,) * rank)[:rank]
    # the places, per axis: batch, offset group, tap, output position
    shifts = offset.reshape(batch, offset_groups, taps, rank, math.prod(out))
    steps = torch.cartesian_prod(*(torch.arange(k) for k in kernel)).reshape(taps, rank)
    origins = torch.cartesian_prod(*(torch.arange(size) for size in out)).reshape(-1, rank)
    places = [
        shifts[:, :, :, axis]
        + (steps[:, axis, None] * dilations[axis])
        + (origins[None, :, axis] * strides[axis] - begins[axis])
        for axis in range(rank)
    ]
    values = x.reshape(batch, offset_groups, channels // offset_groups, -1)
    sampled = _sample(values, x.shape[2:], places)
    if mask is not None:
        sampled = sampled * mask.reshape(batch, offset_groups, 1, taps, -1)
    columns = sampled.reshape(batch, groups, channels // groups * taps, -1)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    y = torch.matmul(kernels, columns).reshape(batch, weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _sample(values: torch.Tensor, sizes: Sizes, places: list[torch.Tensor]) -> torch.Tensor:
    """Linear interpolation at `places`; what lies outside is zero.

    `values` is (batch, group, channel, flat position), each place (batch, group, tap, output).
    """
    lows = [torch.floor(place) for place in places]
    total: torch.Tensor | None = None
    for corner in range(2 ** len(sizes)):
        index = torch.zeros(places[0].shape, dtype=torch.int64)
        share = torch.ones_like(places[0])
        for axis, size in enumerate(sizes):
            upper = (corner >> axis) & 1
            at = lows[axis] + upper
            part = places[axis] - lows[axis]
            inside = (at >= 0) & (at < size)
            share = share * torch.where(inside, part if upper else 1 - part, 0)
            index = index * size + at.clamp(0, size - 1).to(torch.int64)
        batch, group, taps, count = index.shape
        flat = index.reshape(batch, group, 1, taps * count)
        found = torch.gather(values, 3, flat.expand(-1, -1, values.shape[2], -1))
        term = found.reshape(batch, group, -1, taps, count) * share[:, :, None]
        total = term if total is None else total + term
    assert total is not None
    return total


def max_pool(
    x: torch.Tensor,
    *,
    kernel_shape: Sizes,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
    column_major: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The maxima of the windows, and where they are in the flattened input."""
    rank = len(kernel_shape)
    if column_major:
        numbers = torch.arange(math.prod(x.shape[2:]))
        places = numbers.reshape(tuple(reversed(x.shape[2:]))).permute(*reversed(range(rank)))
    else:
        places = torch.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    options = (kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    low = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    values = _unfold(x, *options, fill=low).flatten(2 + rank)
    inside = _unfold(torch.ones((1, 1, *x.shape[2:])), *options, fill=0).flatten(2 + rank)
    planes = _unfold(places.reshape(1, 1, *x.shape[2:]), *options, fill=0).flatten(2 + rank)
    best = values.amax(-1)
    found = ((values == best[..., None]) | values.isnan()) & (inside > 0)
    first = found.to(torch.uint8).argmax(-1, keepdim=True)
    index = torch.gather(planes.expand(*x.shape[:2], *planes.shape[2:]), -1, first)[..., 0]
    plane_starts = torch.arange(x.shape[0] * x.shape[1]) * math.prod(x.shape[2:])
    return best, index + plane_starts.reshape(*x.shape[:2], *(1,) * rank)


def average_pool(
    x: torch.Tensor,
    *,
    kernel_shape: Sizes,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> torch.Tensor:
    """The averages of the windows, over the elements that count."""
    rank = len(kernel_shape)
    options = (kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    axes = tuple(range(-rank, 0))
    total = _unfold(x, *options, fill=0).sum(axes)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if count_include_pad:
        begins, ends, _ = _windows(
            x.shape[2:],
            kernel_shape,
            strides or (1,) * rank,
            dilations or (1,) * rank,
            pads,
            auto_pad,
            ceil_mode,
        )
        counted = F.pad(counted, _torch_pads(begins, ends), value=1)
        stretched = _unfold(
            counted, kernel_shape, strides, dilations, None, "NOTSET", ceil_mode, fill=0
        )
        counts = stretched.sum(axes)
        counts = counts[(slice(None), slice(None), *(slice(0, size) for size in total.shape[2:]))]
    else:
        counts = _unfold(counted, *options, fill=0).sum(axes)
    return total / counts


def lp_pool(
    x: torch.Tensor,
    *,
    kernel_shape: Sizes,
    strides: Sizes | None = None,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
    p: float = 2,
) -> torch.Tensor:
    """The p-norms of the windows."""
    powers = x.abs() ** p
    windows = _unfold(powers, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode, fill=0)
    return windows.sum(tuple(range(-len(kernel_shape), 0))) ** (1 / p)


def max_unpool(
    x: torch.Tensor,
    indices: torch.Tensor,
    output_shape: torch.Tensor | None = None,
    *,
    kernel_shape: Sizes,
    strides: Sizes | None = None,
    pads: Sizes | None = None,
) -> torch.Tensor:
    """Put `x` back where max pooling took it from, zeros elsewhere."""
    rank = len(kernel_shape)
    strides, pads = strides or (1,) * rank, pads or (0,) * (2 * rank)
    inferred = list(x.shape[:2])
    for axis, (kernel, stride) in enumerate(zip(kernel_shape, strides, strict=True)):
        cropped = pads[axis] + pads[rank + axis]
        inferred.append((x.shape[2 + axis] - 1) * stride - cropped + kernel)
    flat = torch.zeros(math.prod(inferred), dtype=x.dtype)
    y = flat.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(inferred)
    if output_shape is None:
        return y
    wanted = output_shape.tolist()
    grown = [size - had for size, had in zip(wanted, inferred, strict=True)]
    return F.pad(y, _torch_pads([0] * len(grown), grown))


def local_response_norm(
    x: torch.Tensor, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> torch.Tensor:
    """Divide by a power of the squares summed over `size` neighbouring channels."""
    channels = x.shape[1]
    squares = x * x
    divisor = squares * (alpha / size) + k  # ours: what follows may write into it
    for shift in range(1, min(size // 2, channels - 1) + 1):
        divisor[:, :-shift].add_(squares[:, shift:], alpha=alpha / size)
    for shift in range(1, min((size - 1) // 2, channels - 1) + 1):
        divisor[:, shift:].add_(squares[:, :-shift], alpha=alpha / size)
    if beta != 0.75:
        return x / divisor**beta
    root = divisor.rsqrt_()  # two roots take half the time of a power
    return root.sqrt().mul_(root).mul_(x)


def dropout(
    x: torch.Tensor,
    ratio: torch.Tensor | None = None,
    training: torch.Tensor | None = None,
    *,
    seed: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """In training drop each element with the chance `ratio`; the result and what was kept."""
    chance = 0.5 if ratio is None else float(ratio)
    if training is None or not bool(training) or chance == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    numbers = np.random.RandomState(seed).uniform(0, 1, tuple(x.shape))
    kept = torch.from_numpy(np.asarray(numbers >= chance))
    scale = 1 / (1 - chance) if chance < 1 else 0.0
    return torch.where(kept, x * scale, 0), kept


def _windows(
    sizes: Sizes,
    kernel: Sizes,
    strides: Sizes,
    dilations: Sizes,
    pads: Sizes | None,
    auto_pad: str,
    ceil_mode: bool,
) -> tuple[list[int], list[int], list[int]]:
    """Padding before, padding after, and the number of windows, per spatial axis."""
    rank = len(sizes)
    given = pads if pads and auto_pad == "NOTSET" else (0,) * (2 * rank)
    begins, ends, counts = list(given[:rank]), list(given[rank:]), []
    for axis, size in enumerate(sizes):
        stride = strides[axis]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-size // stride)
            total = max((count - 1) * stride + reach - size, 0)
            begins[axis] = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            ends[axis] = total - begins[axis]
        else:
            span = size + begins[axis] + ends[axis] - reach
            count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
            if ceil_mode and (count - 1) * stride >= size + begins[axis]:
                count -= 1  # a window may not start in the padding at the end
        counts.append(count)
    return begins, ends, counts


def _unfold(
    x: torch.Tensor,
    kernel: Sizes,
    strides: Sizes | None,
    dilations: Sizes | None,
    pads: Sizes | None,
    auto_pad: str,
    ceil_mode: bool,
    *,
    fill: float,
) -> torch.Tensor:
    """All windows of `x`: the spatial axes count windows, new last axes hold their elements."""
    rank = len(kernel)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    begins, _, counts = _windows(x.shape[2:], kernel, strides, dilations, pads, auto_pad, ceil_mode)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    ends = [
        (counts[axis] - 1) * strides[axis] + reaches[axis] - x.shape[2 + axis] - begins[axis]
        for axis in range(rank)
    ]
    windows = F.pad(x, _torch_pads(begins, ends), value=fill)
    for axis in range(rank):
        windows = windows.unfold(2 + axis, reaches[axis], strides[axis])[..., :: dilations[axis]]
    return windows


def _torch_pads(begins: Sizes, ends: Sizes) -> list[int]:
    """Padding as torch lists it: last axis first."""
    pairs = reversed(list(zip(begins, ends, strict=True)))
    return [pad for pair in pairs for pad in pair]
