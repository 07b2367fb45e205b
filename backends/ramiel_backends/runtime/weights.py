"""Weights, mapped into memory and not copied.

weights.safetensors is an ordinary safetensors file. A type that safetensors lacks lies in it as U8
bytes; `__metadata__` then holds, under the weight's key, `{"dtype": …, "shape": …}` as JSON text.
Strings ("str") are written element by element: an 8-byte number, 2 * length + is_bytes, then UTF-8.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .dtypes import CODES, SIZES, STRING, numpy_dtype
from .encoding import read_strings
from .errors import ArtifactError

NAME = "weights.safetensors"

_SPELLINGS = {
    "BOOL": "bool",
    "U8": "u8",
    "I8": "i8",
    "F8_E5M2": "f8e5m2",
    "F8_E4M3": "f8e4m3fn",
    "F8_E8M0": "f8e8m0",
    "F8_E4M3FNUZ": "f8e4m3fnuz",
    "F8_E5M2FNUZ": "f8e5m2fnuz",
    "I16": "i16",
    "U16": "u16",
    "F16": "f16",
    "BF16": "bf16",
    "I32": "i32",
    "U32": "u32",
    "F32": "f32",
    "C64": "c64",
    "F64": "f64",
    "I64": "i64",
    "U64": "u64",
}


class Weights(Mapping[str, Any]):
    """The weights of the artifact in `folder` by key; each is mapped when first asked for.

    Nobody should write to one; if somebody does, a private copy of the page changes, not the file.
    """

    def __init__(self, folder: Path, convert: Callable[[Any], Any] = lambda array: array) -> None:
        self.folder = folder
        self._convert = convert
        self._found: dict[str, Any] = {}
        self._entries: dict[str, Any] = {}
        self._notes: dict[str, str] = {}
        path = folder / NAME
        if path.is_file():
            self._open(path)

    def _open(self, path: Path) -> None:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(size))
                self._notes = header.pop("__metadata__", {})
                self._entries = header
            except (ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
                raise ArtifactError(f"{path} is damaged: {error}") from error
            # Copy on write: torch wants memory that may be written.
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._data = 8 + size

    def __getitem__(self, key: str) -> Any:
        if key not in self._found:
            if key not in self._entries:
                raise KeyError(key)
            self._found[key] = self._convert(self._array(key))
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _array(self, key: str) -> Any:
        entry = self._entries[key]
        try:
            begin, end = entry["data_offsets"]
            name, shape = _SPELLINGS.get(entry["dtype"], ""), tuple(entry["shape"])
            if key in self._notes:
                note = json.loads(self._notes[key])
                name, shape = note["dtype"], tuple(note["shape"])
            if name == STRING:
                return read_strings(self._memory, self._data + begin, shape)[0]
            if prod(shape) * SIZES[CODES[name]] != end - begin:
                raise ValueError("its size does not fit its shape")
            dtype = numpy_dtype(CODES[name])
            array = np.ndarray(shape, dtype, self._memory, self._data + begin)
            return array if array.flags.aligned else array.copy()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{self.folder / NAME}: weight {key!r} is damaged: {error}"
            ) from error
