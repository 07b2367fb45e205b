"""Element types by name, as the IR spells them; a type's code is its place in the table."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from .errors import ArtifactError


class ElementType(NamedTuple):
    """One element type: its name, the bytes of an element in memory, its numpy type's name."""

    name: str
    size: int
    numpy: str
    """A name in numpy, or in ml_dtypes where it starts with a point; empty for neither."""


# The order is part of what processes tell each other: add at the end only.
TABLE = (
    ElementType("f32", 4, "float32"),
    ElementType("f64", 8, "float64"),
    ElementType("f16", 2, "float16"),
    ElementType("i8", 1, "int8"),
    ElementType("i16", 2, "int16"),
    ElementType("i32", 4, "int32"),
    ElementType("i64", 8, "int64"),
    ElementType("u8", 1, "uint8"),
    ElementType("u16", 2, "uint16"),
    ElementType("u32", 4, "uint32"),
    ElementType("u64", 8, "uint64"),
    ElementType("bool", 1, "bool"),
    ElementType("c64", 8, "complex64"),
    ElementType("c128", 16, "complex128"),
    ElementType("bf16", 2, ".bfloat16"),
    ElementType("f8e4m3fn", 1, ".float8_e4m3fn"),
    ElementType("f8e4m3fnuz", 1, ".float8_e4m3fnuz"),
    ElementType("f8e5m2", 1, ".float8_e5m2"),
    ElementType("f8e5m2fnuz", 1, ".float8_e5m2fnuz"),
    ElementType("f8e8m0", 1, ".float8_e8m0fnu"),
    ElementType("u4", 1, ".uint4"),
    ElementType("i4", 1, ".int4"),
    ElementType("u2", 1, ".uint2"),
    ElementType("i2", 1, ".int2"),
    ElementType("f4e2m1", 1, ".float4_e2m1fn"),
    ElementType("f6e2m3", 1, ".float6_e2m3fn"),
    ElementType("f6e3m2", 1, ".float6_e3m2fn"),
    ElementType("c32", 4, ""),
)
CODES = {row.name: code for code, row in enumerate(TABLE)}
SIZES = tuple(row.size for row in TABLE)
STRING = "str"
NATIVE = {
    row.name: np.dtype(row.numpy) for row in TABLE if row.numpy and not row.numpy.startswith(".")
}
"""The numpy types that numpy has by itself."""

_cache: dict[int, np.dtype[Any]] = {}
_codes: dict[np.dtype[Any], int] = {dtype: CODES[name] for name, dtype in NATIVE.items()}


def numpy_dtype(code: int) -> np.dtype[Any]:
    """The numpy type of the element type with this code.

    Raises ArtifactError where numpy has none and ml_dtypes is not there to provide it.
    """
    if code not in _cache:
        row = TABLE[code]
        source: Any = np
        if row.numpy.startswith("."):
            try:
                source = importlib.import_module("ml_dtypes")
            except ImportError:
                source = None
        found = getattr(source, row.numpy.lstrip("."), None) if row.numpy else None
        if found is None:
            raise ArtifactError(f"numpy cannot hold {row.name}: install ml_dtypes")
        _cache[code] = np.dtype(found)
    return _cache[code]


def code_of(dtype: np.dtype[Any]) -> int | None:
    """The code of a numpy type, None where the table has none."""
    code = _codes.get(dtype)
    if code is None:
        spelled = "." + dtype.name
        for code, row in enumerate(TABLE):
            if row.numpy == spelled:
                return code
        return None
    return code
