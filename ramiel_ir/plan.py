"""The Plan: what each worker does, step by step. `make_plan` builds one from clusters.

A plan is frozen. Worker n runs its steps in order: `Compute` an op, `Send` a message, `Receive`
one, each for one sample. A message hands one value from one worker to another. Model inputs and
weights are at hand on every worker; an output is handed to the caller by the worker that computes
it.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ramiel_ir.collector import collector_paused
from ramiel_ir.costs import Costs
from ramiel_ir.errors import PlanError
from ramiel_ir.ir import Graph, Op, Value


@dataclass(frozen=True, slots=True)
class Compute:
    """Run an op for one sample."""

    op: Op
    sample: int = 0

    def __str__(self) -> str:
        return f"compute {self.op}" + (f" of sample {self.sample}" if self.sample else "")


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a message over; never waits."""

    message: int

    def __str__(self) -> str:
        return f"send message {self.message}"


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait until a message is there."""

    message: int

    def __str__(self) -> str:
        return f"receive message {self.message}"


Step = Compute | Send | Receive


@dataclass(frozen=True, slots=True)
class Message:
    """One value of one sample on its way from one worker to another."""

    value: Value
    source: int
    target: int
    sample: int = 0


@dataclass(frozen=True)
class Segment:
    """A maximal run of a worker's steps that starts at a receive (the first need not)."""

    receives: tuple[int, ...]
    computes: tuple[Compute, ...]
    sends: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What each worker does. `threads` are the intra-op threads of each worker."""

    graph: Graph
    workers: tuple[tuple[Step, ...], ...]
    messages: tuple[Message, ...] = ()
    threads: int = 1
    samples: int = 1

    @property
    def is_sequential(self) -> bool:
        """Whether one worker does everything."""
        return len(self.workers) <= 1

    def segments(self, worker: int) -> list[Segment]:
        """The segments of a worker, in order. Sends wait for the end of their segment."""
        found: list[Segment] = []
        receives: list[int] = []
        computes: list[Compute] = []
        sends: list[int] = []

        def close() -> None:
            if receives or computes or sends:
                found.append(Segment(tuple(receives), tuple(computes), tuple(sends)))
            for part in (receives, computes, sends):
                part.clear()

        for step in self.workers[worker]:
            if isinstance(step, Receive):
                if computes or sends:
                    close()
                receives.append(step.message)
            elif isinstance(step, Send):
                sends.append(step.message)
            else:
                computes.append(step)
        close()
        return found

    @collector_paused()
    def verify(self) -> None:
        """Prove the plan laws, or raise `PlanError` that names the step.

        Every op is computed once per sample; every use sees its value earlier on the same worker,
        or by a receive; every message has one send, by its source and after its value is there,
        and one receive, by its target; and program order and messages together have no cycle.

        With K requests in flight, request r + K starts only when all workers have finished request
        r. So no slot is written while its last reader may still read it, and the unrolled order has
        a cycle only where the order of one request has one.
        """
        self._verify_steps()
        self._verify_order()

    def _verify_steps(self) -> None:
        computed: set[tuple[Op, int]] = set()
        sent: set[int] = set()
        received: set[int] = set()
        for worker, steps in enumerate(self.workers):
            here: set[tuple[Value, int]] = set()
            for step in steps:
                if isinstance(step, Compute):
                    wrong = self._wrong_compute(step, here, computed)
                else:
                    done = sent if isinstance(step, Send) else received
                    wrong = self._wrong_message(step, worker, here, done)
                if wrong:
                    raise PlanError(f"worker {worker}: {step}: {wrong}")
        for op, sample in itertools.product(self.graph.ops, range(self.samples)):
            if (op, sample) not in computed:
                raise PlanError(f"no worker computes {op} of sample {sample}")
        for number, message in enumerate(self.messages):
            if number not in sent or number not in received:
                missing = "sent" if number not in sent else "received"
                raise PlanError(f"message {number} with {message.value} is never {missing}")

    def _wrong_compute(
        self, step: Compute, here: set[tuple[Value, int]], computed: set[tuple[Op, int]]
    ) -> str | None:
        """What is wrong with a step where the values `here` are at hand; else take note of it."""
        op, sample = step.op, step.sample
        if op.graph is not self.graph:
            return "the op is not in the graph"
        if not 0 <= sample < self.samples:
            return f"there are {self.samples} samples"
        for value in op.reads:
            if value.op is not None and (value, sample) not in here:
                return f"it reads {value}, which is not there yet"
        if (op, sample) in computed:
            return "it is computed twice"
        computed.add((op, sample))
        here.update((value, sample) for value in op.writes)
        return None

    def _wrong_message(
        self, step: Send | Receive, worker: int, here: set[tuple[Value, int]], done: set[int]
    ) -> str | None:
        """What is wrong with a step where the values `here` are at hand; else take note of it."""
        if not 0 <= step.message < len(self.messages):
            return "there is no such message"
        message = self.messages[step.message]
        end = message.source if isinstance(step, Send) else message.target
        if end != worker:
            return f"the message belongs to worker {end}"
        if step.message in done:
            return "it happens twice"
        done.add(step.message)
        if isinstance(step, Receive):
            here.add((message.value, message.sample))
        elif (message.value, message.sample) not in here:
            return f"{message.value} is not there yet"
        return None

    def _verify_order(self) -> None:
        for worker, step in self.walk():
            if step is None:
                raise PlanError(f"the plan has a cycle: worker {worker} waits for ever")

    def walk(self) -> Iterator[tuple[int, Step | None]]:
        """All steps in an order in which they can happen, with their workers.

        Ends with (worker, None) for a worker that can never go on, if there is one.
        """
        position = [0] * len(self.workers)
        waiting: dict[int, int] = {}
        sent: set[int] = set()
        ready = deque(range(len(self.workers)))
        while ready:
            worker = ready.popleft()
            steps = self.workers[worker]
            while position[worker] < len(steps):
                step = steps[position[worker]]
                if isinstance(step, Receive) and step.message not in sent:
                    waiting[step.message] = worker
                    break
                position[worker] += 1
                if isinstance(step, Send):
                    sent.add(step.message)
                    if step.message in waiting:
                        ready.append(waiting.pop(step.message))
                yield worker, step
        for worker in waiting.values():
            yield worker, None


@collector_paused()
def make_plan(graph: Graph, *, threads: int = 1, samples: int = 1) -> Plan:
    """The plan in which worker n runs the ops of the n-th cluster in graph order.

    A value is sent as soon as it is computed, once to each worker that reads it, and received just
    before it is first read. Ops without a cluster join the first one. With several samples each
    worker does all of its work for one sample before the next.
    """
    numbers = {cluster: worker for worker, cluster in enumerate(graph.clusters)}
    home = {op: numbers[op.cluster] if op.cluster is not None else 0 for op in graph.ops}
    workers: list[list[Step]] = [[] for _ in range(max(1, len(numbers)))]
    messages: list[Message] = []
    for sample in range(samples):
        number: dict[tuple[Value, int], int] = {}
        received: set[tuple[Value, int]] = set()
        for op in graph.ops:
            worker = home[op]
            for value in op.reads:
                if (value, worker) in number and (value, worker) not in received:
                    received.add((value, worker))
                    workers[worker].append(Receive(number[value, worker]))
            workers[worker].append(Compute(op, sample))
            for value in op.writes:
                for target in dict.fromkeys(home[user] for user in value.users()):
                    if target != worker:
                        number[value, target] = len(messages)
                        messages.append(Message(value, worker, target, sample))
                        workers[worker].append(Send(number[value, target]))
    return Plan(graph, tuple(map(tuple, workers)), tuple(messages), threads, samples)


@dataclass(frozen=True, slots=True)
class Span:
    """One step on the timeline, in µs from the start of the request."""

    step: Step
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """When each worker would do what, by a cost model; µs.

    `request` is what a request takes beside that, whatever its workers do.
    """

    rows: tuple[tuple[Span, ...], ...]
    request: float = 0.0

    @property
    def makespan(self) -> float:
        """µs from the start of the request to the end of the last step."""
        return max((row[-1].end for row in self.rows if row), default=0.0)

    @property
    def latency(self) -> float:
        """µs that the caller waits."""
        return self.request + self.makespan

    @property
    def busy(self) -> list[float]:
        """µs that each worker computes."""
        return [
            sum(span.end - span.start for span in row if isinstance(span.step, Compute))
            for row in self.rows
        ]


class Playback:
    """Clocks of workers that play steps by a cost model, one step after the other; µs.

    A send occupies its worker for `costs.send`, and its message can be used `costs.edge` after the
    send began. A receive waits for that, and occupies its worker for at least `costs.receive`.
    Computing after a message takes `costs.segment` more.
    """

    def __init__(
        self, messages: Sequence[Message], workers: int, threads: int, costs: Costs
    ) -> None:
        self.clock = [0.0] * workers
        self._messages, self._threads, self._costs = messages, threads, costs
        self._arrives: dict[int, float] = {}
        self._computing = [False] * workers
        self._segment = costs.segment()
        self._alone = workers < 2

    def arrival(self, step: Step) -> float:
        """When what the step waits for is there: 0 if for nothing, infinity if it is not sent."""
        return self._arrives.get(step.message, math.inf) if isinstance(step, Receive) else 0.0

    def play(self, worker: int, step: Step) -> Span:
        """The step on that worker, as soon as it can."""
        start = self.clock[worker]
        if isinstance(step, Compute):
            end = start + self._costs.op(step.op, self._threads, alone=self._alone)
            end += 0.0 if self._computing[worker] else self._segment
        elif isinstance(step, Send):
            value = self._messages[step.message].value
            end = start + self._costs.send(value)
            self._arrives[step.message] = start + self._costs.edge(value)
        else:
            value = self._messages[step.message].value
            end = max(start + self._costs.receive(value), self._arrives[step.message])
        self._computing[worker] = isinstance(step, Compute)
        self.clock[worker] = end
        return Span(step, start, end)


def simulate(plan: Plan, costs: Costs) -> Timeline:
    """Play the plan by a cost model. Raises `PlanError` where the plan has a cycle."""
    rows: list[list[Span]] = [[] for _ in plan.workers]
    playback = Playback(plan.messages, len(plan.workers), plan.threads, costs)
    for worker, step in plan.walk():
        if step is None:
            raise PlanError(f"the plan has a cycle: worker {worker} waits for ever")
        rows[worker].append(playback.play(worker, step))
    inputs = plan.graph.inputs * plan.samples
    return Timeline(tuple(map(tuple, rows)), costs.request(len(plan.workers), inputs))


def sequential_time(graph: Graph, costs: Costs, threads: int) -> float:
    """µs for all ops one after the other with this many intra-op threads."""
    return sum(costs.op(op, threads) for op in graph.ops)


def best_sequential(graph: Graph, costs: Costs, counts: Sequence[int]) -> tuple[int, float]:
    """The best of these numbers of threads for a sequential plan, and its µs."""
    times = {threads: sequential_time(graph, costs, threads) for threads in counts}
    best = min(times, key=times.__getitem__)
    return best, times[best]


def aliases(graph: Graph) -> dict[str, Value]:
    """The outputs that no op computes, by name: they are inputs or weights."""
    return {value.name: value for value in graph.outputs if value.op is None}


def computed_outputs(graph: Graph) -> Sequence[Value]:
    """The outputs that ops compute, each once."""
    return [value for value in dict.fromkeys(graph.outputs) if value.op is not None]
