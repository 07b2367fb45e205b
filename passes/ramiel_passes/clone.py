"""Computing a cheap value twice instead of sending it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from ramiel_ir.derived import COPY
from ramiel_ir.errors import PipelineError
from ramiel_ir.ir import Graph, Names, Op, Value, clone_op
from ramiel_ir.pipeline import Context, No, Pass
from ramiel_passes.schedule import Schedule

_TRIALS = 64


@dataclass(frozen=True)
class Clone(Pass):
    """Duplicate cheap pure ops into the clusters that read their results.

    A message costs its receiver time. Where an op costs less than the message that carries its
    result, and the reading cluster already has what the op reads, the reading cluster can compute
    the value itself. Ops are looked at in graph order, so that chains of cheap ops move together;
    an op that nobody reads any more goes. A clone that would make the predicted makespan grow is
    not made.

    At most `growth` times the ops of the graph are added. Random and stateful ops are never cloned:
    two runs of them would not agree. Source: Das and Rauchwerger, IPDPS 2024, section IV.
    """

    name = "clone"
    growth: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.growth < math.inf:
            raise PipelineError(
                f"clone's growth is a share of the ops, such as 0.2, not {self.growth}"
            )

    def run(self, graph: Graph, context: Context) -> bool | No:
        if len(graph.clusters) < 2:
            return No("fewer than two clusters")
        if any(op.cluster is None for op in graph.ops):
            return No("not every op has a cluster")
        allowance = int(self.growth * len(graph.ops))
        trials = _TRIALS
        schedule = Schedule(graph, context.costs, context.threads)
        home = {op: op.cluster or 0 for op in graph.ops}
        makespan = schedule.makespan(home)
        names = Names(graph)
        copies: defaultdict[int, dict[Value, Value]] = defaultdict(dict)
        changed = False
        for op in list(graph.ops):
            for cluster in _readers(op, home):
                made = copies[cluster]
                if allowance <= 0 or trials <= 0 or not _is_cheap(op, cluster, home, made, context):
                    continue
                trials -= 1
                copy = _clone_into(op, cluster, graph, names, made)
                trial = Schedule(graph, context.costs, context.threads)
                after = trial.makespan(home | {copy: cluster})
                if after > makespan:
                    _undo(op, copy, graph, made)
                    continue
                home[copy], makespan, changed = cluster, after, True
                allowance -= 1
                gone = _erase_unread(op, graph, home)
                if gone:
                    allowance += gone
                    makespan = Schedule(graph, context.costs, context.threads).makespan(home)
                    break
        return changed or No("no message is dearer than its value")


def _readers(op: Op, home: dict[Op, int]) -> list[int]:
    """The other clusters that read results of `op`."""
    users = (user for value in op.writes for user in value.users())
    return sorted({home[user] for user in users} - {home[op]})


def _is_cheap(
    op: Op, cluster: int, home: dict[Op, int], copies: dict[Value, Value], context: Context
) -> bool:
    """Whether `cluster` could compute `op` for less than the message costs, from what it has."""
    if not op.pure or op.regions or op not in home:
        return False
    cost = context.costs.op(op, context.threads)
    if cost > min(context.costs.edge(value) for value in op.writes):
        return False
    return all(value in copies or _is_at_hand(value, op, cluster, home) for value in op.reads)


def _is_at_hand(value: Value, reader: Op, cluster: int, home: dict[Op, int]) -> bool:
    if value.op is None or home[value.op] == cluster:
        return True
    return any(user is not reader and home[user] == cluster for user in value.users())


def _clone_into(op: Op, cluster: int, graph: Graph, names: Names, copies: dict[Value, Value]) -> Op:
    """Add a copy of `op` that reads and joins the `copies` of the cluster; redirect its readers."""
    copy = clone_op(op, copies)
    copy.cluster = cluster
    for value in copy.writes:
        value.name = names.fresh(f"{value.name}{COPY}")
    copy.graph = graph
    graph.ops.insert(graph.ops.index(op) + 1, copy)
    for old, new in zip(op.results, copy.results, strict=True):
        if old is not None and new is not None:
            for user in old.users():
                if user.cluster == cluster and user is not copy:
                    user.replace_reads(old, new)
    return copy


def _undo(op: Op, copy: Op, graph: Graph, copies: dict[Value, Value]) -> None:
    for old in op.writes:
        copies.pop(old).replace_all_uses(old)
    graph.erase(copy)


def _erase_unread(op: Op, graph: Graph, home: dict[Op, int]) -> int:
    """Erase `op` if nobody reads it any more, then what only it read; how many ops went."""
    before = len(home)
    todo = [op]
    while todo:
        op = todo.pop()
        if op in home and not any(value.uses for value in op.writes):
            todo += [value.op for value in op.reads if value.op is not None]
            graph.erase(op)
            del home[op]
    return before - len(home)
