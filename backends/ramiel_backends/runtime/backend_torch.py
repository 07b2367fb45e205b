"""torch values: tensors, and numpy arrays for the types torch lacks. The one file with torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from .backend import Memory
from .backend_numpy import NumpyBackend
from .dtypes import CODES, TABLE, code_of, numpy_dtype
from .layout import Layout, dense_layout

Tensor = torch.Tensor

_NAMES = {
    "f32": "float32",
    "f64": "float64",
    "f16": "float16",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "bool": "bool",
    "c64": "complex64",
    "c128": "complex128",
    "c32": "complex32",
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0": "float8_e8m0fnu",
}
_DTYPES: dict[int, Any] = {
    CODES[name]: getattr(torch, spelled)
    for name, spelled in _NAMES.items()
    if hasattr(torch, spelled)
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# The types that torch and numpy both have by themselves.
_SHARED = frozenset(row.numpy for row in TABLE if row.numpy and not row.numpy.startswith("."))


class TorchBackend(NumpyBackend):
    """Values are torch tensors where torch has the type, numpy arrays where it has not."""

    leaves_no_trace = False

    def __init__(self) -> None:
        super().__init__()
        self._threads = torch.get_num_threads()

    def key(self, value: Any) -> Hashable | None:
        """Type, dimensions and strides of a tensor; None for what is neither tensor nor array."""
        if isinstance(value, Tensor):
            return (value.dtype, value.shape, value.stride())
        return super().key(value)

    def layout(self, value: Any) -> Layout:
        """The layout of a copy of this tensor or array."""
        if not isinstance(value, Tensor):
            return super().layout(value)
        code = _CODES.get(value.dtype)
        if code is None or value.layout is not torch.strided:
            raise TypeError(f"a {value.layout} tensor of {value.dtype} cannot be sent")
        return dense_layout(code, tuple(value.shape), value.stride())

    def view(self, memory: Memory, offset: int, layout: Layout) -> Any:
        """A tensor, or for the types torch lacks an array, that lies in `memory`."""
        dtype = _DTYPES.get(layout.dtype)
        if dtype is None:
            return super().view(memory, offset, layout)
        if not layout.nbytes:
            return torch.empty(layout.shape, dtype=dtype)
        raw = torch.frombuffer(memory, dtype=torch.uint8, count=layout.nbytes, offset=offset)
        return raw.view(dtype).as_strided(layout.shape, layout.strides)

    def copier(self, view: Any) -> Callable[[Any], Any]:
        """A function that copies a value into `view`."""
        if not isinstance(view, Tensor):
            return super().copier(view)
        copy: Callable[[Any], Any] = view.copy_
        return copy

    def from_numpy(self, array: Any) -> Any:
        """A tensor on the array's memory where torch can, on a copy where it cannot."""
        code = code_of(array.dtype)
        if code is None or code not in _DTYPES:
            return array
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        if array.dtype.name in _SHARED:
            return torch.from_numpy(array)
        raw = array.view(f"u{array.dtype.itemsize}")
        return torch.from_numpy(raw).view(_DTYPES[code])

    def to_numpy(self, value: Any) -> Any:
        """An array on the tensor's memory."""
        if not isinstance(value, Tensor):
            return np.asarray(value)
        value = value.detach().resolve_conj().resolve_neg()
        dtype = numpy_dtype(_CODES[value.dtype])
        if dtype.name in _SHARED:
            return value.numpy()
        unsigned = {1: torch.uint8, 2: torch.uint16}[dtype.itemsize]
        return value.view(unsigned).numpy().view(dtype)

    def start(self, threads: int) -> None:
        """Set torch's intra-op threads, which parts of torch have one setting for per process."""
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    def stop(self) -> None:
        """Give the process back the thread count that it had."""
        torch.set_num_threads(self._threads)

    def guard(self) -> AbstractContextManager[Any]:
        """Inference mode: no autograd, no version counters."""
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode

    def weight(self, array: Any) -> Any:
        """A tensor on the mapped weight."""
        return self.from_numpy(array)


def make() -> TorchBackend:
    """A backend for artifacts whose values are torch tensors."""
    return TorchBackend()
