"""From a plan to the source of model.py. docs/artifact.md says what the file looks like."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ramiel_backends import sources
from ramiel_backends.torch import gate, layout
from ramiel_backends.torch.names import Namespace, clean
from ramiel_backends.torch.regions import RegionTranslator
from ramiel_backends.torch.statements import (
    Comment,
    Statement,
    Writer,
    assign,
    free,
    reads,
    without_last_deletes,
)
from ramiel_ir.ir import Op, Tensor, Type, Value
from ramiel_ir.plan import Compute, Plan, Receive, Send, Timeline, aliases, computed_outputs

SMALL = 4096
"""Bytes up to which a tensor is not worth a `del`."""

_LISTED = 24
_IMPORTS = {
    "math": "import math",
    "np": "import numpy as np",
    "torch": "import torch",
    "F": "import torch.nn.functional as F",
}


@dataclass(frozen=True)
class Source:
    """The text of model.py, the weights it asks for by key, and the library modules it calls.

    `names` are the identifiers of the values that ops compute, for the first sample.
    """

    text: str
    weights: dict[str, Tensor]
    weight_keys: dict[Value, str]
    libraries: tuple[str, ...]
    names: dict[Value, str]


def write_source(plan: Plan, timeline: Timeline) -> Source:
    """The source for a plan, checked by the gate. Raises `RamielError` for an op without a row."""
    return _File(plan, timeline).write()


class _File:
    def __init__(self, plan: Plan, timeline: Timeline) -> None:
        self.plan = plan
        self.timeline = timeline
        self.known = sources.library_modules()
        workers = len(plan.workers) if plan.graph.ops else 0
        self.makers = [f"worker_{number}" for number in range(workers)]
        names = Namespace((*self.known, *self.makers))
        self.translator = RegionTranslator(names, plan.samples)
        self.inputs = {
            self.translator.name(value, sample): (value, sample)
            for value in plan.graph.inputs
            for sample in range(plan.samples)
        }
        self.outputs = set(computed_outputs(plan.graph))
        self.large: set[str] = set()
        self.kernels: set[str] = set()

    def write(self) -> Source:
        bodies = [self.body(number) for number in range(len(self.makers))]
        found = self.translator.weights.items()
        self.kernels = {key for value, key in found if _is_kernel(value)}
        read = {name for body in bodies for name in reads(body)}
        libraries = tuple(sorted(read & self.known))
        weight_keys = {
            value: self.translator.name(value, 0)
            for value in aliases(self.plan.graph).values()
            if value.weight is not None
        }
        writer = Writer()
        self.head(writer, read, libraries)
        for number, body in enumerate(bodies):
            self.maker(writer, number, body)
        self.foot(writer)
        text = "\n".join(writer.lines) + "\n"
        gate.check_source(text, libraries)
        weights = {
            key: _channels_last(value.weight) if key in self.kernels else value.weight
            for value, key in self.translator.weights.items()
            if value.weight is not None and (key in read or value in weight_keys)
        }
        made = (value for op in self.plan.graph.ops for value in op.writes)
        names = {value: self.translator.name(value, 0) for value in made}
        return Source(text, weights, weight_keys, libraries, names)

    def head(self, writer: Writer, read: set[str], libraries: Sequence[str]) -> None:
        graph, count = self.plan.graph, len(self.makers)
        workers = f"{count} worker{'s' * (count != 1)}"
        predicted = f", predicted to take {_milliseconds(self.timeline.makespan)}"
        ops = f"{len(graph.ops)} op{'s' * (len(graph.ops) != 1)}"
        writer.text(f'"""{clean(graph.name)}: {ops} on {workers}{predicted}."""')
        writer.text("")
        found = [line for name, line in _IMPORTS.items() if name in read]
        if found[:1] == ["import math"] and (len(found) > 1 or libraries):
            found.insert(1, "")
        writer.lines += found
        line = f"from {sources.LIBRARY} import {', '.join(libraries)}"
        if len(line) > layout.WIDTH:
            names = (f"    {name}," for name in libraries)
            writer.lines += [f"from {sources.LIBRARY} import (", *names, ")"]
        elif libraries:
            writer.text(line)
        if found or libraries:
            writer.text("")

    def foot(self, writer: Writer) -> None:
        if self.makers:
            writer.text("")
        writer.lines += layout.assignment(
            ["WORKERS"], layout.parse(f"[{', '.join(self.makers)}]"), 0
        )
        writer.text("")
        writer.text('if __name__ == "__main__":')
        writer.text("import runtime", 4)
        writer.text("")
        writer.text("runtime.main(__file__)", 4)

    def maker(self, writer: Writer, number: int, body: Sequence[Statement]) -> None:
        writer.text("")
        writer.text(f"def {self.makers[number]}(weights):")
        writer.lines += self.docstring(number)
        keys = set(self.translator.weights.values())
        for name in dict.fromkeys(reads(body)):
            if name in keys:
                writer.write([assign(name, self.binding(name))], 4)
        writer.text("")
        writer.text("def run(port):", 4)
        writer.write(body, 8)
        if not body:
            writer.text("pass", 8)
        writer.text("")
        writer.text("return run", 4)
        writer.text("")

    def binding(self, key: str) -> str:
        """The expression of a weight; kernels lie in the file with their channels last."""
        return f'weights["{key}"]' + (".permute(0, 3, 1, 2)" if key in self.kernels else "")

    def docstring(self, number: int) -> list[str]:
        """What the worker does, in words and names of ours."""
        steps = self.plan.workers[number]
        count = sum(isinstance(step, Compute) for step in steps)
        row = self.timeline.rows[number]
        busy, end = self.timeline.busy[number], row[-1].end if row else 0.0
        told = f"Worker {number}: {count} op{'s' * (count != 1)}, predicted to compute for "
        told += f"{_milliseconds(busy)} and to end at {_milliseconds(end)}."
        traffic = [*self.traffic(number, "To", Send), *self.traffic(number, "From", Receive)]
        if not traffic:
            return [f'    """{told}"""']
        lines = [f'    """{told}', ""]
        for line in traffic:
            lines += textwrap.wrap(
                line, layout.WIDTH, initial_indent="    ", subsequent_indent="        "
            )
        return [*lines, '    """']

    def traffic(self, number: int, word: str, kind: type[Send] | type[Receive]) -> list[str]:
        """One line per worker that this one sends to, or receives from."""
        found: dict[int, list[str]] = {}
        for step in self.plan.workers[number]:
            if isinstance(step, kind):
                message = self.plan.messages[step.message]
                other = message.target if kind is Send else message.source
                name = self.translator.name(message.value, message.sample)
                found.setdefault(other, []).append(name)
        return [
            f"{word} worker {other}: "
            + (f"{len(names)} values" if len(names) > _LISTED else ", ".join(names))
            for other, names in sorted(found.items())
        ]

    def body(self, number: int) -> tuple[Statement, ...]:
        """The statements of a worker's `run`."""
        statements = list(self.with_inputs(self.steps(number)))
        return without_last_deletes(free(statements, frozenset(self.large)))

    def steps(self, number: int) -> Iterable[Statement]:
        segments = len(self.plan.segments(number))
        segment, closed = 0, True
        for span in self.timeline.rows[number]:
            step = span.step
            if closed and (isinstance(step, Receive) or not segment):
                segment += 1
                closed = False
                if segments > 1:
                    when = _milliseconds(span.end if isinstance(step, Receive) else span.start)
                    yield Comment(f"Segment {segment} of {segments}, predicted to start at {when}.")
            closed = closed or not isinstance(step, Receive)
            if isinstance(step, Compute):
                yield from self.compute(step)
                continue
            message = self.plan.messages[step.message]
            name = self.note(message.value, message.sample)
            if isinstance(step, Send):
                to = f"to worker {message.target}"
                yield assign("", f"port.send({step.message}, {name})", to)
            else:
                source = f"from worker {message.source}"
                yield assign(name, f"port.receive({step.message})", source)

    def compute(self, step: Compute) -> Iterable[Statement]:
        yield from self.translator.op(step.op, step.sample)
        self.note_inside(step.op, step.sample)
        for value in step.op.writes:
            name = self.note(value, step.sample)
            if value in self.outputs:
                sample = f", {step.sample}" if step.sample else ""
                yield assign("", f"port.output({layout.string(value.name)}, {name}{sample})")

    def note(self, value: Value, sample: int) -> str:
        """The value's name; remembers whether it is worth freeing."""
        name = self.translator.name(value, sample)
        if _is_large(value.type):
            self.large.add(name)
        return name

    def note_inside(self, op: Op, sample: int) -> None:
        for region in op.regions.values():
            for inner in region.ops:
                for value in inner.writes:
                    self.note(value, sample)
                self.note_inside(inner, sample)

    def with_inputs(self, statements: Iterable[Statement]) -> Iterable[Statement]:
        """The statements, each input taken just before it is first read."""
        taken: set[str] = set()
        for statement in statements:
            for name in reads([statement]):
                if name in self.inputs and name not in taken:
                    taken.add(name)
                    value, sample = self.inputs[name]
                    text = layout.string(value.name) + (f", {sample}" if sample else "")
                    yield assign(name, f"port.input({text})")
            yield statement


def _is_kernel(value: Value) -> bool:
    """Whether the weight is the kernel of two-dimensional convolutions and nothing else.

    Torch keeps activations in the layout of the kernel; with channels last its convolutions need
    not reorder what they read and write.
    """
    uses = [use for use in value.uses if isinstance(use.user, Op)]
    kinds = {(use.user.domain, use.user.kind, use.position) for use in uses}  # type: ignore[union-attr]
    rank = 0 if value.type is None or value.type.shape is None else len(value.type.shape)
    return kinds == {("", "Conv", 1)} and rank == 4 and len(uses) == len(value.uses)


def _channels_last(tensor: Tensor) -> Tensor:
    """The kernel as (out, height, width, in), in memory of its own."""
    out, channels, height, width = tensor.shape
    type = Type(tensor.dtype, (out, height, width, channels))
    return Tensor(type, lambda: np.ascontiguousarray(tensor.array.transpose(0, 2, 3, 1)))


def _is_large(type: Type | None) -> bool:
    size = None if type is None else type.nbytes
    return size is None or size > SMALL


def _milliseconds(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms"
