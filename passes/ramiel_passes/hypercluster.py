"""Several samples in flight: a worker computes one while another waits."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from ramiel_ir.pipeline import Context, No, PlanPass
from ramiel_ir.plan import Compute, Plan, Playback, Receive, Send, Step


@dataclass(frozen=True)
class Hypercluster(PlanPass):
    """Let each worker go on with another sample whenever one has to wait for a message.

    Das and Rauchwerger (2024), hyperclusters: a worker's steps of several independent samples, one
    after the other by their times as predicted. A sample is left at a receive only; of those that
    can go on the first one does. With `switched`, each sample's clusters are shifted around all
    workers that there may be, to where the least is to do: clusters of unequal work then make
    workers of equal work, and a plan of one worker gets others, which take whole samples.

    The model keeps the shapes it was exported with; an artifact takes a list of `samples` inputs.
    """

    name = "hypercluster"
    samples: int = 2
    switched: bool = False

    def run(self, plan: Plan, context: Context) -> Plan | No:
        if self.samples < 2:
            return No("one sample has none to make way for")
        if plan.samples > 1:
            return No("the plan has several samples already")
        workers = max(len(plan.workers), context.workers) if self.switched else len(plan.workers)
        workers = min(workers, len(plan.workers) * self.samples)
        threads = plan.threads if workers == len(plan.workers) else context.threads
        rows: list[list[list[Step]]] = [[] for _ in range(workers)]
        messages = []
        work = [_work(steps, threads, context) for steps in plan.workers]
        load = [0.0] * workers
        for sample in range(self.samples):
            shift = _lightest(load, work) if self.switched else 0
            load = _shifted(load, work, shift)
            for worker, steps in enumerate(plan.workers):
                first = sample * len(plan.messages)
                row = [_of_sample(step, sample, first) for step in steps]
                rows[(worker + shift) % workers].append(row)
            messages += [
                replace(
                    message,
                    source=(message.source + shift) % workers,
                    target=(message.target + shift) % workers,
                    sample=sample,
                )
                for message in plan.messages
            ]
        playback = Playback(messages, workers, threads, context.costs)
        targets = [message.target for message in messages]
        return replace(
            plan,
            workers=tuple(map(tuple, _interleave(rows, targets, playback))),
            messages=tuple(messages),
            threads=threads,
            samples=self.samples,
        )


def _work(steps: Sequence[Step], threads: int, context: Context) -> float:
    return sum(context.costs.op(step.op, threads) for step in steps if isinstance(step, Compute))


def _lightest(load: Sequence[float], work: Sequence[float]) -> int:
    """The shift after which the busiest worker has least to do, then the next one, and so on."""
    return min(
        range(len(load)), key=lambda shift: sorted(_shifted(load, work, shift), reverse=True)
    )


def _shifted(load: Sequence[float], work: Sequence[float], shift: int) -> list[float]:
    """What each worker has to do when cluster n joins worker n + shift."""
    found = list(load)
    for cluster, micros in enumerate(work):
        found[(cluster + shift) % len(found)] += micros
    return found


def _of_sample(step: Step, sample: int, first: int) -> Step:
    if isinstance(step, Compute):
        return Compute(step.op, sample)
    return replace(step, message=first + step.message)


def _interleave(
    rows: Sequence[Sequence[Sequence[Step]]], targets: Sequence[int], playback: Playback
) -> list[list[Step]]:
    """One row of steps per worker from its rows for each sample, in an order that is possible.

    Steps are taken as they can happen, a receive after its send, so that no two wait for each
    other.
    """
    todo = [[deque(row) for row in samples] for samples in rows]
    taken: list[list[Step]] = [[] for _ in rows]
    events = [(0.0, worker) for worker in range(len(rows))]
    while events:
        now, worker = heappop(events)
        queues = [queue for queue in todo[worker] if queue]
        if not queues:
            continue
        queue = min(queues, key=lambda queue: max(now, _begin(queue, playback)))
        begin = max(playback.clock[worker], _begin(queue, playback))
        if begin > now:
            if begin < math.inf:  # else the send that it waits for will make an event
                heappush(events, (begin, worker))
            continue
        computed = False
        while queue and not (computed and isinstance(queue[0], Receive)):
            step = queue.popleft()
            playback.play(worker, step)
            taken[worker].append(step)
            computed = computed or not isinstance(step, Receive)
            if isinstance(step, Send):
                heappush(events, (playback.clock[worker], targets[step.message]))
        heappush(events, (playback.clock[worker], worker))
    return taken


def _begin(queue: Iterable[Step], playback: Playback) -> float:
    """When all is there that the steps up to the next computation wait for."""
    receives = itertools.takewhile(lambda step: isinstance(step, Receive), queue)
    return max(map(playback.arrival, receives), default=0.0)
