"""Chooses where a worker's steps are cut into segments.

A session cannot stop in the middle: what a segment receives must be there before its first op, and
what it sends leaves after its last. Cuts at every receive and after every send lose no time to
waiting, but each session costs a little, and ONNX Runtime sees less of the graph. So, from the
finest cuts on, neighbours join as long as the predicted makespan does not grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ramiel_ir.plan import Compute, Plan, Receive, Segment, Send, Timeline

SESSION = 12.0
"""µs that running one more session costs."""
MESSAGE = 25.0
"""µs from the end of the segment that sends to the start of the one that receives."""
_MOST = 1500
"""Segments beyond which the plan's own ones are taken: joining is quadratic."""


@dataclass(frozen=True)
class _Piece:
    """A segment and the µs of its ops."""

    segment: Segment
    micros: float

    def joined(self, other: _Piece) -> _Piece:
        first, second = self.segment, other.segment
        return _Piece(
            Segment(
                first.receives + second.receives,
                first.computes + second.computes,
                first.sends + second.sends,
            ),
            self.micros + other.micros,
        )


def choose_segments(plan: Plan, timeline: Timeline) -> list[list[Segment]]:
    """The segments of each worker, joined where that is not predicted to cost time.

    Joining moves receives forward and sends back; it never makes a cycle.
    """
    pieces = [_cut(steps, _durations(timeline, n)) for n, steps in enumerate(plan.workers)]
    if sum(map(len, pieces)) > _MOST:
        return [plan.segments(worker) for worker in range(len(plan.workers))]
    best = _makespan(pieces, plan)
    assert best is not None, "a verified plan has no cycle"
    changed = True
    while changed:
        changed = False
        for row in pieces:
            index = 0
            while index + 1 < len(row):
                left, right = row[index], row[index + 1]
                row[index : index + 2] = [left.joined(right)]
                makespan = _makespan(pieces, plan)
                if makespan is not None and makespan <= best:
                    best, changed = makespan, True
                else:
                    row[index : index + 1] = [left, right]
                    index += 1
    return [[piece.segment for piece in row] for row in pieces]


def _durations(timeline: Timeline, worker: int) -> list[float]:
    return [span.end - span.start for span in timeline.rows[worker]]


def _cut(steps: Sequence[object], micros: Sequence[float]) -> list[_Piece]:
    """The finest segments: each starts at a receive or after a send."""
    rows: list[tuple[list[int], list[Compute], list[int], list[float]]] = []
    for step, duration in zip(steps, micros, strict=True):
        if not rows:
            rows.append(([], [], [], []))
        receives, computes, sends, _ = rows[-1]
        if (isinstance(step, Receive) and (computes or sends)) or (
            isinstance(step, Compute) and sends
        ):
            rows.append(([], [], [], []))
        receives, computes, sends, durations = rows[-1]
        if isinstance(step, Receive):
            receives.append(step.message)
        elif isinstance(step, Send):
            sends.append(step.message)
        elif isinstance(step, Compute):
            computes.append(step)
            durations.append(duration)
    return [_Piece(Segment(tuple(r), tuple(c), tuple(s)), sum(d)) for r, c, s, d in rows]


def _makespan(pieces: Sequence[Sequence[_Piece]], plan: Plan) -> float | None:
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
            start = max([clock[worker], *(arrives[number] for number in piece.segment.receives)])
            clock[worker] = start + piece.micros + SESSION * bool(piece.segment.computes)
            position[worker] += 1
            for number in piece.segment.sends:
                arrives[number] = clock[worker] + MESSAGE
                if number in waiting:
                    ready.append(waiting.pop(number))
    return None if waiting else max(clock, default=0.0)
