"""From a plan to calls: what each session computes, reads and returns."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ramiel_backends.ort.fusion import cut
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.plan import Compute, Plan, Segment, Timeline, computed_outputs


@dataclass(frozen=True)
class Call:
    """One call of a session: its ops, the sample, what they read, what others need of them, µs."""

    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    sample: int = 0
    micros: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One segment: it receives, calls, sends. A call is for one sample."""

    receives: tuple[int, ...]
    calls: tuple[Call, ...]
    sends: tuple[int, ...]


def whole_model(graph: Graph, samples: int, outputs: Collection[str]) -> Stage:
    """The graph as one call per sample, for the outputs of these names.

    Others are constants, though it may take the passes to see it.
    """
    read = {value for op in graph.ops for value in op.reads}
    inputs = tuple(value for value in graph.inputs if value in read)
    computed = tuple(value for value in computed_outputs(graph) if value.name in outputs)
    ops = tuple(graph.ops)
    return Stage((), tuple(Call(ops, inputs, computed, sample) for sample in range(samples)), ())


def all_stages(plan: Plan, timeline: Timeline) -> list[list[Stage]]:
    """The segments of each worker."""
    micros = {
        span.step: span.end - span.start
        for row in timeline.rows
        for span in row
        if isinstance(span.step, Compute)
    }
    return [list(stages(plan, row, micros)) for row in map(cut, plan.workers)]


def stages(plan: Plan, row: Sequence[Segment], micros: Mapping[Compute, float]) -> Iterator[Stage]:
    """The segments of one worker; one that computes for several samples has a call for each run."""
    here = {(step.op, step.sample) for segment in row for step in segment.computes}
    messages = [plan.messages[number] for segment in row for number in segment.sends]
    sent = {(message.value, message.sample) for message in messages}
    for segment in row:
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
            reads = dict.fromkeys(value for op in ops for value in op.reads)
            inputs = [v for v in reads if v.weight is None and v.op not in inside]
            if outputs:
                time = sum(micros.get(step, 0.0) for step in run)
                calls.append(Call(ops, tuple(inputs), tuple(outputs), sample, time))
        yield Stage(segment.receives, tuple(calls), segment.sends)


def _runs(computes: Iterable[Compute]) -> list[list[Compute]]:
    """Maximal runs of steps for the same sample."""
    runs: list[list[Compute]] = []
    for step in computes:
        if not runs or runs[-1][0].sample != step.sample:
            runs.append([])
        runs[-1].append(step)
    return runs
