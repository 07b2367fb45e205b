"""The least makespan of small graphs, proven by constraint programming (OR-tools CP-SAT).

The model covers every assignment to workers and every order: all that `make_plan` can make of a
graph, one thread per worker. It is `simulate` in integers (costs lie on a grid of 1/1024 µs), but
for three things that it leaves out, so that no plan is faster than the optimum of the model:

- messages with one value to several workers all begin at once, though the sender takes the time
  of each;
- `costs.segment` counts after a receive and at the start of a worker, but not after a send;
- ops of cost zero that fall on one instant may be in any order.

With two workers, no cost of segments and no op of cost zero the optimum is that of the best plan.
"""

from __future__ import annotations

from typing import NamedTuple

from ortools.sat.python import cp_model

from ramiel_ir.costs import Costs, work
from ramiel_ir.ir import Graph, Op, Value

_GRID = 1024

_Ticks = cp_model.LinearExprT  # an expression or a number, in units of 1/1024 µs


class Optimum(NamedTuple):
    """A makespan that no plan beats, in µs, and whether it is proven that nothing greater is."""

    makespan: float
    proven: bool


def optimum(
    graph: Graph,
    costs: Costs,
    workers: int,
    seconds: float = 10.0,
    *,
    known: float | None = None,
) -> Optimum:
    """The least makespan on at most so many workers of one thread each.

    `known` is the makespan of some plan: it bounds the search. Where `seconds` do not suffice for
    a proof, the makespan is the greatest lower bound that was found.
    """
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    status = solver.solve(_Model(graph, costs, workers, known).model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.UNKNOWN):
        raise ValueError(f"no plan of {graph.name} takes {known} µs or less")
    return Optimum(solver.best_objective_bound / _GRID, status == cp_model.OPTIMAL)


class _Model:
    """One interval per op: its receives, the start of a segment, the op itself, its sends.

    Intervals on one worker do not overlap. A worker that waits for a message does nothing, so it
    may as well wait before the first receive of the op.
    """

    def __init__(self, graph: Graph, costs: Costs, workers: int, known: float | None) -> None:
        self.model = cp_model.CpModel()
        self.ops = graph.ops
        self.costs = costs
        self.workers = workers
        self.segment = _ticks(costs.segment())
        self.weight = {op: _ticks(costs.op(op)) for op in self.ops}
        alone = sum(self.weight.values()) + self.segment
        self.horizon = alone if known is None else min(alone, _ticks(known))
        self.start = {op: self._time("start") for op in self.ops}
        self.here = {op: [self._fact() for _ in range(workers)] for op in self.ops}
        self.message: dict[tuple[Value, int], cp_model.IntVar] = {}
        """By value and worker, whether the value is sent there."""
        self.first: dict[tuple[Op, Value], cp_model.IntVar] = {}
        """By reader and value, whether the reader has to receive it."""
        for op in self.ops:
            self.model.add_exactly_one(self.here[op])
        for op in self.ops:
            for value in op.writes:
                self._send(op, value)
        makespan = self._time("makespan")
        self._occupy(makespan)
        for op in self.ops:
            self._wait(op)
        self._number_workers()
        self.model.add(makespan >= _ticks(work(graph, costs).bound(workers)))
        self.model.minimize(makespan)

    def _time(self, name: str) -> cp_model.IntVar:
        return self.model.new_int_var(0, self.horizon, name)

    def _fact(self) -> cp_model.IntVar:
        return self.model.new_bool_var("")

    def _send(self, op: Op, value: Value) -> None:
        """A message goes to each other worker with a reader; one reader there receives it first."""
        readers = value.users()
        receives = self.costs.receive(value) > 0 or self.segment > 0
        for reader in readers if receives else ():
            self.first[reader, value] = self._fact()
        for worker in range(self.workers if readers else 0):
            message = self.message[value, worker] = self._fact()
            for reader in readers:
                there = self.here[reader][worker]
                self.model.add_bool_or(~there, self.here[op][worker], message)
            if not receives:
                continue
            takes = {reader: self._fact() for reader in readers}
            self.model.add_bool_or(~message, *takes.values())
            for reader, fact in takes.items():
                self.model.add_implication(fact, self.here[reader][worker])
                self.model.add_implication(fact, self.first[reader, value])
                for other in readers:
                    if other is not reader:
                        earlier = self.model.add(self.start[reader] <= self.start[other])
                        earlier.only_enforce_if(fact, self.here[other][worker])

    def _receiving(self, op: Op) -> list[tuple[Value, _Ticks]]:
        """The values that other ops make for this one, in order, and the time of receiving each."""
        values = [value for value in op.reads if value.op in self.weight]
        return [
            (value, _ticks(self.costs.receive(value)) * self.first.get((op, value), 0))
            for value in values
        ]

    def _sending(self, value: Value) -> _Ticks:
        """The time of all messages with a value."""
        if not self.costs.send(value) or not value.users():
            return 0
        messages = [self.message[value, worker] for worker in range(self.workers)]
        return _ticks(self.costs.send(value)) * sum(messages)

    def _before(self, op: Op) -> _Ticks:
        """The time of an op's receives, and of the segment that begins after them."""
        received = [self.first[op, value] for value in op.reads if (op, value) in self.first]
        opens: _Ticks = 0
        if self.segment and received:
            begins = self._fact()
            for fact in received:
                self.model.add_implication(fact, begins)
            opens = self.segment * begins
        return sum(time for _, time in self._receiving(op)) + opens

    def _occupy(self, makespan: cp_model.IntVar) -> None:
        """Each op occupies its worker."""
        intervals: list[list[cp_model.IntervalVar]] = [[] for _ in range(self.workers)]
        self.end: dict[Op, _Ticks] = {}  # of the op itself; its sends follow
        sizes = []
        for op in self.ops:
            before = self._before(op)
            self.end[op] = self.start[op] + before + self.weight[op]
            self.model.add(self.start[op] + before >= self.segment)
            sends = sum(self._sending(value) for value in op.writes)
            size, free = self._time("size"), self._time("free")
            self.model.add(size == before + self.weight[op] + sends)
            self.model.add(free <= makespan)
            sizes.append(size)
            for row, present in zip(intervals, self.here[op], strict=True):
                row.append(
                    self.model.new_optional_interval_var(self.start[op], size, free, present, "")
                )
        for row in intervals:
            self.model.add_no_overlap(row)
        self.model.add(sum(sizes) <= self.workers * makespan)

    def _wait(self, op: Op) -> None:
        """An op begins after those that it reads from, and after their messages."""
        received: _Ticks = self.start[op]
        for value, time in self._receiving(op):
            source = value.op
            assert source is not None
            received = received + time
            elsewhere = self._fact()
            for worker in range(self.workers):
                self.model.add_bool_or(~self.here[op][worker], self.here[source][worker], elsewhere)
            edge = _ticks(self.costs.edge(value))
            self.model.add(received >= self.end[source] + edge * elsewhere)
            earlier = source.writes[: source.writes.index(value)]
            sent = sum(self._sending(other) for other in earlier)
            if not isinstance(sent, int):
                late = self.model.add(received >= self.end[source] + sent + edge)
                late.only_enforce_if(elsewhere)

    def _number_workers(self) -> None:
        """Workers are alike: an op may be the first on one only if each before it has an op."""
        for number, op in enumerate(self.ops):
            for worker in range(1, self.workers):
                others = [self.here[other][worker - 1] for other in self.ops[:number]]
                self.model.add_bool_or(~self.here[op][worker], *others)


def _ticks(microseconds: float) -> int:
    """µs on the grid, in its units."""
    return round(microseconds * _GRID)
