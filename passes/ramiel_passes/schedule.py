"""A quick prediction of the makespan of ops assigned to workers, for passes that try many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from ramiel_ir.costs import Costs
from ramiel_ir.ir import Graph, Op


class Schedule:
    """The graph's costs and edges, gathered once; each worker runs its ops in graph order.

    `makespan` agrees with `simulate(make_plan(graph), costs).makespan` for the same assignment.
    """

    def __init__(self, graph: Graph, costs: Costs, threads: int = 1) -> None:
        self.graph = graph
        self.costs = costs
        self.weight = {op: costs.op(op, threads) for op in graph.ops}
        self.reads: dict[Op, list[tuple[Op, float]]] = {op: [] for op in graph.ops}
        for op in graph.ops:
            for value in op.writes:
                users = value.users()
                edge = costs.edge(value) if users else 0.0
                for user in users:
                    self.reads[user].append((op, edge))

    def makespan(self, home: Mapping[Op, int]) -> float:
        """µs until the last op ends when op runs on worker `home[op]`."""
        free: dict[int, float] = {}
        end: dict[Op, float] = {}
        for op in self.graph.ops:
            worker = home[op]
            start = free.get(worker, 0.0)
            for source, edge in self.reads[op]:
                ready = end[source] if home[source] == worker else end[source] + edge
                start = max(start, ready)
            end[op] = free[worker] = start + self.weight[op]
        return max(free.values(), default=0.0)


@dataclass(frozen=True)
class Outcome:
    """What a list scheduler made: homes, an order that is topological, and when ops end.

    `binding[i]` is the op that op i had to wait for, before it or on another worker; -1 for none.
    """

    makespan: float
    home: list[int]
    order: list[int]
    end: list[float]
    binding: list[int]

    def critical_chain(self) -> list[int]:
        """The ops, last first, each of which waited for the next, up to the start."""
        index = max(range(len(self.end)), key=self.end.__getitem__)
        chain = []
        while index >= 0:
            chain.append(index)
            index = self.binding[index]
        return chain


class ListSchedule:
    """Plays a graph greedily: a free worker takes its ready op with the greatest priority.

    Ops without a home go to the worker that can end them first. Ops are positions in the graph.
    """

    def __init__(self, schedule: Schedule, workers: int) -> None:
        ops = schedule.graph.ops
        position = {op: index for index, op in enumerate(ops)}
        self.workers = workers
        self.weight = [schedule.weight[op] for op in ops]
        self.reads = [
            [(position[source], edge) for source, edge in schedule.reads[op]] for op in ops
        ]
        self.readers: list[list[int]] = [[] for _ in ops]
        for index, reads in enumerate(self.reads):
            for source, _ in reads:
                self.readers[source].append(index)

    def connected(self, index: int) -> list[int]:
        """The ops that `index` reads from, and those that read from it."""
        return [source for source, _ in self.reads[index]] + self.readers[index]

    def play(self, homes: Sequence[int | None], priority: Sequence[float]) -> Outcome:
        """Schedule every op; `homes` of None are chosen here."""
        count = len(self.weight)
        missing = [len(reads) for reads in self.reads]
        home = [-1] * count
        end = [0.0] * count
        binding = [-1] * count
        order: list[int] = []
        free = [0.0] * self.workers
        last = [-1] * self.workers
        # (earliest start, -priority, op): popped in the order in which ops can start
        ready: list[tuple[float, float, int]] = []
        for index in range(count):
            if not missing[index]:
                heappush(ready, (0.0, -priority[index], index))
        while ready:
            start, urgency, index = heappop(ready)
            worker, begin, source = self._place(index, homes[index], home, end, free)
            if begin > start and ready and ready[0][0] < begin:
                heappush(ready, (begin, urgency, index))  # somebody else can start before that
                continue
            home[index] = worker
            end[index] = begin + self.weight[index]
            binding[index] = source if source >= 0 and free[worker] < begin else last[worker]
            free[worker] = end[index]
            last[worker] = index
            order.append(index)
            for reader in self.readers[index]:
                missing[reader] -= 1
                if not missing[reader]:
                    _, begin, _ = self._place(reader, homes[reader], home, end, free)
                    heappush(ready, (begin, -priority[reader], reader))
        return Outcome(max(end, default=0.0), home, order, end, binding)

    def _place(
        self,
        index: int,
        wanted: int | None,
        home: list[int],
        end: list[float],
        free: list[float],
    ) -> tuple[int, float, int]:
        """The worker for an op, when it can start there, and the op whose result it awaits."""
        best = (-1, math.inf, -1)
        for worker in range(self.workers) if wanted is None else (wanted,):
            begin, source = 0.0, -1
            for read, edge in self.reads[index]:
                arrives = end[read] if home[read] == worker else end[read] + edge
                if arrives > begin:
                    begin, source = arrives, read
            begin = max(begin, free[worker])
            if begin < best[1]:
                best = (worker, begin, source)
        return best
