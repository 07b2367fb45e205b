"""Inputs for a model: read from files, or made from a seed; and outputs written to files."""

from __future__ import annotations

import logging
import math
import os
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.errors import ModelError, RamielError, UnsupportedOpError, UsageError
from ramiel_ir.ir import Array, DType, Graph, Type, Value
from ramiel_ir.printer import print_type

_log = logging.getLogger("ramiel_ir")

RANGE_KEY = "ramiel.range."
"""Model metadata `ramiel.range.NAME` = "lo,hi" says which values an input takes (hi excluded)."""

Ranges = Mapping[str, tuple[float, float]]


def example_inputs(
    graph: Graph,
    given: Mapping[str, Any] | None,
    *,
    seed: int = 0,
    ranges: Ranges | None = None,
) -> dict[str, Any]:
    """The inputs given, in the graph's order; random ones, as `random_inputs` does, without any.

    Raises `UsageError` where a name, an element type, a rank or a fixed dimension does not fit.
    """
    if given is None:
        return random_inputs(graph, seed=seed, ranges=ranges)
    _refuse_unknown(graph, given)
    for value in graph.inputs:
        if value.name not in given:
            raise UsageError(f"the input {value.name!r} is missing")
    return {value.name: _fitting(value.type, given[value.name], value) for value in graph.inputs}


def _refuse_unknown(graph: Graph, names: Iterable[str]) -> None:
    known = [value.name for value in graph.inputs]
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise UsageError(f"the model has no input {name!r}; there are: {there}")


def _fitting(type: Type | None, given: Any, value: Value) -> Any:
    """What is given for an input, or for a part of it that is of this type, if it fits."""
    if type is not None and type.kind in ("sequence", "optional"):
        assert not isinstance(type.element, DType)
        if type.kind == "optional":
            return None if given is None else _fitting(type.element, given, value)
        if not isinstance(given, (list, tuple)):
            raise UsageError(f"the input {value.name!r} is {print_type(value.type)}: give a list")
        return [_fitting(type.element, item, value) for item in given]
    array = _array(given)
    if array is None:
        raise UsageError(f"what is given for the input {value.name!r} is no array of a known type")
    found = Type(DType.from_numpy(array.dtype), array.shape)
    if type is not None and not _fits(type, found):
        expected = print_type(type)
        raise UsageError(f"the input {value.name!r} is {expected}, not {print_type(found)}")
    return array


def _array(given: Any) -> Array | None:
    """The array it is or makes, strings as objects; None where ONNX has no type for it."""
    try:
        array = np.asarray(given)
        dtype = DType.from_numpy(array.dtype)
    except Exception:  # an object of any class may raise what it likes
        return None
    if dtype is not DType.STRING:
        return array
    texts = array.astype(object)
    return texts if all(isinstance(text, (str, bytes)) for text in texts.flat) else None


def _fits(type: Type, found: Type) -> bool:
    """Whether an array of the type found, whose shape is known, is of this type."""
    if type.element not in (None, found.element):
        return False
    sizes = found.shape or ()
    return type.shape is None or (
        len(type.shape) == len(sizes)
        and all(
            dim == size for dim, size in zip(type.shape, sizes, strict=True) if isinstance(dim, int)
        )
    )


def random_inputs(graph: Graph, *, seed: int = 0, ranges: Ranges | None = None) -> dict[str, Any]:
    """Seeded inputs by name. Symbolic dimensions become 1, with a warning.

    Values come from `ranges`, else from the model's metadata, else: normal floats, integers of 0
    and 1, both truth values. Raises `UnsupportedOpError` for inputs of which no example can be
    made, `UsageError` for ranges of other inputs, for those that hold no value, and for inputs
    that do not fit into memory.
    """
    _refuse_unknown(graph, ranges or {})
    rng = np.random.default_rng(seed)
    found = {}
    for value in graph.inputs:
        limits = _range(graph, value, ranges or {})
        try:
            found[value.name] = _random(value.type, rng, limits, value.name)
        except (ValueError, OverflowError):  # numpy's, of limits out of order or not finite
            if limits is None:
                raise
            low, high = limits
            raise UsageError(
                f"no value of the input {value.name!r} can be drawn from {low:g} to {high:g}",
                hint="the upper limit is excluded",
            ) from None
    return found


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
    size = 8 * math.prod(max(dim, 1) for dim in shape)  # bytes: numbers of 64 bits are drawn
    try:
        if size > sys.maxsize:
            raise MemoryError  # numpy calls it a ValueError
        return _random_array(type.element, shape, rng, limits)
    except MemoryError:
        raise UsageError(
            f"the input {name!r}, {print_type(type)}, does not fit into memory: "
            f"it takes {size / 2**30:.3g} GiB to draw",
            hint="give a smaller shape with --input-shape, where it is not fixed, or --inputs",
        ) from None


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


def cannot_run(who: str, error: Exception) -> RamielError:
    """The error that says so of what failed on inputs that fit the graph."""
    return RamielError(
        f"{who} cannot run the model on these inputs: {' '.join(str(error).split())}",
        hint="symbolic dimensions count as 1: give a shape with --input-shape, or --inputs",
    )


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
    from ramiel_ir.onnx_reader import read_pb

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
        length = len(array) if isinstance(array, list) else next(iter(np.shape(array)), None)
        if length != count:
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
    arrays = {name: _plain(name, value) for name, value in outputs.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():  # savez has arguments of its own, such as `file`
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _plain(name: str, value: Any) -> Array:
    """The array as .npz can hold it: texts in an array of their own type."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O" and all(isinstance(element, str) for element in value.flat):
            return value.astype(str)
        if value.dtype.kind not in "OV":
            return value
    raise UsageError(
        f"the output {name!r} cannot be stored as .npz",
        hint="get it from Python: ramiel_ir.load(folder).run(inputs)",
    )
