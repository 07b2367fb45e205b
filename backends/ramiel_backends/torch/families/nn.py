"""Convolutions, pools and what else slides windows over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ramiel_backends.torch.families._calls import (
    Option,
    call,
    every,
    merged,
    numbers,
    results,
    sizes,
)
from ramiel_backends.torch.families._types import FLOATS
from ramiel_backends.torch.table import Site, emits
from ramiel_ir.ir import DType
from ramiel_ir.pipeline import No


class Window(NamedTuple):
    """A sliding window whose padding is known, per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int | None, ...]
    """What the window slides over."""

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first to the last element of the window, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding can say it."""
        return self.begins == self.ends and min(self.begins) >= 0

    def wider(self) -> tuple[tuple[int, ...], str] | None:
        """Padding alike at both ends, and the subscript that leaves what the padding asks for.

        It computes a little too much, where padding by itself would copy the whole operand. None
        where the windows would not be the same ones.
        """
        most = tuple(map(max, self.begins, self.ends))
        wanted = self._counts(self.ends, False)
        found = self._replace(begins=most)._counts(most, False)
        if wanted is None or found is None or min(*self.begins, *self.ends) < 0:
            return None
        kept = [":", ":"]
        axes = zip(most, self.begins, self.strides, wanted, found, strict=True)
        for outer, begin, stride, count, more in axes:
            skipped, rest = divmod(outer - begin, stride)
            if rest:
                return None
            last = skipped + count
            kept.append(f"{skipped or ''}:{last if last < more else ''}")
        while kept and kept[-1] == ":":
            kept.pop()
        return most, f"[{', '.join(kept)}]" if kept else ""

    @property
    def fits_pool(self) -> bool:
        """Whether torch's pools accept the leading padding."""
        limits = zip(self.begins, self.reach, strict=True)
        return all(0 <= begin <= reach // 2 for begin, reach in limits)

    def torch_ceil_mode(self, ceil_mode: bool) -> bool | None:
        """torch's `ceil_mode` that gives the same windows with `begins` as padding at both ends."""
        if self.symmetric:
            return ceil_mode
        wanted = self._counts(self.ends, ceil_mode)
        for mode in (False, True):
            if wanted is not None and self._counts(self.begins, mode) == wanted:
                return mode
        return None

    def wider_pool(self) -> tuple[tuple[int, ...], str] | None:
        """The same for a pool, which accepts less padding."""
        wider = self.wider()
        if wider is None or not self._replace(begins=wider[0]).fits_pool:
            return None
        return wider

    def _counts(self, ends: Sequence[int], ceil_mode: bool) -> list[int] | None:
        """How many windows there are per axis."""
        counts = []
        axes = zip(self.sizes, self.reach, self.strides, self.begins, ends, strict=True)
        for size, reach, stride, begin, end in axes:
            if size is None:
                return None
            span = size + begin + end - reach
            count = (span + (stride - 1 if ceil_mode else 0)) // stride + 1
            if ceil_mode and (count - 1) * stride >= size + begin:
                count -= 1
            counts.append(count)
        return counts


def spatial_rank(site: Site, weight: int | None = None) -> int | None:
    """How many spatial axes there are: from the types or from the attributes."""
    for index in (0, weight):
        rank = None if index is None else site.rank(index)
        if rank is not None:
            return rank - 2
    for name in ("kernel_shape", "strides", "dilations"):
        if site.attribute(name):
            return len(site.attribute(name))
    return None


def window(site: Site, weight: int | None = None) -> Window | None:
    """The window of a pool, or convolution with that operand; None where it is known too late."""
    rank = spatial_rank(site, weight)
    if rank not in (1, 2, 3):
        return None
    known = sizes(site, 0)
    spatial = known[2:] if known else (None,) * rank
    kernel = site.attribute("kernel_shape")
    if not kernel:
        weights = None if weight is None else sizes(site, weight)
        kernel = weights[2:] if weights and None not in weights else (None,) * rank
    strides = site.attribute("strides") or (1,) * rank
    dilations = site.attribute("dilations") or (1,) * rank
    auto_pad = site.attribute("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        if None in kernel:
            return None
        pads = _same_pads(auto_pad, kernel, strides, dilations, spatial)
        if pads is None:
            return None
        begins, ends = pads
    else:
        pads = (site.attribute("pads") if auto_pad == "NOTSET" else None) or (0,) * (2 * rank)
        begins, ends = pads[:rank], pads[rank:]
    return Window(kernel, strides, dilations, begins, ends, spatial)


def _same_pads(
    auto_pad: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    spatial: Sequence[int | None],
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    begins, ends = [], []
    for k, stride, dilation, size in zip(kernel, strides, dilations, spatial, strict=True):
        if size is None and stride != 1:
            return None
        last = 0 if stride == 1 or size is None else (-(-size // stride) - 1) * stride - size + 1
        total = max(last + (k - 1) * dilation, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return tuple(begins), tuple(ends)


def padded(operand: str, begins: Sequence[int], ends: Sequence[int], value: str = "") -> str:
    """`operand` with explicit padding of its last axes, which torch lists last axis first."""
    pairs = [pad for pair in zip(begins, ends, strict=True) for pad in pair]
    ordered = [pairs[i + j] for i in range(len(pairs) - 2, -1, -2) for j in (0, 1)]
    return f"F.pad({operand}, ({', '.join(map(str, ordered))}){value})"


_ONEDNN_ELEMENTS = 20_480
"""Of an image, up to which torch never asks oneDNN."""
_ONEDNN_PIXELS = 128
"""Below which oneDNN loses by reordering the kernel what it gains."""

_NEUTRAL = {"kernel_shape": None, "strides": 1, "dilations": 1, "pads": 0}


def window_attributes(site: Site, *without: str) -> dict[str, Option]:
    """The window attributes that matter, as options of a library function."""
    options: dict[str, Option] = {}
    for name, neutral in _NEUTRAL.items():
        value = site.attribute(name)
        if name not in without and value and set(value) != {neutral}:
            options[name] = (value, None)
    if "auto_pad" not in without:
        options["auto_pad"] = (site.attribute("auto_pad", "NOTSET"), "NOTSET")
    return options


def convolution(site: Site, x: str, w: str, bias: str, *, weight: int = 1) -> str:
    """The convolution of `x` with `w`; operand `weight` of the op has the shape of `w`."""
    found = window(site, weight)
    groups = (site.attribute("group", 1), 1)
    if found is None:
        options = window_attributes(site, "kernel_shape")
        return call("nn.conv", x, w, bias, **options, groups=groups)
    begins, kept = found.begins, ""
    if not found.symmetric:
        wider = found.wider()
        if wider is None:
            x, begins = padded(x, begins, found.ends), (0,) * len(begins)
        else:
            begins, kept = wider
    if _is_pointwise(site, found):
        return call("nn.pointwise_conv2d", x, w, bias)
    convolved = call(
        f"F.conv{len(begins)}d",
        *(x, w, bias),
        stride=(merged(found.strides), 1),
        padding=(merged(begins), 0),
        dilation=(merged(found.dilations), 1),
        groups=groups,
    )
    return convolved + kept


def _is_pointwise(site: Site, found: Window) -> bool:
    """Whether it is one that `pointwise_conv2d` is for."""
    known = sizes(site, 0)
    if known is None or None in known or len(known) != 4 or site.dtype(0) is not DType.F32:
        return False
    if {*found.kernel, *found.strides, *found.dilations, site.attribute("group", 1)} != {1}:
        return False
    if any(found.begins + found.ends):
        return False
    return math.prod(known) > _ONEDNN_ELEMENTS and math.prod(known[2:]) >= _ONEDNN_PIXELS


@emits("Conv")
def conv(site: Site) -> str:
    return convolution(site, site[0], site[1], site[2])


@emits("ConvTranspose")
def conv_transpose(site: Site) -> str:
    found = window(site, 1) if site.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID") else None
    extra = site.attribute("output_padding") or (0,) * (spatial_rank(site, 1) or 0)
    if found is not None and not site.attribute("output_shape"):
        pads = zip(found.begins, found.ends, extra, strict=True)
        # torch crops both sides alike: what the end keeps more is its output_padding
        outer = tuple(begin - end + more for begin, end, more in pads)
        limits = zip(outer, found.strides, found.dilations, strict=True)
        if min(found.begins) >= 0 and all(0 <= o < max(s, d) or o == 0 for o, s, d in limits):
            return call(
                f"F.conv_transpose{len(outer)}d",
                *every(site),
                stride=(merged(found.strides), 1),
                padding=(merged(found.begins), 0),
                output_padding=(merged(outer), 0),
                groups=(site.attribute("group", 1), 1),
                dilation=(merged(found.dilations), 1),
            )
    return call(
        "nn.conv_transpose",
        *every(site),
        **window_attributes(site, "kernel_shape"),
        output_padding=(site.attribute("output_padding") or None, None),
        output_shape=(site.attribute("output_shape") or None, None),
        groups=(site.attribute("group", 1), 1),
    )


@emits("DeformConv", since=19)
def deform_conv(site: Site) -> str:
    return call(
        "nn.deform_conv",
        *every(site),
        **window_attributes(site, "kernel_shape", "auto_pad"),
        groups=(site.attribute("group", 1), 1),
        offset_groups=(site.attribute("offset_group", 1), 1),
    )


def pooled_maximum(site: Site, x: str) -> str | None:
    """Max pooling of `x` by torch, None where it takes a function of the library."""
    found = window(site)
    ceil_mode = bool(site.attribute("ceil_mode", 0))
    floating = site.dtype(0) in FLOATS
    if found is None or len(site.op.results) > 1:
        return None
    rank, begins, kept = len(found.kernel), found.begins, ""
    mode = found.torch_ceil_mode(ceil_mode) if found.fits_pool else None
    if mode is None and not ceil_mode and (wider := found.wider_pool()) is not None:
        mode, (begins, kept) = False, wider
    if mode is None and floating and not ceil_mode:
        x = padded(x, begins, found.ends, ', value=float("-inf")')
        mode, begins = False, (0,) * rank
    if mode is None or not (floating or (rank == 2 and site.dtype(0) is not None)):
        return None
    pooled = call(
        f"F.max_pool{rank}d",
        *(x, str(merged(found.kernel))),
        stride=(merged(found.strides), merged(found.kernel)),
        padding=(merged(begins), 0),
        dilation=(merged(found.dilations), 1),
        ceil_mode=(mode, False),
    )
    return pooled + kept


@emits("MaxPool")
def max_pool(site: Site) -> str:
    direct = pooled_maximum(site, site[0])
    if direct is not None:
        return direct
    expression = call(
        "nn.max_pool",
        *every(site),
        **window_attributes(site),
        ceil_mode=(bool(site.attribute("ceil_mode", 0)), False),
        column_major=(bool(site.attribute("storage_order", 0)), False),
    )
    return results(site, expression, 2)


def pooled_average(site: Site, x: str) -> str:
    """Average pooling of `x`, which has the shape of operand 0."""
    found = window(site)
    ceil_mode = bool(site.attribute("ceil_mode", 0))
    include = bool(site.attribute("count_include_pad", 0))
    pooled = x
    if found is not None and set(found.dilations) == {1}:
        rank, begins, kept = len(found.kernel), found.begins, ""
        mode = found.torch_ceil_mode(ceil_mode) if found.fits_pool else None
        if include and not found.symmetric:
            mode = None
        if mode is None and not ceil_mode and (wider := found.wider_pool()) is not None:
            mode, (begins, kept) = False, wider
        if mode is None and include and not ceil_mode:
            pooled = padded(x, begins, found.ends)
            mode, begins = False, (0,) * rank
        if mode is not None:
            averaged = call(
                f"F.avg_pool{rank}d",
                *(pooled, str(merged(found.kernel))),
                stride=(merged(found.strides), merged(found.kernel)),
                padding=(merged(begins), 0),
                ceil_mode=(mode, False),
                count_include_pad=(include or not any(begins), True),
            )
            return averaged + kept
    return call(
        "nn.average_pool",
        x,
        **window_attributes(site),
        ceil_mode=(ceil_mode, False),
        count_include_pad=(include, False),
    )


@emits("AveragePool")
def average_pool(site: Site) -> str:
    return pooled_average(site, site[0])


@emits("LpPool")
def lp_pool(site: Site) -> str:
    return call(
        "nn.lp_pool",
        site[0],
        **window_attributes(site),
        ceil_mode=(bool(site.attribute("ceil_mode", 0)), False),
        p=(site.attribute("p", 2), 2),
    )


def _spatial_axes(site: Site) -> str | None:
    rank = site.rank(0)
    if rank is None:
        return f"tuple(range(2, {site[0]}.ndim))"
    return str(tuple(range(2, rank))) if rank > 2 else None


@emits("GlobalAveragePool")
def global_average_pool(site: Site) -> str:
    axes = _spatial_axes(site)
    return f"torch.mean({site[0]}, dim={axes}, keepdim=True)" if axes else site[0]


@emits("GlobalMaxPool")
def global_max_pool(site: Site) -> str:
    axes = _spatial_axes(site)
    return f"torch.amax({site[0]}, dim={axes}, keepdim=True)" if axes else site[0]


@emits("GlobalLpPool")
def global_lp_pool(site: Site) -> str:
    axes, p = _spatial_axes(site), site.attribute("p", 2)
    if axes is None:
        return f"torch.abs({site[0]})"
    return f"torch.linalg.vector_norm({site[0]}, {p}, dim={axes}, keepdim=True)"


@emits("MaxUnpool", since=9)
def max_unpool(site: Site) -> str:
    options = window_attributes(site, "auto_pad", "dilations")
    return call("nn.max_unpool", *every(site), **options)


@emits("LRN")
def lrn(site: Site) -> str:
    size = site.attribute("size")
    options = {
        "alpha": (site.attribute("alpha", 1e-4), 1e-4),
        "beta": (site.attribute("beta", 0.75), 0.75),
        "k": (site.attribute("bias", 1.0), 1.0),
    }
    return call("nn.local_response_norm", site[0], str(size), **options)


@emits("Dropout")
def dropout(site: Site) -> str:
    if len(site.op.results) == 1:
        return site[0]
    mask = ", dtype=torch.bool" if site.version >= 10 else ""
    return f"({site[0]}, torch.ones_like({site[0]}{mask}))"


@emits("Dropout", since=12)
def dropout_12(site: Site) -> str:
    training = (False,) if not site.has(2) else numbers(site, 2)
    if training is not None and not training[0]:
        return dropout(site)
    expression = call("nn.dropout", *every(site), seed=(site.attribute("seed"), None))
    return results(site, expression, 2)


@emits("ImageDecoder", since=20)
def image_decoder(site: Site) -> No:
    return No("decoding image files is not part of the run-time library")


def _loss(site: Site, function: str) -> str:
    target = site[1] if site.dtype(1) is DType.I64 else f"{site[1]}.to(torch.int64)"
    return call(
        function,
        *(site[0], target, site[2]),
        ignore_index=(site.attribute("ignore_index"), None),
        reduction=(site.attribute("reduction", "mean"), "mean"),
    )


@emits("NegativeLogLikelihoodLoss", since=12)
def nll_loss(site: Site) -> str:
    return _loss(site, "F.nll_loss")


@emits("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(site: Site) -> str:
    loss = _loss(site, "F.cross_entropy")
    if len(site.op.results) == 1:
        return loss
    return f"({loss}, torch.log_softmax({site[0]}, 1))"
