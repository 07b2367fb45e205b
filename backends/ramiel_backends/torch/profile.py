"""Times each op of a sequential model.py where it runs: a clock is read after every op."""

from __future__ import annotations

import ast
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramiel_backends import sources, weights
from ramiel_backends.runtime import backend_torch
from ramiel_backends.runtime.backend import convert
from ramiel_backends.runtime.weights import Weights
from ramiel_backends.torch.emit import Source
from ramiel_ir.machine import rounds_of

_CLOCK = "_clock"


def profile(
    source: Source, inputs: Mapping[str, Any], threads: int, rounds: int
) -> dict[str, float]:
    """Median µs of each op, by its label, of a plan of one worker.

    A round is one inference; the first two are not counted.
    """
    labels = {
        name: value.op.label.removeprefix("%")
        for value, name in source.names.items()
        if value.op is not None
    }
    tree = _with_clock(ast.parse(source.text), labels)
    seen: dict[str, list[float]] = {}
    backend = backend_torch.make()
    given = {name: convert(value, backend.from_numpy) for name, value in inputs.items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources.copy_library(folder, source.libraries)
        weights.write_weights(source.weights, folder)
        module: dict[str, Any] = {"__name__": "profiled"}
        sys.path.insert(0, scratch)
        try:
            exec(compile(tree, "model.py", "exec"), module)
        finally:
            sys.path.remove(scratch)
            for name in [name for name in sys.modules if name.split(".")[0] == sources.LIBRARY]:
                del sys.modules[name]
        backend.start(threads)
        try:
            run = module["WORKERS"][0](Weights(folder, backend.weight))
            for turn in rounds_of(rounds + 2):
                marks: list[tuple[str, float]] = []
                module[_CLOCK] = _clock_into(marks)
                with backend.guard():
                    start = time.perf_counter()
                    run(_Port(given))
                if turn >= 2:
                    _collect(seen, marks, start)
        finally:
            backend.stop()
    return {label: 1e6 * statistics.median(found) for label, found in seen.items()}


def _clock_into(marks: list[tuple[str, float]]) -> Any:
    def clock(label: str) -> None:
        marks.append((label, time.perf_counter()))

    return clock


def _collect(seen: dict[str, list[float]], marks: list[tuple[str, float]], start: float) -> None:
    """Add the times of one round; an op of several statements takes the time of all."""
    times: dict[str, float] = {}
    for label, end in marks:
        times[label] = times.get(label, 0.0) + end - start
        start = end
    for label, seconds in times.items():
        seen.setdefault(label, []).append(seconds)


class _Port:
    """Gives inputs, takes outputs: a plan of one worker needs nothing else."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs

    def input(self, name: str, sample: int = 0) -> Any:
        return self.inputs[name]

    def output(self, name: str, value: Any, sample: int = 0) -> None:
        pass


def _with_clock(tree: ast.Module, labels: Mapping[str, str]) -> ast.Module:
    """The program with `_clock("x")` after each statement of `run` that makes a result of op x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "run":
            body: list[ast.stmt] = []
            for statement in node.body:
                body.append(statement)
                made = [labels[name] for name in _assigned(statement) if name in labels]
                if made:
                    mark = f"{_CLOCK}({made[0]!r})"
                    body.append(ast.parse(mark).body[0])
            node.body = body
    return ast.fix_missing_locations(tree)


def _assigned(statement: ast.stmt) -> list[str]:
    """The names a statement assigns, in the order of the text."""
    if isinstance(statement, ast.Assign):
        roots: list[ast.AST] = list(statement.targets)
    elif isinstance(statement, (ast.If, ast.For, ast.While)):
        roots = [statement]
    else:
        return []
    return [
        node.id
        for root in roots
        for node in ast.walk(root)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
