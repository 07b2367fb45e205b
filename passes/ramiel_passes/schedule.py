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

    Ops are their positions in the graph, values are numbered. `makespan` agrees with
    `simulate(make_plan(graph), costs).makespan` for the same assignment to several workers.
    """

    def __init__(self, graph: Graph, costs: Costs, threads: int = 1) -> None:
        self.graph = graph
        self.position = {op: index for index, op in enumerate(graph.ops)}
        self.weight = [costs.op(op, threads, alone=False) for op in graph.ops]
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
    `messages` are the µs for which messages occupy workers, all together.
    """

    makespan: float
    messages: float
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
        self._reads = [len(reads) for reads in schedule.reads]

    def connected(self, index: int) -> list[int]:
        """The ops that `index` reads from, and those that read from it."""
        known = self.schedule
        sources = [source for _, source in known.reads[index]]
        return sources + [
            reader for value in known.writes[index] for reader in known.readers[value]
        ]

    def assign(self, priority: Sequence[float], workers: int) -> list[int]:
        """A home for each op: by descending priority, the one of `workers` that can end it first.

        Sources must have greater priorities than what reads them. What sending costs its worker is
        left out: it depends on the homes of ops that have none yet.
        """
        known = self.schedule
        home = [0] * len(priority)
        end = [0.0] * len(priority)
        free = [0.0] * workers
        for index in sorted(range(len(priority)), key=lambda index: (-priority[index], index)):
            begins = list(free)
            for value, source in known.reads[index]:
                for worker in range(workers):
                    arrives = end[source] + (home[source] != worker) * known.edge[value]
                    begins[worker] = max(begins[worker], arrives)
            home[index] = worker = min(range(workers), key=begins.__getitem__)
            end[index] = free[worker] = begins[worker] + known.weight[index]
        return home

    def play(self, home: Sequence[int], priority: Sequence[float]) -> Outcome:
        """Schedule every op on its home."""
        known, workers = self.schedule, self.workers
        reads, writes, readers = known.reads, known.writes, known.readers
        edge, send, receive = known.edge, known.send, known.receive
        missing = list(self._reads)
        end = [0.0] * len(home)
        binding = [-1] * len(home)
        order: list[int] = []
        messages = 0.0
        free = [0.0] * workers
        last = [-1] * workers
        computing = [False] * workers
        arrives: dict[int, float] = {}  # by value * workers + target, until it is received
        # Per worker, ops whose operands are computed: those that could begin, by urgency, and
        # those that still wait for a message, by its arrival.
        now: list[list[tuple[float, int]]] = [[] for _ in range(workers)]
        later: list[list[tuple[float, float, int]]] = [[] for _ in range(workers)]
        for index, count in enumerate(missing):
            if not count:
                heappush(now[home[index]], (-priority[index], index))

        def next_begin(worker: int) -> float:
            if now[worker]:
                return free[worker]
            waiting = later[worker]
            return max(free[worker], waiting[0][0]) if waiting else math.inf

        for _ in home:
            worker = min(range(workers), key=next_begin)
            begin = next_begin(worker)
            ready, waiting = now[worker], later[worker]
            while waiting and waiting[0][0] <= begin:
                _, urgency, index = heappop(waiting)
                heappush(ready, (urgency, index))
            index = heappop(ready)[1]
            clock, binding[index] = free[worker], last[worker]
            for value, source in reads[index]:
                arrival = None
                if home[source] != worker:
                    arrival = arrives.pop(value * workers + worker, None)
                if arrival is not None:
                    computing[worker] = False
                    messages += receive[value]
                    clock += receive[value]
                    if arrival > clock:
                        clock, binding[index] = arrival, source
            clock += known.weight[index] + (0.0 if computing[worker] else known.segment)
            computing[worker] = True
            end[index] = clock
            for value in writes[index]:
                for target in dict.fromkeys([home[reader] for reader in readers[value]]):
                    if target != worker:
                        arrives[value * workers + target] = clock + edge[value]
                        messages += send[value]
                        clock += send[value]
                        computing[worker] = False
            free[worker] = clock
            last[worker] = index
            order.append(index)
            for value in writes[index]:
                for reader in readers[value]:
                    missing[reader] -= 1
                    if missing[reader]:
                        continue
                    there, arrival = home[reader], 0.0
                    for read, source in reads[reader]:
                        if home[source] != there:
                            comes = arrives.get(read * workers + there, 0.0) - receive[read]
                            arrival = max(arrival, comes)
                    heappush(later[there], (arrival, -priority[reader], reader))
        return Outcome(max(free, default=0.0), messages, list(home), order, end, binding)
