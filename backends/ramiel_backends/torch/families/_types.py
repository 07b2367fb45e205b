"""What rows ask about element types, shapes and constants, and how they write the answers."""

from __future__ import annotations

import math
from typing import Any

from ramiel_backends.torch.families._calls import sizes
from ramiel_backends.torch.table import TABLE, Row, Site, literal
from ramiel_ir.ir import Array, DType

TORCH_TYPES: dict[DType, str] = {
    DType.F32: "torch.float32",
    DType.U8: "torch.uint8",
    DType.I8: "torch.int8",
    DType.U16: "torch.uint16",
    DType.I16: "torch.int16",
    DType.I32: "torch.int32",
    DType.I64: "torch.int64",
    DType.BOOL: "torch.bool",
    DType.F16: "torch.float16",
    DType.F64: "torch.float64",
    DType.U32: "torch.uint32",
    DType.U64: "torch.uint64",
    DType.C64: "torch.complex64",
    DType.C128: "torch.complex128",
    DType.BF16: "torch.bfloat16",
    DType.F8E4M3FN: "torch.float8_e4m3fn",
    DType.F8E4M3FNUZ: "torch.float8_e4m3fnuz",
    DType.F8E5M2: "torch.float8_e5m2",
    DType.F8E5M2FNUZ: "torch.float8_e5m2fnuz",
    DType.F8E8M0: "torch.float8_e8m0fnu",
}
"""The element types that torch has; values of the others are numpy arrays."""

NUMPY_TYPES: dict[DType, str] = {
    DType.STRING: "object",
    DType.U4: "uint4",
    DType.I4: "int4",
    DType.F4E2M1: "float4_e2m1fn",
    DType.U2: "uint2",
    DType.I2: "int2",
    DType.F6E2M3: "float6_e2m3fn",
    DType.F6E3M2: "float6_e3m2fn",
}
"""The names of the element types that numpy, or ml_dtypes, has for torch."""

SMALL_FLOATS = (DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0)
FLOATS = (DType.F32, DType.F64, DType.F16, DType.BF16)
INTEGERS = (DType.I64, DType.I32, DType.I16, DType.I8, DType.U8, DType.U16, DType.U32, DType.U64)
_NO_KERNELS = {*SMALL_FLOATS, *NUMPY_TYPES, DType.U16, DType.U32, DType.U64}


def computable(site: Site, index: int = 0) -> bool:
    """Whether torch computes with the operand's element type; an unknown one is taken for one."""
    return site.dtype(index) not in _NO_KERNELS


def is_tensor(site: Site, index: int = 0) -> bool:
    """Whether the operand is a torch tensor; an unknown type is taken to be one."""
    return site.dtype(index) not in NUMPY_TYPES


def torch_type(dtype: DType) -> str:
    """The element type in generated code: `torch.int8`, or `"int4"` where torch has none."""
    return TORCH_TYPES[dtype] if dtype in TORCH_TYPES else literal(NUMPY_TYPES[dtype])


def one_number(array: Array | None) -> int | float | bool | None:
    """The number in an array of one, None where it is no such array or not a plain number."""
    if array is None or array.size != 1 or array.dtype.kind not in "fiub":
        return None
    found: int | float | bool = array.reshape(-1)[0].item()
    return found


def scalar(site: Site, index: int, other: int) -> str:
    """Operand `index`, as a literal where it is one number and `other` is no constant."""
    array, rank = site.constant(index), site.rank(other)
    value = one_number(array)
    if array is None or value is None or site.constant(other) is not None:
        return site[index]
    if array.ndim > (0 if rank is None else rank) or not math.isfinite(value):
        return site[index]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return site[index]
    return literal(value)


def constant_number(site: Site, index: int) -> str:
    """Operand `index` as a plain number: a literal where it is known now, else its `item()`."""
    value = one_number(site.constant(index))
    return f"{site[index]}.item()" if value is None else literal(value)


def constant_numbers(site: Site, index: int) -> str:
    """Operand `index` as plain numbers: a tuple where they are known now, else the operand."""
    array = site.constant(index)
    return site[index] if array is None else literal(tuple(array.reshape(-1).tolist()))


def known_shape(site: Site, index: int = 0) -> tuple[int, ...] | None:
    """The operand's shape where every dimension is a known number."""
    found = sizes(site, index)
    return None if found is None or None in found else tuple(size or 0 for size in found)


def from_front(axis: int, rank: int | None) -> int | None:
    """`axis` counted from the front, None where that takes a rank that is not known."""
    if axis >= 0:
        return axis
    return None if rank is None else axis + rank


def at_axis(value: str, axis: int, index: str, rank: int | None) -> str | None:
    """`value` indexed at one axis, as in `x[:, index]`; None where the axis cannot be placed."""
    place = from_front(axis, rank)
    if place is not None:
        return f"{value}[{':, ' * place}{index}]"
    return f"{value}[..., {index}]" if axis == -1 else None


def tuple_of(expressions: list[str]) -> str:
    """A tuple of expressions."""
    return f"({expressions[0]},)" if len(expressions) == 1 else f"({', '.join(expressions)})"


def typed(kind: str, template: str, otherwise: str, *, since: int = 1, **defaults: Any) -> None:
    """Add a row of two templates: the second is for types that torch has no kernels for."""

    def emit(site: Site) -> str:
        known = {name: site.attribute(name, value) for name, value in defaults.items()}
        texts = {name: literal(value) for name, value in known.items()}
        chosen = template if computable(site) else otherwise
        return chosen.format(*(site[i] for i in range(max(len(site.expressions), 8))), **texts)

    TABLE.add(Row(kind, "", since, emit))
