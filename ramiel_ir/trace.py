"""When each worker does what: as predicted, as measured, and both as a file for trace viewers.

Measuring runs a copy of an artifact in which a clock is read after every statement of every worker.
It relies on what docs/artifact.md says of model.py: makers listed in WORKERS, each with a function
`run(port)` that sends and receives by literal message numbers.
"""

from __future__ import annotations

import ast
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ramiel_ir.artifact import load
from ramiel_ir.plan import Compute, Plan, Send, Timeline

_HEAD = "from time import perf_counter as _clock\nimport numpy as _np"
Kind = Literal["compute", "send", "receive", "other"]


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker did from `start` to `end`, in µs; `message` is the number of a message."""

    kind: Kind
    label: str
    start: float
    end: float
    message: int | None = None

    @property
    def duration(self) -> float:
        """µs that it took."""
        return self.end - self.start


class _Statement(NamedTuple):
    """What a statement of `run` does."""

    kind: Kind
    label: str
    message: int | None = None


class _Clock(NamedTuple):
    """Where a worker writes its times, and of what."""

    path: Path
    statements: list[_Statement]


@dataclass(frozen=True)
class Trace:
    """What each worker did for one request, in order; µs from the first event's start."""

    rows: tuple[tuple[Event, ...], ...]

    @property
    def makespan(self) -> float:
        """µs until the last worker was done."""
        return max((row[-1].end for row in self.rows if row), default=0.0)


def predicted(plan: Plan, timeline: Timeline) -> Trace:
    """A simulated timeline as a trace."""
    rows = []
    for spans in timeline.rows:
        row = []
        for span in spans:
            if isinstance(span.step, Compute):
                op = span.step.op
                row.append(Event("compute", f"{op.label} {op.kind}", span.start, span.end))
            else:
                number = span.step.message
                kind: Kind = "send" if isinstance(span.step, Send) else "receive"
                label = str(plan.messages[number].value)
                row.append(Event(kind, label, span.start, span.end, number))
        rows.append(tuple(row))
    return Trace(tuple(rows))


def record(
    folder: str | os.PathLike[str], inputs: Mapping[str, Any], *, rounds: int = 30
) -> list[Trace]:
    """Run an artifact's copy so often, after a few unrecorded runs; one trace per run."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "recorded"
        shutil.copytree(folder, copy)
        source = copy / "model.py"
        tree = ast.parse(source.read_text(encoding="utf-8"))
        clocks: list[_Clock] = []
        for worker, run in enumerate(_runs(tree)):
            path = Path(scratch) / f"clock{worker}"
            clocks.append(_Clock(path, _instrument(run, path)))
        at = next(i for i, node in enumerate(tree.body) if isinstance(node, ast.FunctionDef))
        tree.body[at:at] = ast.parse(_HEAD).body
        source.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        with load(copy) as model:
            for _ in range(5):
                model.run(inputs)
            found = []
            for _ in range(rounds):
                model.run(inputs)
                found.append(_read(clocks))
            return found


def typical(traces: Sequence[Trace]) -> Trace:
    """The one whose makespan is the median."""
    middle = statistics.median_low(trace.makespan for trace in traces)
    return next(trace for trace in traces if trace.makespan == middle)


def chrome_trace(traces: Mapping[str, Trace]) -> dict[str, Any]:
    """The traces as the JSON that Perfetto and Chrome's tracing page read, a process for each.

    A thread is a worker; an arrow leads from each send to its receive.
    """
    events: list[dict[str, Any]] = []
    for process, (name, trace) in enumerate(traces.items(), 1):
        named = {"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}
        events.append(named)
        for worker, row in enumerate(trace.rows):
            where = {"pid": process, "tid": worker}
            label = {"name": f"worker {worker}"}
            events.append({"ph": "M", **where, "name": "thread_name", "args": label})
            for event in row:
                known = {"name": event.label, "cat": event.kind, "ts": event.start}
                events.append({"ph": "X", **where, **known, "dur": event.duration})
                if event.message is not None:
                    arrow = {
                        "name": "message",
                        "cat": "message",
                        "id": f"{process}.{event.message}",
                    }
                    end = {"ph": "s"} if event.kind == "send" else {"ph": "f", "bp": "e"}
                    events.append({**end, **where, **arrow, "ts": event.end})
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _runs(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The function `run` of each worker, in the order of WORKERS."""
    makers = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WORKERS":
            assert isinstance(node.value, ast.List)
            for maker in node.value.elts:
                inner = makers[ast.unparse(maker)].body
                yield next(
                    item
                    for item in inner
                    if isinstance(item, ast.FunctionDef) and item.name == "run"
                )


def _instrument(run: ast.FunctionDef, path: Path) -> list[_Statement]:
    """Read the clock before the first and after each statement, and write the times to a file."""
    found = [_describe(statement) for statement in run.body]
    body = ast.parse(f"_times = _np.empty({len(found) + 1})\n_times[0] = _clock()").body
    for index, statement in enumerate(run.body, 1):
        body += [statement, *ast.parse(f"_times[{index}] = _clock()").body]
    run.body = [*body, *ast.parse(f"_times.tofile({os.fspath(path)!r})").body]
    return found


def _describe(statement: ast.stmt) -> _Statement:
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name("port"), "send"), [number, value])):
            return _Statement("send", ast.unparse(value), ast.literal_eval(number))
        case ast.Assign([target], ast.Call(ast.Attribute(ast.Name("port"), "receive"), [number])):
            return _Statement("receive", ast.unparse(target), ast.literal_eval(number))
        case ast.Expr(call) | ast.Assign(_, ast.Call(ast.Attribute(ast.Name("port"))) as call):
            return _Statement("other", ast.unparse(call))
        case ast.Delete():
            return _Statement("other", "free")
        case ast.Assign([target]):
            return _Statement("compute", ast.unparse(target))
    return _Statement("compute", type(statement).__name__.lower())


def _read(clocks: Sequence[_Clock]) -> Trace:
    """What the clocks say of the last request."""
    times = [1e6 * np.fromfile(clock.path) for clock in clocks]
    first = min(float(row[0]) for row in times)
    return Trace(
        tuple(
            tuple(
                Event(kind, label, float(start) - first, float(end) - first, message)
                for (kind, label, message), start, end in zip(
                    clock.statements, row, row[1:], strict=False
                )
            )
            for row, clock in zip(times, clocks, strict=True)
        )
    )
