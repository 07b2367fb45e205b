"""`.ir` files: the text, and the bytes of its larger weights in a safetensors file beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ramiel_ir.errors import ModelError
from ramiel_ir.files import replacing
from ramiel_ir.ir import Array, DType, Graph, Tensor, Type
from ramiel_ir.laws import verify
from ramiel_ir.onnx_schema import check_schemas
from ramiel_ir.parser import parse_graph
from ramiel_ir.printer import print_graph

_NATIVE = frozenset(
    (
        DType.F32, DType.F64, DType.F16, DType.U8, DType.I8, DType.U16, DType.I16, DType.U32,
        DType.I32, DType.U64, DType.I64, DType.BOOL,
    )
)  # fmt: skip


def sidecar(path: str | os.PathLike[str]) -> Path:
    """Where the weights of an .ir file are: `x.ir` has `x.weights.safetensors`."""
    return Path(path).with_suffix(".weights.safetensors")


def write_ir(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the text, and beside it the constants that it names by digest; see `replacing`."""
    text = print_graph(graph)
    data = {tensor.digest: _pack(tensor) for tensor in _tensors(graph) if not tensor.is_detached}
    named = {digest: array for digest, array in data.items() if f"sha={digest}" in text}
    with replacing(path) as target:
        if named:
            save_file(named, sidecar(target))
        target.write_text(text)


def read_ir(path: str | os.PathLike[str]) -> Graph:
    """Read an .ir file; weights attach by digest when their file is there, else stay detached.

    Raises `ModelError` with line, column and a caret for text that does not parse.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        raise ModelError(f"there is no file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error}") from None
    return parse_with_weights(text, sidecar(path), what=str(path))


def parse_with_weights(text: str, weights: Path, *, what: str = "text") -> Graph:
    """Parse and verify IR text whose larger weights are in the file `weights`, if it exists."""
    keys: frozenset[str] = frozenset()
    if weights.is_file():
        try:
            with safe_open(weights, framework="numpy") as file:
                keys = frozenset(file.keys())
        except SafetensorError as error:
            raise ModelError(f"{str(weights)!r} cannot be read: {error}") from error

    def find(digest: str, type: Type) -> Tensor | None:
        if digest not in keys:
            return None
        return Tensor(type, _loader(weights, digest, type), digest=digest)

    graph = parse_graph(text, what=what, find_tensor=find)
    verify(graph)
    check_schemas(graph)
    return graph


def _tensors(graph: Graph) -> list[Tensor]:
    found = [value.weight for value in graph.weights if value.weight is not None]
    for op in graph.ops:
        for attribute in op.attributes.values():
            many = attribute.value if attribute.kind == "tensors" else (attribute.value,)
            found += [item for item in many if isinstance(item, Tensor)]
        for region in op.regions.values():
            found += _tensors(region)
    return found


def _pack(tensor: Tensor) -> Array:
    """The data as safetensors can hold it: raw bytes where it lacks the type."""
    if tensor.dtype in _NATIVE:
        return np.ascontiguousarray(tensor.array)
    if tensor.dtype is DType.STRING:
        parts = [_pack_text(item) for item in tensor.array.reshape(-1)]
        return np.frombuffer(b"".join(parts), np.uint8)
    return np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8)


def _pack_text(item: Any) -> bytes:
    data = item if isinstance(item, bytes) else str(item).encode()
    return (2 * len(data) + isinstance(item, bytes)).to_bytes(8, "little") + data


def _unpack(raw: Array, type: Type) -> Array:
    assert isinstance(type.element, DType) and type.shape is not None
    shape = [dim for dim in type.shape if isinstance(dim, int)]
    if type.element in _NATIVE:
        return raw.reshape(shape)
    if type.element is not DType.STRING:
        return raw.view(type.element.numpy).reshape(shape)
    data, offset = raw.tobytes(), 0
    array = np.empty(type.count or 0, object)
    for index in range(len(array)):
        mark = int.from_bytes(data[offset : offset + 8], "little")
        part = data[offset + 8 : offset + 8 + mark // 2]
        array[index] = part if mark % 2 else part.decode()
        offset += 8 + mark // 2
    return array.reshape(shape)


def _loader(path: Path, digest: str, type: Type) -> Callable[[], Array]:
    def load() -> Array:
        with safe_open(path, framework="numpy") as file:
            return _unpack(file.get_tensor(digest), type)

    return load
