"""`python model.py --inputs x.npz --outputs y.npz`."""

from __future__ import annotations

import argparse
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .dtypes import TABLE, code_of
from .errors import ArtifactError, InputError, WorkerError
from .session import Model, load


def main(file: str, argv: Sequence[str] | None = None) -> None:
    """Run the artifact that `file`, a model.py, belongs to; ends the program."""
    arguments = _parser().parse_args(argv)
    try:
        _run(Path(file).resolve().parent, arguments)
    except (ArtifactError, InputError, WorkerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run this model.")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="arrays by input name")
    parser.add_argument("--outputs", type=Path, metavar="Y.npz", help="where to write the outputs")
    parser.add_argument("--isolation", choices=("process", "thread"))
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="run N times, print times"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="deadline of each run")
    return parser


def _run(folder: Path, arguments: argparse.Namespace) -> None:
    arrays = _read(arguments.inputs)
    with load(folder, arguments.isolation) as model:
        count = model.manifest.wiring.samples
        inputs: Any = arrays if count == 1 else _split(arrays, count)
        times = []
        for _ in range(max(arguments.repeat, 1)):
            start = time.perf_counter()
            outputs = model.run(inputs, timeout=arguments.timeout)
            times.append((time.perf_counter() - start) * 1e3)
        if arguments.repeat > 1:
            figures = f"min {min(times):.3f} ms, median {median(times):.3f} ms"
            print(f"{len(times)} runs: {figures}", file=sys.stderr)
        results = outputs if count == 1 else _stack(model, outputs)
        _write(arguments.outputs, results)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise InputError(f"{path} is no .npz file")
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _split(arrays: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != count:
            raise InputError(f"input {name!r} must have a new first axis of {count} samples")
    return [{name: array[i] for name, array in arrays.items()} for i in range(count)]


def _stack(model: Model, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each output along a new first axis; a list where the samples' arrays differ in shape."""
    results: dict[str, Any] = {}
    for spec in model.manifest.outputs:
        values = [sample[spec.name] for sample in outputs]
        shapes = {getattr(value, "shape", None) for value in values}
        results[spec.name] = np.stack(values) if len(shapes) == 1 and None not in shapes else values
    return results


def _write(path: Path | None, results: Mapping[str, Any]) -> None:
    if path is None:
        for name, value in results.items():
            print(f"{name!r}: {_summary(value)}", file=sys.stderr)
        return
    arrays = {name: _plain(name, value) for name, value in results.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():  # savez has arguments of its own, such as `file`
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _summary(value: Any) -> str:
    if value is None or isinstance(value, list):
        return "none" if value is None else f"list of {len(value)}"
    code = code_of(value.dtype)
    return f"{'str' if code is None else TABLE[code].name}{list(value.shape)}"


def _plain(name: str, value: Any) -> Any:
    """The array as .npz can hold it."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        if all(isinstance(element, str) for element in value.flat):
            return value.astype(str)
        raise InputError(
            f"output {name!r}: .npz holds no bytes strings; runtime.load().run() gives it"
        )
    if not isinstance(value, np.ndarray) or value.dtype.kind == "V":
        raise InputError(
            f"output {name!r}: .npz cannot hold its type; runtime.load().run() gives it"
        )
    return value
