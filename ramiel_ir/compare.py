"""Do the backends agree with the reference? And if not, at which op do they part?

The reference is ONNX Runtime with every optimisation off, `interpret` where it cannot load the
model or numpy lacks the type of an input or output. Tolerance: max|a − b| ≤ rtol · max|reference| +
atol; integers, bools and strings exact; NaN equals NaN; shapes and element types equal.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import Isolation
from ramiel_ir.costs import Costs
from ramiel_ir.driver import Compilation, Source, make_context, plan_model, read
from ramiel_ir.errors import RamielError
from ramiel_ir.inputs import Ranges, cannot_run, example_inputs, split_samples
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Type, Value
from ramiel_ir.onnx_writer import write_onnx

Samples = Sequence[Mapping[str, Any]]
"""Inputs or outputs of each sample, by name."""

_TIMEOUT = 600.0  # seconds for one inference; only a hang takes longer


@dataclass(frozen=True)
class Tolerance:
    """How far floats may be apart; `rtol` is relative to the largest reference; None: by type."""

    rtol: float | None = None
    atol: float | None = None

    def limit(self, reference: Any) -> float:
        """The greatest |a − b| allowed, 0 where values must be equal."""
        if _is_exact(reference):
            return 0.0
        coarse = reference.dtype.itemsize < 4
        rtol = self.rtol if self.rtol is not None else (1e-2 if coarse else 1e-3)
        atol = self.atol if self.atol is not None else (1e-2 if coarse else 1e-5)
        finite = np.abs(_as_number(reference))
        finite = finite[np.isfinite(finite)]
        return float(rtol * finite.max(initial=0.0) + atol)


@dataclass(frozen=True)
class Deviation:
    """How far a value is from its reference, and may be; `reason` where it is too far."""

    error: float = 0.0
    limit: float = 0.0
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it is within the tolerance."""
        return not self.reason


def _is_exact(array: Any) -> bool:
    """Whether it holds integers or truth values."""
    dtype = DType.from_numpy(array.dtype)
    return dtype is DType.BOOL or dtype.text[0] in "iu"


def _as_number(array: Any) -> Any:
    with np.errstate(invalid="ignore"):  # a NaN of few bits is signalling
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def deviation(reference: Any, found: Any, tolerance: Tolerance | None = None) -> Deviation:
    """Compare a value with its reference: arrays, lists of them, or None."""
    tolerance = tolerance or Tolerance()
    if reference is None or found is None:
        same = reference is None and found is None
        return Deviation(reason="" if same else "one of the two is an empty optional")
    if isinstance(reference, list) or isinstance(found, list):
        if not isinstance(found, list) or not isinstance(reference, list):
            return Deviation(reason="one of the two is a sequence")
        if len(reference) != len(found):
            return Deviation(reason=f"{len(found)} items, not {len(reference)}")
        items = [deviation(a, b, tolerance) for a, b in zip(reference, found, strict=True)]
        return max(items, key=lambda item: (not item.agrees, item.error), default=Deviation())
    reference, found = np.asarray(reference), np.asarray(found)
    if reference.shape != found.shape:
        return Deviation(reason=f"shape {found.shape}, not {reference.shape}")
    kinds = DType.from_numpy(reference.dtype), DType.from_numpy(found.dtype)
    if kinds[0] is not kinds[1]:
        return Deviation(reason=f"type {kinds[1].text}, not {kinds[0].text}")
    if kinds[0] is DType.STRING:
        pairs = zip(reference.reshape(-1), found.reshape(-1), strict=True)
        wrong = sum(str(a) != str(b) for a, b in pairs)
        return Deviation(reason=f"{wrong} strings differ" if wrong else "")
    limit = tolerance.limit(reference)
    error = _integer_error(reference, found) if _is_exact(reference) else _error(reference, found)
    reason = "" if error <= limit else f"max |a − b| is {error:.3g}, allowed {limit:.3g}"
    return Deviation(error, limit, reason)


def _integer_error(reference: Any, found: Any) -> float:
    """The greatest |a − b|; float64 would round integers of 64 bits until they are equal."""
    differ = reference != found
    pairs = zip(reference[differ], found[differ], strict=True)
    return float(max((abs(int(a) - int(b)) for a, b in pairs), default=0))


def _error(reference: Any, found: Any) -> float:
    """The greatest |a − b|, infinite where only one is NaN."""
    a, b = _as_number(reference), _as_number(found)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    return float(apart.max(initial=0.0))


class Reference:
    """The reference for one graph: ONNX Runtime unoptimised, else `interpret`.

    ONNX Runtime runs the file that the graph was read from, where there is one and it can: so that
    an error of ours in reading shows as well.
    """

    def __init__(self, graph: Graph, file: Path | None = None) -> None:
        self.graph = graph
        self.name = "interpret"
        self._session: Any = None
        if all(_is_native(value.type) for value in (*graph.inputs, *graph.outputs)):
            if file is not None:
                self._start(_session, file)
            if self._session is None:
                self._start(_session_of, graph)

    def _start(self, session: Callable[[Any], Any], source: Path | Graph) -> None:
        with suppress(Exception):  # it cannot load it, for whatever reason of its own
            self._session = session(source)
            self.name = "onnxruntime, optimisations off"

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name. Raises `RamielError` where it cannot run on these inputs."""
        if self._session is None:
            return interpret(self.graph, inputs)
        names = list(dict.fromkeys(value.name for value in self.graph.outputs))
        feeds = {value.name: inputs[value.name] for value in self.graph.inputs}
        try:
            return dict(zip(names, self._session.run(names, feeds), strict=True))
        except Exception as error:  # onnxruntime's errors have no class in common but this
            raise cannot_run("the reference", error) from error


def _is_native(type: Type | None) -> bool:
    """Whether numpy has such elements by itself: ONNX Runtime takes and gives no other arrays."""
    element: Type | DType | None = type
    while isinstance(element, Type):
        element = element.element
    return element is None or element.numpy.isbuiltin == 1


def _session_of(graph: Graph) -> Any:
    unique = graph.clone()
    unique.set_outputs(dict.fromkeys(unique.outputs))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "reference.onnx"
        write_onnx(unique, path)
        return _session(path)


def _session(file: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Comparison:
    """One backend on one number of workers against the reference.

    `seen` holds the deviation of every output; `first` says at which op they part, if they do.
    """

    backend: str
    workers: int
    used_workers: int
    seen: dict[str, Deviation]
    first: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every output is within the tolerance."""
        return all(item.agrees for item in self.seen.values())

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON would have it."""
        return {
            "backend": self.backend,
            "workers": self.workers,
            "used_workers": self.used_workers,
            "agrees": self.agrees,
            "max_error": self.error,
            "first_difference": self.first,
            "outputs": {
                name: {"error": item.error, "limit": item.limit, "reason": item.reason}
                for name, item in self.seen.items()
            },
        }

    @property
    def error(self) -> float:
        """The greatest |a − b| over all outputs."""
        return max((item.error for item in self.seen.values()), default=0.0)


def compare(
    source: Source,
    *,
    backends: Sequence[str] = ("torch", "ort"),
    workers: Sequence[int] = (2,),
    passes: str | None = None,
    costs: Costs | Mapping[str, Costs] | None = None,
    seed: int = 0,
    ranges: Ranges | None = None,
    inputs: Mapping[str, Any] | None = None,
    tolerance: Tolerance | None = None,
    isolation: Isolation | None = None,
    file: Path | None = None,
    **reading: Any,
) -> list[Comparison]:
    """Compile and run the model on each backend and worker count; compare with the reference.

    `file` is the ONNX file of a `source` that was read already, for the reference.
    Inputs are random, from `seed` and `ranges`, unless given. For a plan of several samples those
    that are given have a new first axis, and random ones are drawn for each sample.
    """
    graph = read(source, **reading)
    if isinstance(source, (str, os.PathLike)):
        file = Path(source)
    reference = Reference(graph, file)

    @cache
    def samples(count: int) -> tuple[Samples, Samples]:
        given: Sequence[Mapping[str, Any] | None] = [inputs] * count
        if inputs is not None and count > 1:
            given = split_samples(inputs, count)
        taken = [
            example_inputs(graph, sample, seed=seed + index, ranges=ranges)
            for index, sample in enumerate(given)
        ]
        return taken, [reference.run(sample) for sample in taken]

    found = []
    for backend in backends:
        for count in workers:
            context = make_context(workers=count, costs=costs, backend=backend)
            done = plan_model(graph, backend=backend, passes=passes, context=context)
            given, expected = samples(done.plan.samples)
            found.append(check(done, reference, given, expected, tolerance, isolation))
    return found


def check(
    done: Compilation,
    reference: Reference,
    inputs: Samples,
    expected: Samples,
    tolerance: Tolerance | None = None,
    isolation: Isolation | None = None,
) -> Comparison:
    """Run one compiled plan and compare; on a mismatch find the first op that differs.

    `inputs` and `expected` hold one dict per sample of the plan.
    """
    outputs = _run(done, inputs, isolation)
    seen = {name: _worst(name, expected, outputs, tolerance) for name in expected[0]}
    first = ""
    if not all(item.agrees for item in seen.values()):
        first = _locate(done, reference.graph, inputs, tolerance)
    return Comparison(done.backend.name, done.context.workers, len(done.plan.workers), seen, first)


def _worst(name: str, expected: Samples, found: Samples, tolerance: Tolerance | None) -> Deviation:
    """The deviation of one output in the sample that deviates most."""
    pairs = zip(expected, found, strict=True)
    items = [deviation(one[name], other[name], tolerance) for one, other in pairs]
    return max(items, key=lambda item: (not item.agrees, item.error))


def _run(done: Compilation, inputs: Samples, isolation: Isolation | None = None) -> Samples:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        write_artifact(done.plan, done.timeline, done.backend, folder)
        with load(folder, isolation=isolation) as model:
            if done.plan.samples == 1:
                return [model.run(inputs[0], timeout=_TIMEOUT)]
            return cast(Samples, model.run(list(inputs), timeout=_TIMEOUT))


def _locate(
    done: Compilation, original: Graph, inputs: Samples, tolerance: Tolerance | None
) -> str:
    """The first op whose result differs; values that fusion removed are skipped."""
    every = original.clone()
    every.set_outputs(_tensors(every))
    try:
        reference = Reference(every)
        expected = [reference.run(sample) for sample in inputs]
        graph = done.plan.graph
        before = graph.outputs
        graph.set_outputs([value for value in _tensors(graph) if value.name in expected[0]])
        try:
            outputs = _run(done, inputs, "thread")
        finally:
            graph.set_outputs(before)
    except RamielError as error:
        return f"an unknown op: {error}"
    for value in _tensors(graph):
        if value.name in expected[0]:
            seen = _worst(value.name, expected, outputs, tolerance)
            if not seen.agrees:
                return f"{value.op} ({seen.reason})"
    return "no op: each agrees by itself, only outputs of the plan differ"


def _tensors(graph: Graph) -> list[Value]:
    return [
        value
        for op in graph.ops
        for value in op.writes
        if value.type is None or value.type.kind == "tensor"
    ]
