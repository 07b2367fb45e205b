"""Chooses where a worker's steps are cut into sessions.

A session cannot stop in the middle: what it reads must be there before its first op, and what it
makes can be sent after its last. A plan says where the cuts are: a session is a run of ops without
a message between them. `make_plan` cuts at every message, which loses no time to waiting, but each
session costs a little, and ONNX Runtime sees less of the graph. So neighbours join as long as the
predicted makespan does not grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ramiel_ir.costs import Costs
from ramiel_ir.plan import Compute, Plan, Receive, Segment, Send, Step

_MOST = 1500
"""Segments beyond which the plan's own ones are taken: joining is quadratic."""


@dataclass(frozen=True)
class _Piece:
    """A segment, and the µs of its ops with what starting costs."""

    segment: Segment
    micros: float

    def joined(self, other: _Piece, start: float) -> _Piece:
        first, second = self.segment, other.segment
        both = bool(first.computes and second.computes)
        return _Piece(
            Segment(
                first.receives + second.receives,
                first.computes + second.computes,
                first.sends + second.sends,
            ),
            self.micros + other.micros - start * both,
        )


def join_segments(plan: Plan, costs: Costs) -> Plan:
    """The plan with fewer, longer sessions, where that is not predicted to cost time.

    Joining moves receives forward and sends back; two that would make a cycle stay apart.
    """
    numbers = range(len(plan.workers))
    rows = [cut(steps) for steps in plan.workers]
    if sum(map(len, rows)) > _MOST:
        return _with_segments(plan, [plan.segments(worker) for worker in numbers])
    messages = _Messages(plan, costs)
    pieces = [[_Piece(segment, messages.micros(segment)) for segment in row] for row in rows]
    best = messages.makespan(pieces)
    assert best is not None, "a verified plan has no cycle"
    changed = True
    while changed:
        changed = False
        for row in pieces:
            index = 0
            while index + 1 < len(row):
                left, right = row[index], row[index + 1]
                row[index : index + 2] = [left.joined(right, messages.start)]
                makespan = messages.makespan(pieces)
                if makespan is not None and makespan <= best:
                    best, changed = makespan, True
                else:
                    row[index : index + 1] = [left, right]
                    index += 1
    return _with_segments(plan, [[piece.segment for piece in row] for row in pieces])


def _with_segments(plan: Plan, rows: Sequence[Sequence[Segment]]) -> Plan:
    def steps(segment: Segment) -> list[Step]:
        return [
            *map(Receive, segment.receives),
            *segment.computes,
            *map(Send, segment.sends),
        ]

    return replace(
        plan, workers=tuple(tuple(s for segment in row for s in steps(segment)) for row in rows)
    )


def cut(steps: Sequence[Step]) -> list[Segment]:
    """The segments of one worker as the plan has them: none has a message between two ops."""
    rows: list[tuple[list[int], list[Compute], list[int]]] = []
    for step in steps:
        if not rows:
            rows.append(([], [], []))
        receives, computes, sends = rows[-1]
        if (isinstance(step, Receive) and (computes or sends)) or (
            isinstance(step, Compute) and sends
        ):
            rows.append(([], [], []))
        receives, computes, sends = rows[-1]
        if isinstance(step, Receive):
            receives.append(step.message)
        elif isinstance(step, Send):
            sends.append(step.message)
        else:
            computes.append(step)
    return [Segment(tuple(r), tuple(c), tuple(s)) for r, c, s in rows]


class _Messages:
    """The costs of a plan's messages, gathered once; what `simulate` would say of segments."""

    def __init__(self, plan: Plan, costs: Costs) -> None:
        self.plan = plan
        self.costs = costs
        self.start = costs.segment()
        values = [message.value for message in plan.messages]
        self.edge = [costs.edge(value) for value in values]
        self.send = [costs.send(value) for value in values]
        self.receive = [costs.receive(value) for value in values]

    def micros(self, segment: Segment) -> float:
        """µs of the segment's ops, its start included."""
        ops = (self.costs.op(step.op, self.plan.threads) for step in segment.computes)
        return sum(ops) + self.start * bool(segment.computes)

    def makespan(self, pieces: Sequence[Sequence[_Piece]]) -> float | None:
        """µs until the last segment ends, None where segments wait for each other in a circle."""
        position, clock = [0] * len(pieces), [0.0] * len(pieces)
        arrives: dict[int, float] = {}
        waiting: dict[int, int] = {}
        ready = deque(range(len(pieces)))
        while ready:
            worker = ready.popleft()
            row = pieces[worker]
            while position[worker] < len(row):
                piece = row[position[worker]]
                missing = next((n for n in piece.segment.receives if n not in arrives), None)
                if missing is not None:
                    waiting[missing] = worker
                    break
                for number in piece.segment.receives:
                    received = clock[worker] + self.receive[number]
                    clock[worker] = max(received, arrives[number])
                clock[worker] += piece.micros
                position[worker] += 1
                for number in piece.segment.sends:
                    arrives[number] = clock[worker] + self.edge[number]
                    clock[worker] += self.send[number]
                    if number in waiting:
                        ready.append(waiting.pop(number))
        return None if waiting else max(clock, default=0.0)
