"""Merging clusters whose spans do not overlap, then as many as it takes."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from ramiel_ir.costs import distances
from ramiel_ir.ir import Graph, Op
from ramiel_ir.pipeline import Context, Pass
from ramiel_passes.schedule import Schedule

_TRIED = 8
_SIMULATED_OPS = 100_000  # how many ops one step of merging may simulate in all


@dataclass(frozen=True)
class Merge(Pass):
    """Let clusters that are never busy at the same time share a worker.

    Time runs backwards here: an op's distance to the end says when it must start, at the latest,
    for nothing to be late. A cluster is busy on the half-open span [d(first), d(last) − w(last))
    of that axis. Clusters whose spans do not overlap can share a worker and nobody waits, so one
    sweep over the spans, sorted by their start, gives each cluster to a worker that is free by
    then: the one that made what the cluster reads first, else the one that has been free the
    shortest. Each worker's ops then run by descending distance, zero-cost ops first on ties.

    The law: as long as only disjoint spans merge, the simulated makespan is at most the greatest
    distance. With `max-clusters`, merging goes on although spans overlap: the cluster with the
    least work joins the one with which the predicted makespan grows least, until so many remain.

    A span must reach to the end of its last op: closed at d(last) it would leave that op's time
    out, and parallel branches would share a worker. Source: Das and Rauchwerger, IPDPS 2024,
    section III.
    """

    name = "merge"
    max_clusters: int | None = None

    def run(self, graph: Graph, context: Context) -> bool:
        before = list(graph.ops), [op.cluster for op in graph.ops]
        distance = distances(graph, context.costs, context.threads)
        weight = {op: context.costs.op(op, context.threads) for op in graph.ops}
        position = {op: index for index, op in enumerate(graph.ops)}
        order = sorted(graph.ops, key=lambda op: (-distance[op], weight[op] > 0))
        for op in order:
            op.cluster = op.cluster or 0
        graph.reorder(order)
        groups = _sweep(list(graph.clusters.values()), distance, weight)
        if self.max_clusters is not None and len(groups) > self.max_clusters:
            schedule = Schedule(graph, context.costs, context.threads)
            groups = _squeeze(groups, max(1, self.max_clusters), schedule, weight)
        groups.sort(key=lambda ops: position[ops[0]])
        for number, ops in enumerate(groups):
            for op in ops:
                op.cluster = number
        return before != (graph.ops, [op.cluster for op in graph.ops])


def _sweep(
    clusters: list[list[Op]], distance: dict[Op, float], weight: dict[Op, float]
) -> list[list[Op]]:
    """Partition clusters by their spans; each result is the ops of one worker."""

    def end(ops: Sequence[Op]) -> float:
        return distance[ops[-1]] - weight[ops[-1]]

    spans = sorted(
        clusters, key=lambda ops: (-distance[ops[0]], end(ops) < distance[ops[0]])
    )  # a span without length comes before one that starts at the same distance
    workers: list[list[Op]] = []
    home: dict[Op, int] = {}
    free: list[tuple[float, int]] = []  # (where the worker's last span ends, worker), ascending
    for ops in spans:
        start = distance[ops[0]]
        worker = _choose(ops[0], start, free, home)
        if worker is None:
            worker = len(workers)
            workers.append([])
        workers[worker].extend(ops)
        home.update((op, worker) for op in ops)
        insort(free, (end(ops), worker))
    return workers


def _choose(
    first: Op, start: float, free: list[tuple[float, int]], home: dict[Op, int]
) -> int | None:
    """Take a worker that is free at `start` out of `free`; None if there is none."""
    index = bisect_left(free, (start, -1))
    if index == len(free):
        return None
    makers = {home[value.op] for value in first.reads if value.op in home}
    near = range(index, min(index + _TRIED, len(free)))
    found = next((place for place in near if free[place][1] in makers), index)
    return free.pop(found)[1]


def _squeeze(
    groups: list[list[Op]], limit: int, schedule: Schedule, weight: dict[Op, float]
) -> list[list[Op]]:
    """Merge groups until `limit` remain, those first that lengthen the schedule least.

    Far above the limit only work decides (the two lightest join). Near it each step tries the
    lightest group with some of the next lighter ones, by simulation: the fewer, the larger the
    graph, so that the whole stays near-linear.
    """
    heap = [(sum(weight[op] for op in ops), index) for index, ops in enumerate(groups)]
    heapq.heapify(heap)
    members = dict(enumerate(groups))
    while len(heap) > limit + _TRIED:
        light, first = heapq.heappop(heap)
        heavy, second = heapq.heappop(heap)
        members[second] = members[second] + members.pop(first)
        heapq.heappush(heap, (light + heavy, second))
    home = {op: index for index, ops in members.items() for op in ops}
    tries = max(1, min(_TRIED, _SIMULATED_OPS // len(home)))
    ranked = sorted(heap)
    while len(ranked) > limit:
        work, lightest = ranked.pop(0)

        def merged(entry: tuple[float, int], ops: list[Op] = members[lightest]) -> float:
            return schedule.makespan(home | dict.fromkeys(ops, entry[1]))

        best = min(ranked[:tries], key=merged) if tries > 1 else ranked[0]
        home.update(dict.fromkeys(members[lightest], best[1]))
        members[best[1]] = members[best[1]] + members.pop(lightest)
        ranked.remove(best)
        insort(ranked, (best[0] + work, best[1]))
    return list(members.values())
