"""A search over assignments and orders by the simulated makespan."""

from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import dataclass

from ramiel_ir.costs import distances, work
from ramiel_ir.errors import PipelineError
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context, No, Pass
from ramiel_ir.plan import make_plan, simulate
from ramiel_passes.schedule import ListSchedule, Outcome, Schedule

_LONGEST_MOVE = 12
_MOODS = ((0.003, 4.0), (0.03, 4.0), (0.003, 0.25), (0.03, 0.25))
"""Of runs in turn: the temperature at first, as a share of the makespan, and the price of a µs that
messages take of workers for which nobody waits. Where it is high, plans of few messages are found;
where it is low, those in which many messages gain a little each."""
_RUNS = 4  # at most, where the budget suffices for more than one
_AT_MESSAGES = 0.7  # how often a change starts at a message
_REORDER = 0.3  # how often a change that does not is one of priority
_LOOKS = 50  # random ops that are looked at to find a message
_TRIALS_PER_OP = 50
_MOST_WORKERS = 128
_EVERY_CREW = 8  # up to so many workers every number of them starts once, then powers of two


@dataclass(frozen=True)
class Refine(Pass):
    """Move ops between workers while the predicted makespan falls.

    A list scheduler plays the graph: whenever a worker is free, it takes the ready op with the
    greatest priority, at first the distance to the end. The search starts from the clusters that
    are there, and from none at all (every op on the worker that can finish it first, with all
    workers or fewer), and takes the best. Then it changes one thing at a time: a few neighbouring
    ops at a message or on the critical chain change their worker, or one op its priority. A change
    that makes things worse is kept with a probability that falls to zero (simulated annealing,
    Kirkpatrick et al. 1983), and the best state of all is what remains.

    Deterministic for a `seed`. `budget` is how many ops there may be in all changes that are tried,
    so that large graphs get fewer trials, and small ones several runs of them; of most changes only
    a part is played (see `ListSchedule.replay`). `seconds` bounds the time of starts and trials,
    and what it cuts off depends on the machine. The result is never worse than the input, by
    simulation.
    """

    name = "refine"
    budget: int = 4_500_000
    seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise PipelineError(f"refine's budget is a number of ops, not {self.budget}")
        if self.seconds is not None and not self.seconds >= 0:
            raise PipelineError(f"refine's seconds are 0 or more, not {self.seconds}")

    def run(self, graph: Graph, context: Context) -> bool | No:
        workers = len(graph.clusters)
        if workers < 2:
            return No("fewer than two clusters")
        if workers > _MOST_WORKERS:
            return No(f"{workers} clusters are too many to try moves between; merge some first")
        number = {cluster: index for index, cluster in enumerate(graph.clusters)}
        scheduler = ListSchedule(Schedule(graph, context.costs, context.threads), workers)
        distance = distances(graph, context.costs, context.threads)
        priority = [distance[op] for op in graph.ops]
        home = [number[op.cluster] if op.cluster is not None else 0 for op in graph.ops]
        trials = min(self.budget // len(graph.ops), _TRIALS_PER_OP * len(graph.ops))
        runs = min(_RUNS, self.budget // max(1, trials * len(graph.ops))) or 1
        bound = work(graph, context.costs, context.threads).bound(workers)
        deadline = math.inf if self.seconds is None else time.monotonic() + self.seconds
        start = self._start(scheduler, home, priority, deadline)
        outcomes = []
        for run, (hot, dear) in zip(range(runs), itertools.cycle(_MOODS), strict=False):
            search = _Search(scheduler, priority, dear, random.Random(f"{self.seed} {run}"))
            outcomes.append(search.run(start, hot, trials, deadline, bound))
        found = min(outcomes, key=lambda outcome: outcome.makespan)

        before = simulate(make_plan(graph, threads=context.threads), context.costs).makespan
        ops, clusters = list(graph.ops), [op.cluster for op in graph.ops]
        self._apply(graph, found)
        after = simulate(make_plan(graph, threads=context.threads), context.costs).makespan
        if after < before:
            return True
        graph.reorder(ops)
        for op, cluster in zip(ops, clusters, strict=True):
            op.cluster = cluster
        return No(f"nothing better than {before:.0f} µs was found")

    def _start(
        self, scheduler: ListSchedule, home: list[int], priority: list[float], deadline: float
    ) -> Outcome:
        """The best of what is given and, until the deadline, of what is made from scratch."""
        outcomes = [scheduler.play(home, priority)]
        for crew in range(2, scheduler.workers + 1):
            if time.monotonic() > deadline:
                break
            if crew <= _EVERY_CREW or crew.bit_count() == 1 or crew == scheduler.workers:
                outcomes.append(scheduler.play(scheduler.assign(priority, crew), priority))
        return min(outcomes, key=lambda outcome: outcome.makespan)

    def _apply(self, graph: Graph, found: Outcome) -> None:
        ops = graph.ops
        for op, worker in zip(ops, found.home, strict=True):
            op.cluster = worker
        graph.reorder([ops[index] for index in found.order])


class _Search:
    """Simulated annealing over homes and priorities; ops are their positions in the graph."""

    def __init__(
        self, scheduler: ListSchedule, priority: list[float], dear: float, rng: random.Random
    ) -> None:
        self.scheduler = scheduler
        self.priority = priority
        self.dear = dear
        self.rng = rng

    def run(
        self, start: Outcome, hot: float, trials: int, deadline: float, bound: float
    ) -> Outcome:
        """Anneal from `start`, at first at `hot` of the makespan."""
        current = best = start
        hot *= best.makespan
        priority = list(self.priority)
        for trial in range(trials):
            if best.makespan <= bound or time.monotonic() > deadline:
                break
            temperature = hot * (1 - trial / trials) ** 2
            homes, priorities, changed = self._neighbour(current, priority)
            # Metropolis et al. (1953): a worse one is taken with probability exp(-worse / heat).
            most = self._price(current) - temperature * math.log(1 - self.rng.random())
            outcome = self.scheduler.replay(current, homes, priorities, changed, most, self.dear)
            if outcome is None:
                continue
            current, priority = outcome, priorities
            if current.makespan < best.makespan:
                best = current
        return best

    def _price(self, outcome: Outcome) -> float:
        """What the search lowers: the makespan, and what messages take although nobody waits.

        Most changes leave the makespan as it is; those that save messages make room for others.
        """
        return outcome.makespan + self.dear / self.scheduler.workers * outcome.messages

    def _neighbour(
        self, current: Outcome, priority: list[float]
    ) -> tuple[list[int], list[float], list[int]]:
        """Homes and priorities after one change, and whose they are.

        Ops join the other end of a message, or those that everything waits for move or become more
        or less urgent.
        """
        index, worker = self._at_a_message(current.home)
        if worker < 0:
            index = self.rng.choice(current.critical_chain())
            if self.rng.random() < _REORDER:
                priorities = list(priority)
                priorities[index] = self.rng.choice(priority)
                return current.home, priorities, [index]
            worker = self.rng.randrange(self.scheduler.workers - 1)
            worker += worker >= current.home[index]
        homes = list(current.home)
        moved = self._neighbours(index, current, self.rng.randint(1, _LONGEST_MOVE))
        for other in moved:
            homes[other] = worker
        return homes, priority, moved

    def _at_a_message(self, home: list[int]) -> tuple[int, int]:
        """An op that sends or receives, and a worker at the other end; -1 for none, or if chance
        has it that the critical chain is looked at."""
        if self.rng.random() < _AT_MESSAGES:
            for _ in range(_LOOKS):
                index = self.rng.randrange(len(home))
                near = self.scheduler.connected(index)
                others = [home[other] for other in near if home[other] != home[index]]
                if others:
                    return index, self.rng.choice(others)
        return -1, -1

    def _neighbours(self, index: int, current: Outcome, length: int) -> list[int]:
        """`index` and ops connected to it on the same worker, `length` in all."""
        found = [index]
        while len(found) < length:
            near = [
                other
                for other in self.scheduler.connected(found[-1])
                if current.home[other] == current.home[index] and other not in found
            ]
            if not near:
                break
            found.append(self.rng.choice(near))
        return found
