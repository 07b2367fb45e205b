"""Writes weights.safetensors, one tensor at a time; docs/artifact.md describes the file.

The file is an ordinary safetensors file: 8 bytes that hold the header's length, the header as JSON,
the data without gaps. It is written here and not by the safetensors package because that wants all
tensors in memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.ir import DType, Tensor

NAME = "weights.safetensors"

_ALIGNMENT = 64
_SPELLINGS = {
    DType.BOOL: "BOOL",
    DType.U8: "U8",
    DType.I8: "I8",
    DType.U16: "U16",
    DType.I16: "I16",
    DType.U32: "U32",
    DType.I32: "I32",
    DType.U64: "U64",
    DType.I64: "I64",
    DType.F16: "F16",
    DType.BF16: "BF16",
    DType.F32: "F32",
    DType.F64: "F64",
    DType.F8E4M3FN: "F8_E4M3",
    DType.F8E5M2: "F8_E5M2",
}
"""The types that every release of safetensors reads; the others are stored as bytes."""


def write_weights(weights: Mapping[str, Tensor], folder: Path) -> tuple[str, ...]:
    """Write the weights by key into `folder`; the names of the files written, none for no weights.

    Each tensor's bytes are asked for once, and twice for strings. Raises `ModelError` for detached
    weights.
    """
    if not weights:
        return ()
    header: dict[str, Any] = {}
    notes: dict[str, str] = {}
    offset = 0
    ordered = _ordered(weights)
    for key, tensor in ordered:
        size = _size(tensor)
        spelling = _SPELLINGS.get(tensor.dtype)
        shape = list(tensor.shape) if spelling else [size]
        header[key] = {
            "dtype": spelling or "U8",
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        if spelling is None:
            notes[key] = json.dumps({"dtype": tensor.dtype.text, "shape": list(tensor.shape)})
        offset += size
    if notes:
        header = {"__metadata__": notes, **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with (folder / NAME).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            for chunk in _chunks(tensor):
                file.write(chunk)
    return (NAME,)


def _ordered(weights: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Whole cache lines first, so that large tensors stay aligned; then large elements first."""
    return sorted(
        weights.items(),
        key=lambda item: (
            (_size(item[1]) % _ALIGNMENT != 0, -item[1].dtype.numpy.itemsize)
            if item[1].dtype is not DType.STRING
            else (True, 0)
        ),
    )


def _size(tensor: Tensor) -> int:
    """Bytes of the tensor in the file."""
    if tensor.dtype is DType.STRING:
        return sum(8 + len(data) for data, _ in _texts(tensor))
    return tensor.count * tensor.dtype.numpy.itemsize


def _texts(tensor: Tensor) -> Iterator[tuple[bytes, bool]]:
    for item in tensor.array.reshape(-1):
        is_bytes = isinstance(item, bytes)
        yield (item if is_bytes else str(item).encode()), is_bytes


def _chunks(tensor: Tensor) -> Iterable[bytes | memoryview]:
    """The bytes of the tensor in the file."""
    if tensor.dtype is DType.STRING:
        return [
            (2 * len(data) + is_bytes).to_bytes(8, "little") + data
            for data, is_bytes in _texts(tensor)
        ]
    array = np.ascontiguousarray(tensor.array, dtype=tensor.dtype.numpy)
    return [array.reshape(-1).view(np.uint8).data] if array.size else []
