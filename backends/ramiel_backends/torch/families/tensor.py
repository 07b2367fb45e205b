"""Tensors cut, joined, repeated, padded, and made."""

from __future__ import annotations

from typing import Any

from ramiel_backends.torch.families._calls import call, merged, sizes
from ramiel_backends.torch.families._types import (
    FLOATS,
    INTEGERS,
    NUMPY_TYPES,
    computable,
    constant_number,
    constant_numbers,
    from_front,
    is_tensor,
    known_shape,
    one_number,
    torch_type,
    tuple_of,
)
from ramiel_backends.torch.table import Site, emits, literal
from ramiel_ir.ir import DType

_FAR = 2**31 - 1
"""Slice ends from here on mean the end of the axis."""


@emits("Concat")
def concat(site: Site) -> str:
    axis = site.attribute("axis", 1)
    function = "torch.cat" if is_tensor(site) else "tensor.concat"
    return f"{function}({tuple_of(site.given)}, {axis})"


# Split --------------------------------------------------------------------------------------------


@emits("Split")
def split_attribute(site: Site) -> str:
    if site.has(1):  # in opset 1 only
        return _split_operand(site)
    return _split(site, site.attribute("split"))


@emits("Split", since=13)
def split(site: Site) -> str:
    return _split_operand(site)


def _split_operand(site: Site) -> str:
    given = site.constant(1)
    if site.has(1) and given is None:
        return _parts(site, f"tensor.split({site[0]}, {site[1]}, {site.attribute('axis', 0)})")
    return _split(site, None if given is None else tuple(int(size) for size in given))


def _split(site: Site, given: tuple[int, ...] | None) -> str:
    axis, count = site.attribute("axis", 0), len(site.op.results)
    if given is None:
        extents = sizes(site, 0)
        extent = None if extents is None else extents[axis]
        if extent is None:
            return _parts(site, f"tensor.split_evenly({site[0]}, {count}, {axis})")
        part = -(-extent // count)
        given = tuple(max(0, min(part, extent - start * part)) for start in range(count))
    if not is_tensor(site):
        return _parts(site, f"tensor.split({site[0]}, {literal(given)}, {axis})")
    if len(given) == 1:
        return site[0]
    return f"torch.split({site[0]}, {literal(given)}, {axis})"


def _parts(site: Site, expression: str) -> str:
    """The parts; where there is one, that part itself."""
    return expression if len(site.op.results) > 1 else f"{expression}[0]"


# Slice --------------------------------------------------------------------------------------------


@emits("Slice")
def slice_attributes(site: Site) -> str:
    starts, ends = site.attribute("starts"), site.attribute("ends")
    axes = site.attribute("axes", tuple(range(len(starts))))
    return _slice(site, starts, ends, axes, (1,) * len(starts))


@emits("Slice", since=10)
def slice_operands(site: Site) -> str:
    arrays = [site.constant(index) for index in range(1, 5)]
    known = [None if array is None else tuple(array.reshape(-1).tolist()) for array in arrays]
    if any(site.has(index) and known[index - 1] is None for index in range(1, 5)):
        texts = [constant_numbers(site, index) for index in range(1, 5)]
        return call("tensor.cut", site[0], *texts)
    starts, ends = known[0] or (), known[1] or ()
    axes = known[2] if known[2] is not None else tuple(range(len(starts)))
    return _slice(site, starts, ends, axes, known[3] or (1,) * len(starts))


def _slice(site: Site, starts: Any, ends: Any, axes: Any, steps: Any) -> str:
    rank = site.rank(0)
    places = [from_front(axis, rank) for axis in axes]
    plain = all(step > 0 for step in steps) and is_tensor(site)
    if not plain or None in places:
        return call("tensor.cut", site[0], *map(literal, (starts, ends, axes, steps)))
    parts = [":"] * (1 + max((place or 0 for place in places), default=0))
    for place, start, end, step in zip(places, starts, ends, steps, strict=True):
        last = "" if end >= _FAR else str(end)
        if end < -_FAR:
            last = "0"
        first = "" if not start or start < -_FAR else str(start)
        parts[place or 0] = f"{first}:{last}" + (f":{step}" if step != 1 else "")
    return f"{site[0]}[{', '.join(parts)}]" if starts else site[0]


# Pad ----------------------------------------------------------------------------------------------


@emits("Pad")
def pad_attributes(site: Site) -> str:
    pads = site.attribute("pads", site.attribute("paddings"))
    return _pad(site, pads, literal(site.attribute("value", 0.0)))


@emits("Pad", since=11)
def pad(site: Site) -> str:
    pads, axes = site.constant(1), site.constant(3)
    value = _filling(site)
    if pads is None or (site.has(3) and axes is None):
        return _pad_anyhow(site, site[1], value)
    amounts = [int(amount) for amount in pads.reshape(-1)]
    if axes is not None:
        rank = site.rank(0)
        if rank is None:
            return _pad_anyhow(site, literal(tuple(amounts)), value)
        count = len(axes)
        spread = [0] * (2 * rank)
        for index, axis in enumerate(int(axis) % rank for axis in axes.reshape(-1)):
            spread[axis], spread[axis + rank] = amounts[index], amounts[index + count]
        amounts = spread
    return _pad(site, tuple(amounts), value)


def _filling(site: Site) -> str:
    """What to pad with: a number where F.pad, which takes a float, can have it exactly."""
    if not site.has(2) or not is_tensor(site):
        return site[2]
    known = one_number(site.constant(2))
    if site.dtype(0) in (DType.I64, DType.U64) and (known is None or abs(known) > 2**53):
        return site[2]
    return constant_number(site, 2)


def _pad(site: Site, pads: tuple[int, ...], value: str) -> str:
    mode, rank = site.attribute("mode", "constant"), len(pads) // 2
    if not any(pads):
        return site[0]
    pairs = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    skipped = next(axis for axis, pair in enumerate(pairs) if any(pair))
    amounts = literal(tuple(amount for pair in reversed(pairs[skipped:]) for amount in pair))
    is_operand = site.has(2) and value == site[2]
    if mode == "constant" and computable(site) and not is_operand:
        filled = f", value={value}" if value not in ("None", "0", "0.0") else ""
        return f"F.pad({site[0]}, {amounts}{filled})"
    if mode in ("reflect", "edge") and _torch_pads(site, pairs, skipped):
        return f'F.pad({site[0]}, {amounts}, mode="{"replicate" if mode == "edge" else "reflect"}")'
    return _pad_anyhow(site, literal(pads), value, axes=False)


def _torch_pads(site: Site, pairs: list[tuple[int, int]], skipped: int) -> bool:
    """Whether torch's reflection and replication take these axes and amounts."""
    shape = known_shape(site)
    if shape is None or site.dtype(0) not in FLOATS or len(shape) - skipped > 2:
        return False
    fits = all(
        0 <= amount < size for size, pair in zip(shape, pairs, strict=True) for amount in pair
    )
    return fits and len(shape) == 4 and skipped == 2


def _pad_anyhow(site: Site, pads: str, value: str, *, axes: bool = True) -> str:
    mode = (site.attribute("mode", "constant"), "constant")
    texts = [pads, value, site[3] if axes else "None"]
    return call("tensor.pad", site[0], *texts, mode=mode)


@emits("CenterCropPad")
def center_crop_pad(site: Site) -> str:
    wanted = constant_numbers(site, 1)
    return call("tensor.center_crop_pad", site[0], wanted, literal(site.attribute("axes")))


# Repeat and rearrange -----------------------------------------------------------------------------


@emits("Tile")
def tile_once(site: Site) -> str:
    return f"tensor.tile({site[0]}, {site[1]}, {site[2]})"


@emits("Tile", since=6)
def tile(site: Site) -> str:
    repeats = constant_numbers(site, 1)
    function = "torch.tile" if is_tensor(site) and site.constant(1) is not None else "tensor.tile"
    return f"{function}({site[0]}, {repeats})"


@emits("DepthToSpace")
def depth_to_space(site: Site) -> str:
    block, mode = site.attribute("blocksize"), site.attribute("mode", "DCR")
    if mode == "CRD" and is_tensor(site):
        return f"F.pixel_shuffle({site[0]}, {block})"
    return call("tensor.depth_to_space", site[0], str(block), mode=(mode, "DCR"))


@emits("SpaceToDepth")
def space_to_depth(site: Site) -> str:
    block, mode = site.attribute("blocksize"), site.attribute("mode", "DCR")
    if mode == "CRD" and is_tensor(site):
        return f"F.pixel_unshuffle({site[0]}, {block})"
    return call("tensor.space_to_depth", site[0], str(block), mode=(mode, "DCR"))


@emits("Col2Im")
def col2im(site: Site) -> str:
    image, block = (constant_numbers(site, index) for index in (1, 2))
    pads = site.attribute("pads")
    options = {name: site.attribute(name) for name in ("strides", "dilations")}
    extents = site.constant(1)
    spatial = 0 if extents is None else extents.size
    even = pads is None or pads[: len(pads) // 2] == pads[len(pads) // 2 :]
    if spatial == 2 and even and site.dtype(0) in FLOATS and site.constant(2) is not None:
        texts = [site[0], image, block]
        for name, given in (
            ("dilation", options["dilations"]),
            ("padding", pads and pads[: len(pads) // 2]),
            ("stride", options["strides"]),
        ):
            if given is not None and len(set(given)) > 0:
                texts.append(f"{name}={literal(merged(given))}")
        return f"F.fold({', '.join(texts)})"
    given = {"dilations": options["dilations"], "pads": pads, "strides": options["strides"]}
    return call("tensor.col2im", site[0], image, block, **{k: (v, None) for k, v in given.items()})


@emits("ReverseSequence")
def reverse_sequence(site: Site) -> str:
    batch, time = site.attribute("batch_axis", 1), site.attribute("time_axis", 0)
    return f"tensor.reverse_sequence({site[0]}, {site[1]}, {time}, {batch})"


@emits("Trilu")
def trilu(site: Site) -> str:
    function = "triu" if site.attribute("upper", 1) else "tril"
    offset = constant_number(site, 1) if site.has(1) else "0"
    owner = "torch" if computable(site) else "tensor"
    return (
        f"{owner}.{function}({site[0]})"
        if offset == "0"
        else f"{owner}.{function}({site[0]}, {offset})"
    )


# Make ---------------------------------------------------------------------------------------------


@emits("ConstantOfShape")
def constant_of_shape(site: Site) -> str:
    value = site.attribute("value")
    dtype = DType.F32 if value is None else value.dtype
    item: Any = 0 if value is None else value.array.reshape(-1)[0]
    if dtype is DType.STRING:
        item = str(item)
    elif dtype in (DType.C64, DType.C128):
        item = complex(item)
    elif dtype in INTEGERS or dtype is DType.BOOL:
        item = item.item()
    else:
        item = float(item)
    if dtype in NUMPY_TYPES:
        return f"tensor.full({constant_numbers(site, 0)}, {literal(item)}, {torch_type(dtype)})"
    dims = site.constant(0)
    wanted = f"{site[0]}.tolist()" if dims is None else literal(tuple(dims.reshape(-1).tolist()))
    if not item:
        return f"torch.zeros({wanted}, dtype={torch_type(dtype)})"
    return f"torch.full({wanted}, {literal(item)}, dtype={torch_type(dtype)})"


@emits("EyeLike")
def eye_like(site: Site) -> str:
    to = site.attribute("dtype")
    dtype = site.dtype(0) if to is None else DType.from_onnx(to)
    kind = f"{site[0]}.dtype" if dtype is None else torch_type(dtype)
    return call("tensor.eye", f"{site[0]}.shape", kind, k=(site.attribute("k", 0), 0))


@emits("Range")
def arange(site: Site) -> str:
    known = [one_number(site.constant(index)) for index in range(3)]
    dtype = site.dtype(0)
    start, limit, delta = known
    if None in known or dtype not in INTEGERS or not delta:
        return f"tensor.arange({site[0]}, {site[1]}, {site[2]})"
    if start is None or limit is None or (limit - start) / delta < 0:
        return f"torch.zeros((0,), dtype={torch_type(dtype)})"
    numbers = ", ".join(literal(number) for number in known)
    return f"torch.arange({numbers}, dtype={torch_type(dtype)})"
