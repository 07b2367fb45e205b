"""Ops beside which there is little to do are divided by rows, so that each worker has a part."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ramiel_ir.costs import Costs, distances
from ramiel_ir.derived import JOINED, Part, part_name
from ramiel_ir.ir import Array, Graph, Names, Op, Tensor, Type, Value
from ramiel_ir.order import ancestors
from ramiel_ir.pipeline import Context, No, Pass
from ramiel_passes.rows import Rows, axis_of, restrict, rows_of

_LONGEST = 24
"""Ops of a run that are divided together."""
_LEAST_ROWS = 7
"""Of a part: kernels for fewer do more work per row."""
_LEAST_GAIN = 0.1
"""Of what the ops take undivided: a prediction is not a measurement."""
_MOST_OPS = 4096
"""Of a graph: which of them could run at the same time takes a byte for each pair."""
_SLICE_SINCE = 10
"""The opset from which on Slice has its bounds as operands."""


@dataclass(frozen=True)
class Divide(Pass):
    """Let every worker compute some rows of ops beside which there is too little to do.

    No plan is shorter than the critical path, and while its ops run, other workers have only what
    neither comes before nor after them: nothing, in a chain. So parts of the critical path are
    divided by the rows of what they make (the last axis but one: those of an image, the positions
    of a text, of a matrix its rows). Each worker computes a band of them, from the rows which that
    takes, and needs nothing of the others before the end, where a Concat puts the bands together.
    Windows of convolutions and pools make neighbouring bands overlap: some rows are computed twice.

    Which ops are divided together, and into how many bands, is what takes least µs by the rows
    computed, messages, Concats, and what others could have done meanwhile, if it gains a tenth.
    """

    name = "divide"

    def run(self, graph: Graph, context: Context) -> bool | No:
        if context.workers < 2:
            return No("there is one worker")
        if len(graph.ops) > _MOST_OPS:
            return No(f"more than {_MOST_OPS} ops")
        if graph.opsets.get("", 0) < _SLICE_SINCE:
            return No(f"Slice has its bounds as operands from opset {_SLICE_SINCE} on")
        order = _Order(graph, context)
        path = _critical_path(graph, context)
        chosen = [division for run in _runs(path) for division in _choose(run, order, context)]
        if not chosen:
            return No("no op has rows whose division is worth its messages")
        rewriter = _Rewriter(graph, order)
        for division in reversed(chosen):  # who reads what an earlier one makes comes before it
            rewriter.rewrite(division)
        return True


class Division(NamedTuple):
    """Ops that follow each other, and the rows that each band takes of what they read and make."""

    ops: Sequence[Op]
    bands: Sequence[Mapping[Value, Rows]]


class _Order:
    """Which ops come before which, whatever the plan.

    In row n, `before` has the ops that come before op n, `beside` those that could run while it
    does.
    """

    def __init__(self, graph: Graph, context: Context) -> None:
        count = len(graph.ops)
        self.index = {op: index for index, op in enumerate(graph.ops)}
        self.costs = np.array([context.costs.op(op, context.threads) for op in graph.ops])
        self.before = before = ancestors(graph)
        self.beside: Array = ~(before | before.T | np.eye(count, dtype=bool))

    def places(self, ops: Sequence[Op]) -> list[int]:
        """Where the ops are in the graph, and in `costs`."""
        return [self.index[op] for op in ops]

    def after(self, ops: Sequence[Op]) -> Array:
        """The ops that come after one of these, without these."""
        found: Array = np.any(self.before[:, self.places(ops)], axis=1)
        found[self.places(ops)] = False
        return found

    def is_convex(self, ops: Sequence[Op]) -> bool:
        """Whether no other op comes both after one and before another."""
        return not (self.after(ops) & self.before[self.places(ops)].any(axis=0)).any()

    def work_beside(self, ops: Sequence[Op]) -> float:
        """µs of all that could run while these ops do."""
        return float(self.beside[self.places(ops)].any(axis=0) @ self.costs)


def _critical_path(graph: Graph, context: Context) -> list[Op]:
    """The ops along which the distance to the end is greatest."""
    distance = distances(graph, context.costs, context.threads)
    path: list[Op] = []
    step = max(graph.ops, key=distance.__getitem__, default=None)
    while step is not None:
        path.append(step)
        users = dict.fromkeys(user for value in step.writes for user in value.users())
        step = max(users, key=distance.__getitem__, default=None)
    return path


def _runs(path: Iterable[Op]) -> Iterator[list[Op]]:
    """Ops of the path that follow each other and have rows to divide."""
    for divisible, ops in itertools.groupby(path, _is_divisible):
        if divisible:
            yield list(ops)


def _is_divisible(op: Op) -> bool:
    """Whether it has rows. An output keeps its name, by which a profile knows its op."""
    rows = rows_of(op.writes[0]) if len(op.writes) == 1 else None
    return bool(rows) and not op.writes[0].is_output and restrict(op, (0, rows or 0)) is not None


# Choosing -----------------------------------------------------------------------------------------


def _choose(run: Sequence[Op], order: _Order, context: Context) -> list[Division]:
    """The divisions of parts of a run that together gain most.

    `least[n]` is the least µs of the first n ops, `taken[n]` the division that ends there.
    """
    costs = order.costs[order.places(run)]
    per_row = [_per_row(op, context) for op in run]
    hop = min(context.costs.edge(op.writes[0]) for op in run)
    least: list[float] = [0.0]
    taken: list[Division | None] = [None]
    for end in range(1, len(run) + 1):
        least.append(least[-1] + costs[end - 1])
        taken.append(None)
        for start in range(end - 1, max(-1, end - 1 - _LONGEST), -1):
            ops, whole = run[start:end], float(costs[start:end].sum())
            if whole * (1 - 1 / context.workers - _LEAST_GAIN) < hop:
                continue
            beside = order.work_beside(ops)
            if beside >= whole * context.workers or not order.is_convex(ops):
                continue
            for count in _counts(context.workers):
                division = _division(ops, count)
                if division is None:
                    continue
                divided = _predict(division, per_row[start:end], context.costs) + beside / count
                if divided < whole * (1 - _LEAST_GAIN) and least[start] + divided < least[end]:
                    least[end], taken[end] = least[start] + divided, division
    found: list[Division] = []
    end = len(run)
    while end:
        division = taken[end]
        if division is not None:
            found.append(division)
        end -= 1 if division is None else len(division.ops)
    return found[::-1]


def _counts(workers: int) -> Iterator[int]:
    """How many bands there may be."""
    count = 2
    while count < workers:
        yield count
        count *= 2
    yield workers


def _division(ops: Sequence[Op], count: int) -> Division | None:
    """The ops in so many bands; None where they cannot be divided together."""
    made = {op.writes[0] for op in ops}
    exits = [op.writes[0] for op in ops if _leaves(op.writes[0], ops)]
    if any((rows_of(value) or 0) < count * _LEAST_ROWS for value in made):
        return None
    bands = []
    for number in range(count):
        needs: dict[Value, Rows] = {}
        for value in exits:
            needs[value] = _rows_of_band(value, number, count)
        for op in reversed(ops):
            part = restrict(op, needs[op.writes[0]]) if op.writes[0] in needs else None
            if part is None:
                return None
            for read, rows in zip(op.operands, part.operands, strict=True):
                if rows is None and read in made:
                    return None  # all of it is needed, and no worker has it
                if read is not None and rows is not None:
                    first, last = needs.get(read, rows)
                    needs[read] = min(first, rows[0]), max(last, rows[1])
        bands.append(needs)
    return Division(ops, bands)


def _leaves(value: Value, ops: Sequence[Op]) -> bool:
    """Whether somebody else needs the value."""
    return any(user not in ops for user in value.users())


def _predict(division: Division, per_row: Sequence[float], model: Costs) -> float:
    """µs until the results are there: of the longest band, and of handing over what one needs."""
    ops, bands = division
    made = [op.writes[0] for op in ops]
    longest = 0.0
    for needs in bands:
        rows = (needs[value][1] - needs[value][0] for value in made)
        longest = max(longest, sum(map(operator.mul, per_row, rows)))
    last = bands[-1]
    handed = [(value, rows) for value, rows in last.items() if value not in made]
    for value in made:
        if _leaves(value, ops):
            handed.append((value, _rows_of_band(value, 0, len(bands))))
            longest += model.op(_concat([_band(value, needs[value]) for needs in bands], value))
    hops = sum(model.edge(_band(value, rows)) for value, rows in handed)
    return longest + hops + 2 * model.segment()  # one starts with what is read, one with the parts


def _rows_of_band(value: Value, number: int, count: int) -> Rows:
    """What band `number` of `count` makes of a value that others read."""
    rows = rows_of(value) or 0
    return rows * number // count, rows * (number + 1) // count


def _per_row(op: Op, context: Context) -> float:
    """µs of a row of a part of the op."""
    (result,) = op.writes
    total = rows_of(result) or 1
    half = max(1, total // 2)
    return context.costs.part(op, Part(result.name, 0, half, total), context.threads) / half


# Rewriting ----------------------------------------------------------------------------------------


class _Rewriter:
    """Puts bands in the place of ops."""

    def __init__(self, graph: Graph, order: _Order) -> None:
        self.graph, self.order = graph, order
        self.names = Names(graph)
        self._numbers: dict[int, Value] = {}

    def rewrite(self, division: Division) -> None:
        """Put the bands, and Concats of what others read, in the place of the ops."""
        ops, bands = division
        exits = [op.writes[0] for op in ops if _leaves(op.writes[0], ops)]
        made = [_Band(self, ops, needs) for needs in bands]
        new = [op for band in made for op in band.ops]
        for value in exits:
            parts = []
            for number, band in enumerate(made):
                before = len(band.ops)
                parts.append(band.cut(value, _rows_of_band(value, number, len(bands))))
                new += band.ops[before:]
            joined = _concat(parts, value)
            joined.writes[0].name = self.names.fresh(joined.writes[0].name)
            value.replace_all_uses(joined.writes[0])
            new.append(joined)
        for op in new:
            op.graph = self.graph
        self._put(new, ops)

    def number(self, number: int) -> Value:
        """A weight that holds it, for Slice."""
        if number not in self._numbers:
            name = self.names.fresh(f"rows.{number}")
            self._numbers[number] = self.graph.add_weight(name, Tensor.of(np.array([number])))
        return self._numbers[number]

    def _put(self, new: Sequence[Op], ops: Sequence[Op]) -> None:
        """Put new ops in the place of old ones, after all that they read and before their users."""
        places = self.graph.ops
        first, end = places.index(ops[0]), places.index(ops[-1]) + 1
        between = [op for op in places[first:end] if op not in ops]
        after = self.order.after(ops)
        later = [op for op in between if after[self.order.index[op]]]
        sooner = [op for op in between if not after[self.order.index[op]]]
        self.graph.ops = [*places[:first], *sooner, *new, *ops, *later, *places[end:]]
        self.graph.erase(*ops)


class _Band:
    """Makes the ops of one band. `needs` has the rows that it takes of what they read and make."""

    def __init__(self, rewriter: _Rewriter, ops: Sequence[Op], needs: Mapping[Value, Rows]) -> None:
        self.ops: list[Op] = []
        self._rewriter, self._needs = rewriter, needs
        self._parts: dict[tuple[Value, Rows], Value] = {}
        made = {op.writes[0] for op in ops}
        for value, rows in needs.items():
            if value not in made:
                self._parts[value, rows] = self._slice(value, (0, rows_of(value) or 0), value, rows)
        for op in ops:
            self._compute(op)

    def _compute(self, op: Op) -> None:
        """Have the rows that the band takes of what `op` makes."""
        (result,) = op.writes
        rows = self._needs[result]
        part = restrict(op, rows)
        assert part is not None
        operands = [
            value if value is None or wanted is None else self.cut(value, wanted)
            for value, wanted in zip(op.operands, part.operands, strict=True)
        ]
        made = self._named(result, rows)
        results = [made if value is result else None for value in op.results]
        self.ops.append(
            Op(op.kind, operands, results, part.attributes, domain=op.domain, name=op.name)
        )
        self._parts[result, rows] = made

    def cut(self, value: Value, rows: Rows) -> Value:
        """These rows of a value, of which the band has as many or more."""
        found = self._parts.get((value, rows))
        if found is None:
            held = self._needs[value]
            found = self._slice(self._parts[value, held], held, value, rows)
            self._parts[value, rows] = found
        return found

    def _slice(self, source: Value, held: Rows, value: Value, rows: Rows) -> Value:
        """Rows of a value from `source`, which has the rows `held` of it."""
        if held == rows:
            return source
        made = self._named(value, rows)
        bounds = (rows[0] - held[0], rows[1] - held[0], axis_of(value))
        self.ops.append(Op("Slice", [source, *map(self._rewriter.number, bounds)], [made]))
        return made

    def _named(self, value: Value, rows: Rows) -> Value:
        made = _band(value, rows)
        made.name = self._rewriter.names.fresh(made.name)
        return made


def _band(value: Value, rows: Rows) -> Value:
    """Rows of a value, as a value that nothing makes yet."""
    assert value.type is not None and value.type.shape is not None
    shape = list(value.type.shape)
    name = part_name(Part(value.name, *rows, rows_of(value) or 0))
    shape[axis_of(value)] = rows[1] - rows[0]
    return Value(name, Type(value.type.element, tuple(shape)))


def _concat(parts: Sequence[Value], value: Value) -> Op:
    """What puts the parts of a value together."""
    return Op(
        "Concat", parts, [Value(f"{value.name}{JOINED}", value.type)], {"axis": axis_of(value)}
    )
