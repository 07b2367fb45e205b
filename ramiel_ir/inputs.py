"""Inputs for a model: read from files, or made from a seed; and outputs written to files."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.errors import ModelError, UnsupportedOpError, UsageError
from ramiel_ir.ir import Array, DType, Graph, Type, Value

_log = logging.getLogger("ramiel_ir")

RANGE_KEY = "ramiel.range."
"""Model metadata `ramiel.range.NAME` = "lo,hi" says which values an input takes (hi excluded)."""

Ranges = Mapping[str, tuple[float, float]]


def random_inputs(graph: Graph, *, seed: int = 0, ranges: Ranges | None = None) -> dict[str, Any]:
    """Seeded inputs by name. Symbolic dimensions become 1, with a warning.

    Values come from `ranges`, else from the model's metadata, else: normal floats, integers of 0
    and 1, both truth values. Raises `UnsupportedOpError` for inputs of which no example can be
    made.
    """
    rng = np.random.default_rng(seed)
    return {
        value.name: _random(value.type, rng, _range(graph, value, ranges or {}), value.name)
        for value in graph.inputs
    }


def _range(graph: Graph, value: Value, ranges: Ranges) -> tuple[float, float] | None:
    if value.name in ranges:
        return ranges[value.name]
    text = graph.metadata.get(RANGE_KEY + value.name)
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ModelError(f"the metadata {RANGE_KEY + value.name!r} is no range: {text!r}") from None
    return low, high


def _random(
    type: Type | None, rng: np.random.Generator, limits: tuple[float, float] | None, name: str
) -> Any:
    if type is not None and type.kind in ("sequence", "optional"):
        assert not isinstance(type.element, DType)
        item = _random(type.element, rng, limits, name)
        return [item] if type.kind == "sequence" else item
    if type is None or type.shape is None or not isinstance(type.element, DType):
        raise UnsupportedOpError(
            f"no example can be made for the input {name!r}: its type is unknown",
            hint="give inputs with --inputs, or a shape with --input-shape",
        )
    unknown = [dim for dim in type.shape if not isinstance(dim, int)]
    if unknown:
        _log.warning("input %r: dimensions %s are taken as 1", name, ", ".join(map(str, unknown)))
    shape = [dim if isinstance(dim, int) else 1 for dim in type.shape]
    return _random_array(type.element, shape, rng, limits)


def _random_array(
    dtype: DType,
    shape: Sequence[int],
    rng: np.random.Generator,
    limits: tuple[float, float] | None,
) -> Array:
    if dtype is DType.STRING:
        letters = rng.integers(97, 123, size=(*shape, 4))
        texts = ["".join(map(chr, word)) for word in letters.reshape(-1, 4)]
        return np.array(texts, dtype=object).reshape(shape)
    if dtype is DType.BOOL:
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.text[0] in "iu":
        low, high = limits or (0, 2)
        return np.asarray(rng.integers(int(low), int(high), shape)).astype(dtype.numpy)
    values = rng.uniform(*limits, size=shape) if limits else rng.standard_normal(shape)
    return np.asarray(values).astype(dtype.numpy)


def read_inputs(path: str | os.PathLike[str], graph_inputs: Sequence[str]) -> dict[str, Any]:
    """Inputs from an .npz, an .npy (for a model of one input), or a folder of `input_k.pb`.

    Raises `UsageError` for a file that is missing, damaged or of another kind.
    """
    source = Path(path)
    if source.is_dir():
        return _read_folder(source, graph_inputs)
    if not source.is_file():
        raise UsageError(f"there is no file {str(source)!r}")
    try:
        with source.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return {name: loaded[name] for name in loaded.files}
    except Exception:  # what numpy, zipfile and zlib raise has no class in common but this
        raise UsageError(
            f"{str(source)!r} is no .npz or .npy file that can be read without unpickling",
            hint="types that numpy lacks, and strings, come in a folder of input_k.pb",
        ) from None
    if len(graph_inputs) != 1:
        raise UsageError(f"{str(source)!r} is one array; the model takes {len(graph_inputs)}")
    return {graph_inputs[0]: loaded}


def _read_folder(folder: Path, graph_inputs: Sequence[str]) -> dict[str, Any]:
    from ramiel_ir.onnx_io import read_pb

    numbered = dict(enumerate(graph_inputs))
    found = {}
    for file in sorted(folder.glob("input_*.pb")):
        number = file.stem.removeprefix("input_")
        if not number.isdecimal() or int(number) not in numbered:
            raise UsageError(f"{str(file)!r} is for none of the model's {len(numbered)} inputs")
        found[numbered[int(number)]] = read_pb(file)
    if not found:
        raise UsageError(f"the folder {str(folder)!r} holds no input_0.pb")
    return found


def split_samples(inputs: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The inputs of each of `count` samples, along the first axis of every array."""
    for name, array in inputs.items():
        if np.ndim(array) == 0 or len(array) != count:
            raise UsageError(f"the input {name!r} needs a new first axis of {count} samples")
    return [{name: array[index] for name, array in inputs.items()} for index in range(count)]


def stack_samples(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The outputs of all samples, each along a new first axis; lists where shapes differ."""
    found: dict[str, Any] = {}
    for name in outputs[0]:
        values = [sample[name] for sample in outputs]
        shapes = {np.shape(value) if isinstance(value, np.ndarray) else None for value in values}
        found[name] = np.stack(values) if len(shapes) == 1 and None not in shapes else values
    return found


def write_outputs(path: str | os.PathLike[str], outputs: Mapping[str, Any]) -> None:
    """Write arrays as .npz. Raises `UsageError` for values that .npz cannot hold."""
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind in "OV":
            raise UsageError(
                f"the output {name!r} cannot be stored as .npz", hint="use the Python API for it"
            )
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in outputs.items():  # savez has arguments of its own, such as `file`
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, value, allow_pickle=False)
