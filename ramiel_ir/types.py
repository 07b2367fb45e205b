"""What is known of values, and constant data: `DType`, `Type`, `Tensor`, `Attribute`."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np

from ramiel_ir.errors import ModelError

Array = np.ndarray[Any, Any]
Dim = int | str | None
"""One dimension: a number of elements, a symbol shared by equal dimensions, or None for unknown."""


class DType(enum.Enum):
    """An element type: its spelling in the text, its ONNX number, its bits, its numpy type."""

    text: str
    onnx_code: int
    bits: int
    numpy: np.dtype[Any]

    def __init__(self, text: str, onnx_code: int, bits: int, numpy: Any) -> None:
        self.text, self.onnx_code, self.bits, self.numpy = text, onnx_code, bits, np.dtype(numpy)

    F32 = ("f32", 1, 32, np.float32)
    U8 = ("u8", 2, 8, np.uint8)
    I8 = ("i8", 3, 8, np.int8)
    U16 = ("u16", 4, 16, np.uint16)
    I16 = ("i16", 5, 16, np.int16)
    I32 = ("i32", 6, 32, np.int32)
    I64 = ("i64", 7, 64, np.int64)
    STRING = ("str", 8, 0, np.object_)
    BOOL = ("bool", 9, 8, np.bool_)
    F16 = ("f16", 10, 16, np.float16)
    F64 = ("f64", 11, 64, np.float64)
    U32 = ("u32", 12, 32, np.uint32)
    U64 = ("u64", 13, 64, np.uint64)
    C64 = ("c64", 14, 64, np.complex64)
    C128 = ("c128", 15, 128, np.complex128)
    BF16 = ("bf16", 16, 16, ml_dtypes.bfloat16)
    F8E4M3FN = ("f8e4m3fn", 17, 8, ml_dtypes.float8_e4m3fn)
    F8E4M3FNUZ = ("f8e4m3fnuz", 18, 8, ml_dtypes.float8_e4m3fnuz)
    F8E5M2 = ("f8e5m2", 19, 8, ml_dtypes.float8_e5m2)
    F8E5M2FNUZ = ("f8e5m2fnuz", 20, 8, ml_dtypes.float8_e5m2fnuz)
    U4 = ("u4", 21, 4, ml_dtypes.uint4)
    I4 = ("i4", 22, 4, ml_dtypes.int4)
    F4E2M1 = ("f4e2m1", 23, 4, ml_dtypes.float4_e2m1fn)
    F8E8M0 = ("f8e8m0", 24, 8, ml_dtypes.float8_e8m0fnu)
    U2 = ("u2", 25, 2, ml_dtypes.uint2)
    I2 = ("i2", 26, 2, ml_dtypes.int2)
    F6E2M3 = ("f6e2m3", 27, 6, ml_dtypes.float6_e2m3fn)
    F6E3M2 = ("f6e3m2", 28, 6, ml_dtypes.float6_e3m2fn)

    @staticmethod
    def from_onnx(code: int) -> DType:
        """The element type with this `TensorProto.DataType` number, else `ModelError`."""
        if code not in _BY_ONNX_CODE:
            raise ModelError(f"element type {code} is not one that ONNX defines")
        return _BY_ONNX_CODE[code]

    @staticmethod
    def from_numpy(dtype: np.dtype[Any]) -> DType:
        """The element type numpy arrays of `dtype` hold; every kind of text is a string."""
        if dtype.kind in "OSUT":
            return DType.STRING
        if dtype not in _BY_NUMPY:
            raise ModelError(f"numpy type {dtype} has no ONNX element type")
        return _BY_NUMPY[dtype]


_BY_ONNX_CODE = {dtype.onnx_code: dtype for dtype in DType}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class Type:
    """What is known of a value. `shape` None means unknown rank, which is not rank 0.

    A sequence or optional has a Type as its element and no shape. A value of which nothing is known
    has no Type at all: its `type` is None.
    """

    element: DType | Type | None
    shape: tuple[Dim, ...] | None = None
    kind: Literal["tensor", "sparse", "sequence", "optional"] = "tensor"

    @property
    def is_static(self) -> bool:
        """Whether element type and every dimension are known numbers."""
        return (
            self.kind == "tensor"
            and self.element is not None
            and self.shape is not None
            and all(isinstance(dim, int) for dim in self.shape)
        )

    @property
    def count(self) -> int | None:
        """How many elements a tensor of this type has, None where that is not known."""
        if self.kind != "tensor" or self.shape is None:
            return None
        sizes = [dim for dim in self.shape if isinstance(dim, int)]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    @property
    def nbytes(self) -> int | None:
        """Bytes of such a tensor as ONNX stores it; None where unknown, and for strings."""
        if self.count is None or not isinstance(self.element, DType) or not self.element.bits:
            return None
        return (self.count * self.element.bits + 7) // 8


class Tensor:
    """Constant data whose bytes are read when first asked for, and its digest.

    `load` returns a numpy array (ml_dtypes for the types numpy lacks, unpacked; objects of `str` or
    `bytes` for strings). A Tensor without `load` is detached: only its type and digest are known.
    """

    __slots__ = ("_array", "_digest", "_load", "type")

    def __init__(
        self,
        type: Type,
        load: Callable[[], Array] | None = None,
        *,
        digest: str | None = None,
    ) -> None:
        self.type = type
        self._load = load
        self._array: Array | None = None
        self._digest = digest

    @staticmethod
    def of(array: Array) -> Tensor:
        """The tensor that holds `array`."""
        tensor = Tensor(Type(DType.from_numpy(array.dtype), tuple(array.shape)), lambda: array)
        tensor._array = array
        return tensor

    @property
    def dtype(self) -> DType:
        """The element type."""
        assert isinstance(self.type.element, DType)
        return self.type.element

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, in elements."""
        return tuple(dim for dim in self.type.shape or () if isinstance(dim, int))

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_detached(self) -> bool:
        """Whether the bytes are elsewhere."""
        return self._load is None

    @property
    def array(self) -> Array:
        """The data. Raises `ModelError` when the tensor is detached."""
        if self._array is None:
            if self._load is None:
                raise ModelError(
                    "the weights of this model are detached from it",
                    hint="put the .weights.safetensors file beside the .ir file",
                )
            self._array = self._load()
        return self._array

    @property
    def digest(self) -> str:
        """128 bits of sha256, in hex, over element type, shape and bytes; computed once."""
        if self._digest is None:
            digest = hashlib.sha256(f"{self.dtype.text}{list(self.shape)}".encode())
            if self.dtype is DType.STRING:
                for item in self.array.reshape(-1):
                    data = item if isinstance(item, bytes) else str(item).encode()
                    digest.update(len(data).to_bytes(8, "little") + data)
            else:
                digest.update(np.ascontiguousarray(self.array).reshape(-1).view(np.uint8).data)
            self._digest = digest.hexdigest()[:32]
        return self._digest


AttributeKind = Literal[
    "int", "float", "string", "tensor", "type", "ints", "floats", "strings", "tensors", "types"
]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A compile-time argument of an op. The kind is kept, so that an empty list keeps its type.

    Floats are float32 values, as in ONNX. Strings are `str`, or `bytes` where they are not UTF-8.
    """

    kind: AttributeKind
    value: Any

    def __post_init__(self) -> None:
        if self.kind == "float":
            object.__setattr__(self, "value", _to_float32(self.value))
        elif self.kind == "floats":
            object.__setattr__(self, "value", tuple(_to_float32(item) for item in self.value))
        elif self.kind.endswith("s"):
            object.__setattr__(self, "value", tuple(self.value))

    @staticmethod
    def of(value: Any) -> Attribute:
        """The attribute a plain Python value stands for; an empty list has no kind: refused."""
        if isinstance(value, Attribute):
            return value
        if isinstance(value, (list, tuple)):
            kinds = {Attribute.of(item).kind for item in value}
            if kinds == {"int", "float"}:
                kinds = {"float"}
            if len(kinds) != 1 or next(iter(kinds)).endswith("s"):
                raise ModelError(f"{value!r} is not a list of one attribute kind")
            return Attribute(f"{kinds.pop()}s", value)  # type: ignore[arg-type]
        for types, kind in _KIND_OF_PYTHON:
            if isinstance(value, types):
                return Attribute(kind, value)
        raise ModelError(f"{type(value).__name__} cannot be an attribute")


def _to_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))


_KIND_OF_PYTHON: tuple[tuple[Any, AttributeKind], ...] = (
    ((int, np.integer), "int"),
    ((float, np.floating), "float"),
    ((str, bytes), "string"),
    (Tensor, "tensor"),
    (Type, "type"),
)
