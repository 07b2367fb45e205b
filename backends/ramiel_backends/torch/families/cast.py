"""Changes of the element type."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import NUMPY_TYPES, SMALL_FLOATS, is_tensor, torch_type
from ramiel_backends.torch.table import Site, emits
from ramiel_ir.ir import DType
from ramiel_ir.pipeline import No

_NAMES = {
    "FLOAT": DType.F32,
    "UINT8": DType.U8,
    "INT8": DType.I8,
    "UINT16": DType.U16,
    "INT16": DType.I16,
    "INT32": DType.I32,
    "INT64": DType.I64,
    "BOOL": DType.BOOL,
    "FLOAT16": DType.F16,
    "DOUBLE": DType.F64,
    "UINT32": DType.U32,
    "UINT64": DType.U64,
}
"""How Cast named its target before opset 6."""


@emits("Cast")
def cast(site: Site) -> str | No:
    to = site.attribute("to")
    if isinstance(to, str):
        if to not in _NAMES:
            return No(f"Cast to {to!r} is not supported")
        return _cast(site, _NAMES[to])
    return _cast(site, DType.from_onnx(to))


@emits("CastLike")
def cast_like(site: Site) -> str:
    dtype = site.dtype(1)
    return f"{site[0]}.to({site[1]}.dtype)" if dtype is None else _cast(site, dtype)


@emits("BitCast")
def bit_cast(site: Site) -> str:
    to = DType.from_onnx(site.attribute("to"))
    if is_tensor(site) and to not in NUMPY_TYPES:
        return f"{site[0]}.view({torch_type(to)})"
    return f"cast.reinterpret({site[0]}, {torch_type(to)})"


def _cast(site: Site, to: DType) -> str:
    saturate = bool(site.attribute("saturate", 1))
    if to is DType.STRING:
        return f"cast.to_strings({site[0]})"
    if site.dtype(0) is DType.STRING:
        return f"cast.from_strings({site[0]}, {torch_type(to)})"
    if to is DType.F8E8M0:
        round_mode = (site.attribute("round_mode", "up"), "up")
        return call("cast.to_exponents", site[0], saturate=(saturate, True), round_mode=round_mode)
    if to in SMALL_FLOATS:
        return call("cast.to_float8", site[0], torch_type(to), saturate=(saturate, True))
    if to in NUMPY_TYPES:
        return f"cast.to_array({site[0]}, {torch_type(to)})"
    if not is_tensor(site):
        return f"cast.from_array({site[0]}, {torch_type(to)})"
    return f"{site[0]}.to({torch_type(to)})"
