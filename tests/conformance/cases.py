"""The conformance cases of the onnx package: models with inputs and the outputs they must give."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

CATEGORIES = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")

_PLAIN = frozenset(
    ["BOOL", "COMPLEX64", "COMPLEX128", "FLOAT16", "FLOAT", "DOUBLE"]
    + [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
)

_PACKAGE = Path(onnx.backend.test.__file__).parent


@dataclass(frozen=True)
class DataSet:
    """Inputs in the order of the graph's, and the expected outputs.

    Arrays are numpy (ml_dtypes where numpy lacks the type), strings objects of `str`, sequences
    lists, empty optionals None.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One model and its data; reading either may touch files."""

    name: str
    category: str
    path: Path | None
    """Where the model is; the node cases are made in memory."""
    test: Any = None

    @property
    def model(self) -> onnx.ModelProto:
        """The model."""
        return self.test.model if self.path is None else onnx.load(self.path)

    @property
    def types(self) -> frozenset[str]:
        """What inputs and outputs are made of: names of ONNX element types, `sequence`, …"""
        graph = self.model.graph
        found: set[str] = set()
        for value in (*graph.input, *graph.output):
            found |= _parts(value.type)
        return frozenset(found)

    @property
    def is_plain(self) -> bool:
        """Whether inputs and outputs are tensors of types that numpy has by itself."""
        return self.types <= _PLAIN

    @property
    def is_training(self) -> bool:
        """Whether it is about training, of which no engine has anything."""
        return any(entry.domain == "ai.onnx.preview.training" for entry in self.model.opset_import)

    @property
    def input_names(self) -> list[str]:
        """The names of the graph's inputs, without those that are initializers."""
        graph = self.model.graph
        weights = {tensor.name for tensor in graph.initializer}
        return [value.name for value in graph.input if value.name not in weights]

    @property
    def data(self) -> list[DataSet]:
        """The data sets of the case."""
        if self.path is None:
            return [DataSet(_plain(given), _plain(wanted)) for given, wanted in self.test.data_sets]
        model = self.model
        if self.category == "real":
            return [_light_data(model, self.path)]
        folders = sorted(self.path.parent.glob("test_data_set_*"))
        return [
            DataSet(
                _read_all(folder, "input", model.graph.input),
                _read_all(folder, "output", model.graph.output),
            )
            for folder in folders
        ]


def cases(*categories: str) -> Iterator[Case]:
    """The cases of these categories, of all where none is given, by name."""
    for category in categories or CATEGORIES:
        if category == "node":
            yield from (Case(test.name, category, None, test) for test in _node_tests())
            continue
        for folder in sorted((_PACKAGE / "data" / category).iterdir()):
            if category == "real":
                name = f"light_{folder.name.removeprefix('test_')}.onnx"
                yield Case(folder.name, category, _PACKAGE / "data" / "light" / name)
            elif (folder / "model.onnx").exists():
                yield Case(folder.name, category, folder / "model.onnx")


@cache
def _node_tests() -> tuple[Any, ...]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    return tuple(sorted(tests, key=lambda test: str(test.name)))


def _parts(type: onnx.TypeProto) -> set[str]:
    kind = str(type.WhichOneof("value"))
    if kind == "tensor_type":
        return {onnx.TensorProto.DataType.Name(type.tensor_type.elem_type)}
    word = kind.removesuffix("_type")
    return {word} | _parts(getattr(type, kind).elem_type)


def _plain(values: Any) -> tuple[Any, ...]:
    return tuple(_plain_value(value) for value in values)


def _plain_value(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return _plain_value(numpy_helper.to_array(value))
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "OSU":
        return array
    texts = np.empty(array.size, dtype=object)
    texts[:] = [_text(item) for item in array.reshape(-1)]
    return texts.reshape(array.shape)


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _read_all(folder: Path, kind: str, values: Any) -> tuple[Any, ...]:
    """The values in `input_0.pb`, `input_1.pb` and so on."""
    found = []
    for index in range(len(list(folder.glob(f"{kind}_*.pb")))):
        data = (folder / f"{kind}_{index}.pb").read_bytes()
        found.append(_plain_value(_parse(data, values[index].type)))
    return tuple(found)


def _parse(data: bytes, type: onnx.TypeProto) -> Any:
    kind = type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _light_data(model: onnx.ModelProto, path: Path) -> DataSet:
    """The ramp that the light models' expected outputs were made with."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in weights:
            shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    outputs = []
    for index in range(len(model.graph.output)):
        data = path.with_name(f"{path.stem}_output_{index}.pb").read_bytes()
        outputs.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return DataSet(tuple(inputs), tuple(outputs))
