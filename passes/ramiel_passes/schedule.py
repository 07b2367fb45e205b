"""A quick prediction of the makespan of ops assigned to workers, for passes that try many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from ramiel_ir.costs import Costs
from ramiel_ir.ir import Graph, Op


class Schedule:
    """The graph's costs and edges, gathered once; each worker runs its ops in graph order.

    Ops are their positions in the graph, values are numbered. `makespan` agrees with
    `simulate(make_plan(graph), costs).makespan` for the same assignment.
    """

    def __init__(self, graph: Graph, costs: Costs, threads: int = 1) -> None:
        self.graph = graph
        self.position = {op: index for index, op in enumerate(graph.ops)}
        self.weight = [costs.op(op, threads) for op in graph.ops]
        self.segment = costs.segment()
        self.edge: list[float] = []
        self.send: list[float] = []
        self.receive: list[float] = []
        self.reads: list[list[tuple[int, int]]] = [[] for _ in graph.ops]
        """Per op, the values it reads, each once, with the op that makes it."""
        self.writes: list[list[int]] = []
        """Per op, the values it makes that are read."""
        self.readers: list[list[int]] = []
        """Per value, the ops that read it."""
        number = {}
        for index, op in enumerate(graph.ops):
            self.writes.append([])
            for value in op.writes:
                readers = [self.position[user] for user in value.users()]
                if not readers:
                    continue
                number[value] = len(self.edge)
                self.writes[index].append(len(self.edge))
                self.readers.append(readers)
                self.edge.append(costs.edge(value))
                self.send.append(costs.send(value))
                self.receive.append(costs.receive(value))
        for index, op in enumerate(graph.ops):
            self.reads[index] = [
                (number[value], self.position[value.op])
                for value in op.reads
                if value.op is not None and value in number
            ]

    def makespan(self, home: Mapping[Op, int]) -> float:
        """µs until the last op ends when op runs on worker `home[op]`."""
        homes = [home[op] for op in self.graph.ops]
        free: dict[int, float] = {}
        arrives: dict[tuple[int, int], float] = {}
        computing: dict[int, bool] = {}
        for index, worker in enumerate(homes):
            clock = free.get(worker, 0.0)
            for value, source in self.reads[index]:
                if homes[source] != worker and (value, worker) in arrives:
                    arrival = arrives.pop((value, worker))  # only the first reader waits for it
                    clock = max(clock + self.receive[value], arrival)
                    computing[worker] = False
            clock += self.weight[index] + (0.0 if computing.get(worker) else self.segment)
            computing[worker] = True
            for value in self.writes[index]:
                for target in dict.fromkeys(homes[reader] for reader in self.readers[value]):
                    if target != worker:
                        arrives[value, target] = clock + self.edge[value]
                        clock += self.send[value]
                        computing[worker] = False
            free[worker] = clock
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
    """Plays a graph greedily: a free worker takes its ready op with the greatest priority."""

    def __init__(self, schedule: Schedule, workers: int) -> None:
        self.schedule = schedule
        self.workers = workers

    def connected(self, index: int) -> list[int]:
        """The ops that `index` reads from, and those that read from it."""
        known = self.schedule
        sources = [source for _, source in known.reads[index]]
        return sources + [
            reader for value in known.writes[index] for reader in known.readers[value]
        ]

    def assign(self, priority: Sequence[float]) -> list[int]:
        """A home for each op: by descending priority, the worker that can end it first.

        Sources must have greater priorities than what reads them. What sending costs its worker is
        left out: it depends on the homes of ops that have none yet.
        """
        known = self.schedule
        home = [0] * len(priority)
        end = [0.0] * len(priority)
        free = [0.0] * self.workers
        for index in sorted(range(len(priority)), key=lambda index: (-priority[index], index)):
            begins = list(free)
            for value, source in known.reads[index]:
                for worker in range(self.workers):
                    arrives = end[source] + (home[source] != worker) * known.edge[value]
                    begins[worker] = max(begins[worker], arrives)
            home[index] = worker = min(range(self.workers), key=begins.__getitem__)
            end[index] = free[worker] = begins[worker] + known.weight[index]
        return home

    def play(self, home: Sequence[int], priority: Sequence[float]) -> Outcome:
        """Schedule every op on its home."""
        known, workers = self.schedule, self.workers
        count = len(home)
        missing = [len(reads) for reads in known.reads]
        end = [0.0] * count
        binding = [-1] * count
        order: list[int] = []
        free = [0.0] * workers
        last = [-1] * workers
        computing = [False] * workers
        arrives: dict[int, float] = {}  # by value * workers + target, until it is received

        def start(index: int) -> tuple[float, float, int]:
            """Until when an op waits, when its messages are received, and what it waited for."""
            worker = home[index]
            clock, waits, receiving = free[worker], last[worker], 0.0
            for value, source in known.reads[index]:
                if home[source] != worker:
                    arrival = arrives.get(value * workers + worker)
                    if arrival is not None:
                        receiving += known.receive[value]
                        clock += known.receive[value]
                        if arrival > clock:
                            clock, waits = arrival, source
            return clock - receiving, clock, waits

        # (until when it waits, -priority, op): popped in the order in which workers can begin
        ready = [(0.0, -priority[index], index) for index in range(count) if not missing[index]]
        heapify(ready)
        while ready:
            _, urgency, index = heappop(ready)
            waits, begin, binding[index] = start(index)
            if ready and ready[0][0] < waits:
                heappush(ready, (waits, urgency, index))  # somebody else can begin before that
                continue
            worker = home[index]
            for value, source in known.reads[index]:
                key = value * workers + worker
                if home[source] != worker and arrives.pop(key, None) is not None:
                    computing[worker] = False
            clock = begin + known.weight[index] + (0.0 if computing[worker] else known.segment)
            computing[worker] = True
            end[index] = clock
            for value in known.writes[index]:
                for target in dict.fromkeys([home[reader] for reader in known.readers[value]]):
                    if target != worker:
                        arrives[value * workers + target] = clock + known.edge[value]
                        clock += known.send[value]
                        computing[worker] = False
            free[worker] = clock
            last[worker] = index
            order.append(index)
            for value in known.writes[index]:
                for reader in known.readers[value]:
                    missing[reader] -= 1
                    if not missing[reader]:
                        heappush(ready, (start(reader)[0], -priority[reader], reader))
        return Outcome(max(free, default=0.0), list(home), order, end, binding)
