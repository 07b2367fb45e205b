"""A quick prediction of the makespan of ops assigned to workers, for passes that try many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from ramiel_ir.costs import Costs
from ramiel_ir.ir import Graph, Op

_STATES = 16
"""That an outcome keeps, so that the next one need not be played from the start."""


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


class State:
    """Where a list scheduler stands after `len(order)` ops."""

    def __init__(self, workers: int, missing: list[int]) -> None:
        self.order: list[int] = []
        self.place = [0] * len(missing)
        """Per op, where it is in the order."""
        self.end = [0.0] * len(missing)
        self.binding = [-1] * len(missing)
        """Per op, the one that it had to wait for, before it or on another worker; -1 for none."""
        self.missing = missing
        """Per op, how many of its operands are not computed yet."""
        self.free = [0.0] * workers
        self.begins = [math.inf] * workers
        """Per worker, when it could begin its next op."""
        self.last = [-1] * workers
        self.computing = [False] * workers
        # Per worker, ops whose operands are computed: those that could begin, by urgency, and
        # those that still wait for a message, by its arrival.
        self.now: list[list[tuple[float, int]]] = [[] for _ in range(workers)]
        self.later: list[list[tuple[float, float, int]]] = [[] for _ in range(workers)]
        self.arrives: dict[int, float] = {}  # by value * workers + target, until it is received
        self.messages = 0.0
        """µs for which messages occupy workers, all together."""
        self.lost = 0.0
        """µs for which workers did not compute, all together."""

    def copy(self) -> State:
        """The same in lists of its own."""
        copied = State.__new__(State)
        copied.order, copied.place, copied.end = list(self.order), list(self.place), list(self.end)
        copied.binding, copied.missing = list(self.binding), list(self.missing)
        copied.free, copied.begins = list(self.free), list(self.begins)
        copied.last, copied.computing = list(self.last), list(self.computing)
        copied.now, copied.later = list(map(list, self.now)), list(map(list, self.later))
        copied.arrives = dict(self.arrives)
        copied.messages, copied.lost = self.messages, self.lost
        return copied


@dataclass(frozen=True)
class Outcome:
    """What a list scheduler made of ops on these homes: an order that is topological, and times.

    `messages` are the µs for which messages occupy workers, all together. The `states` are some of
    those on the way there, the first one at the start.
    """

    makespan: float
    messages: float
    home: list[int]
    order: list[int]
    place: list[int]
    end: list[float]
    binding: list[int]
    states: list[State]

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
        self._total = sum(schedule.weight)
        self._reads = [
            [(value * workers, source, schedule.receive[value]) for value, source in reads]
            for reads in schedule.reads
        ]
        self._writes = [
            [
                (value * workers, schedule.edge[value], schedule.send[value], readers)
                for value in writes
                for readers in [schedule.readers[value]]
            ]
            for writes in schedule.writes
        ]
        self._apart = max(1, len(schedule.weight) // _STATES)
        self._tail = [0.0] * len(schedule.weight)  # µs at least after each op, by what follows it
        for index in reversed(range(len(self._tail))):
            for _, source in schedule.reads[index]:
                least = schedule.weight[index] + self._tail[index]
                self._tail[source] = max(self._tail[source], least)

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
        outcome = self._go_on([self._start(home, priority)], home, priority, math.inf, 0.0)
        assert outcome is not None
        return outcome

    def replay(
        self,
        base: Outcome,
        home: Sequence[int],
        priority: Sequence[float],
        changed: Sequence[int],
        limit: float,
        dear: float,
    ) -> Outcome | None:
        """The same, where only `changed` ops have another home or priority than in `base`.

        None where it costs more than `limit`: the makespan, and `dear` for each µs that messages
        take, shared among the workers. What came before any change mattered is not played again,
        nor anything more once the limit cannot be kept.
        """
        if not all(self._reads[index] for index in changed):  # it could begin the whole
            return self._go_on([self._start(home, priority)], home, priority, limit, dear)
        sources = [source for index in changed for _, source, _ in self._reads[index]]
        first = min(base.place[source] for source in sources)  # which sends, or lets it begin
        states = [state for state in base.states if len(state.order) <= first]
        return self._go_on(states, home, priority, limit, dear)

    def _start(self, home: Sequence[int], priority: Sequence[float]) -> State:
        start = State(self.workers, list(map(len, self._reads)))
        for index, reads in enumerate(self._reads):
            if not reads:
                heappush(start.now[home[index]], (-priority[index], index))
                start.begins[home[index]] = 0.0
        return start

    def _go_on(
        self,
        states: list[State],
        home: Sequence[int],
        priority: Sequence[float],
        limit: float,
        dear: float,
    ) -> Outcome | None:
        """From the last of these states to the end, or until it is certain to exceed the limit."""
        workers, reads, writes, tail = self.workers, self._reads, self._writes, self._tail
        weight, segment = self.schedule.weight, self.schedule.segment
        state = states[-1].copy()
        order, place, end, binding = state.order, state.place, state.end, state.binding
        missing, free, begins = state.missing, state.free, state.begins
        last, computing, arrives = state.last, state.computing, state.arrives
        now, later = state.now, state.later
        messages, lost = state.messages, state.lost
        most_lost = limit * workers - self._total

        for step in range(len(order), len(home)):
            if not step % self._apart and step > len(states[-1].order):
                state.messages, state.lost = messages, lost
                states.append(state.copy())
            begin = min(begins)
            worker = begins.index(begin)
            ready, waiting = now[worker], later[worker]
            while waiting and waiting[0][0] <= begin:
                _, urgency, index = heappop(waiting)
                heappush(ready, (urgency, index))
            index = heappop(ready)[1]
            before = clock = free[worker]
            binding[index] = last[worker]
            for key, source, busy in reads[index]:
                if home[source] != worker:
                    arrival = arrives.pop(key + worker, None)
                    if arrival is not None:
                        computing[worker] = False
                        messages += busy
                        clock += busy
                        if arrival > clock:
                            clock, binding[index] = arrival, source
            clock += weight[index] + (0.0 if computing[worker] else segment)
            computing[worker] = True
            end[index] = clock
            if clock + tail[index] > limit:
                return None
            for key, hop, busy, readers in writes[index]:
                away = [home[reader] for reader in readers if home[reader] != worker]
                for target in dict.fromkeys(away) if away else ():
                    arrives[key + target] = clock + hop
                    messages += busy
                    clock += busy
                    computing[worker] = False
            lost += clock - before - weight[index]
            if lost + dear * messages > most_lost:
                return None
            free[worker] = clock
            last[worker] = index
            place[index] = step
            order.append(index)
            begins[worker] = clock if ready else math.inf
            if waiting and not ready:
                begins[worker] = max(clock, waiting[0][0])
            for *_, readers in writes[index]:
                for reader in readers:
                    missing[reader] -= 1
                    if missing[reader]:
                        continue
                    there, arrival = home[reader], 0.0
                    for key, source, busy in reads[reader]:
                        if home[source] != there:
                            comes = arrives.get(key + there, 0.0) - busy
                            if comes > arrival:
                                arrival = comes
                    heappush(later[there], (arrival, -priority[reader], reader))
                    begin = free[there] if arrival < free[there] else arrival
                    if begin < begins[there]:
                        begins[there] = begin
        makespan = max(free, default=0.0)
        if makespan + dear / workers * messages > limit:
            return None
        return Outcome(makespan, messages, list(home), order, place, end, binding, states)
