"""Model files whose weights lie in one data file that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import onnx_ir

from ramiel_ir.ir import DType, Op, Tensor, Value
from ramiel_ir.onnx_writer import piece_to_onnx

_PAGE = 4096
_SMALL = 1024
"""Bytes up to which a weight stays in the model file, where shape inference finds it at once."""


class ModelFiles:
    """Writes model files into a folder; a weight that several read is stored once.

    Weights are aligned to pages, so that they can be mapped. Use it as a context manager.
    """

    def __init__(self, folder: Path, data: str) -> None:
        self.written: list[Path] = []
        self._folder = folder
        self._data = folder / data
        self._file: Any = None
        self._places: dict[int, tuple[Tensor, int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(
        self, file: str, ops: Sequence[Op], inputs: Sequence[Value], outputs: Sequence[Value]
    ) -> Path:
        """Write the model of these ops as `file`."""
        model = piece_to_onnx(Path(file).stem, ops, inputs, outputs)
        for name, tensor in weights_of(ops).items():
            value = model.graph.initializers.get(name)
            if value is not None and (tensor.type.nbytes or 0) > _SMALL:
                value.const_value = self._external(name, tensor)
        path = self._folder / file
        path.write_bytes(onnx_ir.to_proto(model).SerializeToString())
        self.written.append(path)
        return path

    def _external(self, name: str, tensor: Tensor) -> onnx_ir.ExternalTensor:
        dtype, shape = onnx_ir.DataType(tensor.dtype.onnx_code), onnx_ir.Shape(tensor.shape)
        if id(tensor) not in self._places:
            if self._file is None:
                self._file = self._data.open("wb")
                self.written.append(self._data)
            start = -(-self._file.tell() // _PAGE) * _PAGE
            self._file.seek(start)
            self._file.write(onnx_ir.Tensor(tensor.array, dtype=dtype, shape=shape).tobytes())
            self._places[id(tensor)] = (tensor, start, self._file.tell() - start)
        _, start, length = self._places[id(tensor)]
        return onnx_ir.ExternalTensor(
            self._data.name,
            start,
            length,
            dtype,
            shape=shape,
            name=name,
            base_dir=self._folder,
        )


def weights_of(ops: Iterable[Op]) -> dict[str, Tensor]:
    """The weights of numbers that these ops read, captures included, by name."""
    return {
        value.name: value.weight
        for op in ops
        for value in op.reads
        if value.weight is not None and value.weight.dtype is not DType.STRING
    }
