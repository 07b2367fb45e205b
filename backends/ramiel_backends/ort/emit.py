"""Writes an ort artifact: model.py, and the sessions' model files with the weights they share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramiel_backends.ort.files import ModelFiles
from ramiel_backends.ort.fusion import choose_segments
from ramiel_backends.ort.identifiers import Identifiers
from ramiel_backends.ort.sessions import FusedGraph
from ramiel_backends.runtime.backend_ort import HOST, host
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.plan import Compute, Message, Plan, Segment, Timeline, computed_outputs

PORTABLE = "portable.onnx"
_HARDWARE_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
_WIDTH = 96


@dataclass(frozen=True)
class Call:
    """One call of a session: the ops it runs for one sample, what they read and what others need."""

    ops: tuple[Op, ...]
    sample: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    micros: float


@dataclass(frozen=True)
class Stage:
    """One segment as calls: it receives, calls, sends. Each call is for one sample."""

    receives: tuple[int, ...]
    calls: tuple[Call, ...]
    sends: tuple[int, ...]


def is_hardware_specific(graph: Graph) -> bool:
    """Whether the graph holds ops whose layout depends on the CPU that fused it."""
    return any(op.domain in _HARDWARE_DOMAINS for op in graph.walk())


def emit(plan: Plan, timeline: Timeline, folder: Path) -> tuple[str, list[Path]]:
    """Write the model files; the text of model.py, and the files that only we write."""
    if not plan.graph.ops:
        return _Text().finish([], None), []
    if plan.is_sequential:
        return _emit_sequential(plan, timeline, folder)
    return _emit_parallel(plan, timeline, folder)


def _emit_sequential(plan: Plan, timeline: Timeline, folder: Path) -> tuple[str, list[Path]]:
    graph = plan.graph.portable if isinstance(plan.graph, FusedGraph) else plan.graph
    whole = _whole(graph)
    text = _Text()
    micros = _micros(timeline.makespan)
    text.worker(
        "worker_0",
        f"Worker 0: {_count(whole.ops)} in one session, predicted {micros} µs.",
        [(f"weights.model({PORTABLE!a})", "")],
        [Stage((), tuple(_of_sample(whole, sample) for sample in range(plan.samples)), ())],
        [0] * plan.samples,
        (),
    )
    with ModelFiles(folder, "portable.data") as files:
        files.write(PORTABLE, whole.ops, whole.inputs, whole.outputs)
    summary = f"{_count(whole.ops)} in one session; predicted {micros} µs."
    return text.finish(["worker_0"], None, summary), files.written


def _of_sample(call: Call, sample: int) -> Call:
    return Call(call.ops, sample, call.inputs, call.outputs, call.micros)


def _emit_parallel(plan: Plan, timeline: Timeline, folder: Path) -> tuple[str, list[Path]]:
    text = _Text()
    (folder / "segments").mkdir()
    durations = {
        span.step: span.end - span.start
        for row in timeline.rows
        for span in row
        if isinstance(span.step, Compute)
    }
    checked: list[Path] = []
    names: list[str] = []
    total = 0
    with ModelFiles(folder / "segments", "weights.data") as files:
        written: dict[object, str] = {}
        for worker, segments in enumerate(choose_segments(plan, timeline)):
            stages = list(_stages(plan, worker, segments, durations))
            calls = [call for stage in stages for call in stage.calls]
            sessions: list[tuple[str, str]] = []
            for number, call in enumerate(calls):
                shape = (call.ops, call.inputs, call.outputs)
                if shape not in written:
                    written[shape] = f"segments/w{worker}_s{number:03}.onnx"
                    files.write(Path(written[shape]).name, *shape)
                sessions.append(
                    (
                        f"weights.segment({written[shape]!a})",
                        f"{_count(call.ops)}, {_micros(call.micros)} µs",
                    )
                )
            total += len(calls)
            names.append(f"worker_{worker}")
            busy = _micros(sum(call.micros for call in calls))
            text.worker(
                names[-1],
                f"Worker {worker}: {_count([op for call in calls for op in call.ops])} in "
                f"{len(calls)} segments, predicted {busy} µs.",
                sessions,
                stages,
                list(range(len(calls))),
                plan.messages,
            )
    checked += files.written
    portable = None
    if is_hardware_specific(plan.graph):
        path = folder / HOST
        path.write_text(json.dumps(host(), indent=1) + "\n", encoding="utf-8")
        checked.append(path)
        if isinstance(plan.graph, FusedGraph):
            portable = "portable"
            whole = _whole(plan.graph.portable)
            text.worker(
                portable,
                "For other machines: the whole model in one session.",
                [(f"weights.model({PORTABLE!a})", "")],
                [Stage((), tuple(_of_sample(whole, sample) for sample in range(plan.samples)), ())],
                [0] * plan.samples,
                (),
            )
            with ModelFiles(folder, "portable.data") as files:
                files.write(PORTABLE, whole.ops, whole.inputs, whole.outputs)
            checked += files.written
    summary = (
        f"{_count(plan.graph.ops)} in {total} segments on {len(names)} workers; "
        f"predicted {_micros(timeline.makespan)} µs."
    )
    return text.finish(names, portable, summary), checked


def _whole(graph: Graph) -> Call:
    read = {value for op in graph.ops for value in op.reads}
    inputs = tuple(value for value in graph.inputs if value in read)
    return Call(tuple(graph.ops), 0, inputs, tuple(computed_outputs(graph)), 0.0)


def _stages(
    plan: Plan, worker: int, segments: Sequence[Segment], durations: dict[Compute, float]
) -> Iterator[Stage]:
    """The segments as calls. A segment that computes for several samples is one call for each run."""
    here = {(step.op, step.sample) for s in segments for step in s.computes}
    sent = {
        (plan.messages[number].value, plan.messages[number].sample)
        for segment in segments
        for number in segment.sends
    }
    for segment in segments:
        calls = []
        for run in _runs(segment.computes):
            ops, sample = tuple(step.op for step in run), run[0].sample
            inside = set(ops)
            made = [value for op in ops for value in op.writes]
            outputs = [
                value
                for value in made
                if value.is_output
                or (value, sample) in sent
                or any(op not in inside and (op, sample) in here for op in value.users())
            ]
            known = set(made)
            reads = dict.fromkeys(value for op in ops for value in op.reads)
            inputs = [value for value in reads if value.weight is None and value not in known]
            if outputs:
                micros = sum(durations.get(step, 0.0) for step in run)
                calls.append(Call(ops, sample, tuple(inputs), tuple(outputs), micros))
        yield Stage(segment.receives, tuple(calls), segment.sends)


def _runs(computes: Iterable[Compute]) -> list[list[Compute]]:
    """Maximal runs of steps for the same sample."""
    runs: list[list[Compute]] = []
    for step in computes:
        if not runs or runs[-1][0].sample != step.sample:
            runs.append([])
        runs[-1].append(step)
    return runs


def _count(ops: Sequence[Op]) -> str:
    return f"{len(ops)} op" + "s" * (len(ops) != 1)


def _micros(micros: float) -> str:
    return f"{micros:,.0f}"


class _Text:
    """The text of model.py. Model text enters it as ascii() literals only, in `port` calls."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def worker(
        self,
        name: str,
        doc: str,
        sessions: Sequence[tuple[str, str]],
        stages: Sequence[Stage],
        session_of_call: Sequence[int],
        messages: Sequence[Message],
    ) -> None:
        """Append a maker: its sessions, then `run` with one line per receive, call and send."""
        names = Identifiers(("weights", "port", "run"))
        calls = [names.fresh(f"segment_{n}" if messages else "model") for n in range(len(sessions))]
        lines = self._lines
        lines += ["", "", f"def {name}(weights):", f'    """{doc}"""']
        for call, (expression, comment) in zip(calls, sessions, strict=True):
            lines.append(f"    {call} = {expression}" + (f"  # {comment}" if comment else ""))
        lines += ["", "    def run(port):"]
        body = len(lines)
        local: dict[tuple[Value, int], str] = {}
        number = 0

        def name_of(value: Value, sample: int) -> str:
            if (value, sample) not in local:
                local[value, sample] = names.fresh(value.name + (f"_{sample}" if sample else ""))
            return local[value, sample]

        def sampled(sample: int) -> str:
            return f", {sample}" if sample else ""

        for stage in stages:
            for n in stage.receives:
                message = messages[n]
                target = name_of(message.value, message.sample)
                lines.append(
                    f"        {target} = port.receive({n})  # from worker {message.source}"
                )
            for call in stage.calls:
                for value in call.inputs:
                    if value.op is None and (value, call.sample) not in local:
                        target = name_of(value, call.sample)
                        given = f"{value.name!a}{sampled(call.sample)}"
                        lines.append(f"        {target} = port.input({given})")
                operands = [name_of(value, call.sample) for value in call.inputs]
                results = [name_of(value, call.sample) for value in call.outputs]
                lines += _call(results, calls[session_of_call[number]], operands)
                number += 1
                for value in call.outputs:
                    if value.is_output:
                        given = f"{value.name!a}, {name_of(value, call.sample)}"
                        lines.append(f"        port.output({given}{sampled(call.sample)})")
            for n in stage.sends:
                message = messages[n]
                given = name_of(message.value, message.sample)
                lines.append(f"        port.send({n}, {given})  # to worker {message.target}")
        if len(lines) == body:
            lines.append("        pass")
        lines += ["", "    return run"]

    def finish(self, workers: Sequence[str], portable: str | None, summary: str = "0 ops.") -> str:
        """The whole of model.py."""
        lines = [f'"""{summary}"""', *self._lines, "", ""]
        lines.append(f"WORKERS = [{', '.join(workers)}]")
        if portable is not None:
            lines.append(f"PORTABLE = {portable}")
        lines += ["", 'if __name__ == "__main__":', "    import runtime", ""]
        lines += ["    runtime.main(__file__)", ""]
        return "\n".join(lines)


def _call(results: Sequence[str], function: str, operands: Sequence[str]) -> list[str]:
    """`[a, b] = function(x, y)`, over several lines where one is too short."""
    line = f"        [{', '.join(results)}] = {function}({', '.join(operands)})"
    if len(line) <= _WIDTH:
        return [line]
    return [
        *_list("        [", results, f"        ] = {function}("),
        *_list("", operands, "        )")[1:],
    ]


def _list(opening: str, names: Sequence[str], closing: str) -> list[str]:
    lines = [opening, ""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 2 > _WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ' ' * 12}{name},"
    return [*lines, closing]
