"""Plans: what `make_plan` builds, what `verify` refuses, what `simulate` predicts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from ramiel_ir.costs import Costs
from ramiel_ir.errors import PlanError
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.plan import (
    Compute,
    Message,
    Plan,
    Receive,
    Send,
    Step,
    aliases,
    computed_outputs,
    make_plan,
    sequential_time,
    simulate,
)
from tests.strategies import random_clusters, random_dag


class Table(Costs):
    """Costs by the name of an op's first result, 1 where it is not listed, and one edge cost."""

    name = "table"

    def __init__(self, edge: float = 1.0, **ops: float) -> None:
        self.table, self.between = ops, edge

    def estimate_op(self, op: Op, threads: int) -> float:
        return self.table.get(op.label[1:], 1.0) / threads

    def estimate_edge(self, value: Value) -> float:
        return self.between


def diamond() -> Graph:
    """x → a → b → d, a → c → d, with a, b, d in cluster 0 and c in cluster 1."""
    graph = Graph("diamond", [Value("x")], opsets={"": 21})
    a = graph.add("Relu", graph.inputs, "a")
    b = graph.add("Neg", [a], "b")
    c = graph.add("Abs", [a], "c")
    d = graph.add("Add", [b, c], "d")
    graph.set_outputs([d])
    for op, cluster in zip(graph.ops, (0, 0, 1, 0), strict=True):
        op.cluster = cluster
    return graph


def shown(plan: Plan) -> list[list[str]]:
    """The steps of each worker as short words."""

    def word(step: Step) -> str:
        if isinstance(step, Compute):
            return step.op.label[1:] + "'" * step.sample
        return f"{'!' if isinstance(step, Send) else '?'}{step.message}"

    return [[word(step) for step in worker] for worker in plan.workers]


def test_a_value_is_sent_at_once_and_received_when_first_read() -> None:
    plan = make_plan(diamond())
    assert shown(plan) == [["a", "!0", "b", "?1", "d"], ["?0", "c", "!1"]]
    assert [(m.value.name, m.source, m.target) for m in plan.messages] == [("a", 0, 1), ("c", 1, 0)]
    plan.verify()


def test_a_value_goes_once_to_each_worker_that_reads_it() -> None:
    graph = Graph("fan", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    for name in ("b", "c", "d"):
        graph.add("Add", [a, a], name)
    for op, cluster in zip(graph.ops, (4, 7, 7, 9), strict=True):
        op.cluster = cluster
    plan = make_plan(graph)
    assert shown(plan) == [["a", "!0", "!1"], ["?0", "b", "c"], ["?1", "d"]]


def test_ops_without_a_cluster_join_the_first() -> None:
    graph = diamond()
    for op, cluster in zip(graph.ops, (None, 5, 6, None), strict=True):
        op.cluster = cluster
    assert shown(make_plan(graph)) == [["a", "!0", "b", "?1", "d"], ["?0", "c", "!1"]]
    for op in graph.ops:
        op.cluster = None
    assert make_plan(graph).is_sequential


def test_a_capture_travels_like_an_operand() -> None:
    graph = Graph("branch", [Value("x"), Value("condition")])
    a = graph.add("Relu", graph.inputs[:1], "a")
    body = Graph("body")
    body.set_outputs([body.add("Neg", [a], "n")])
    other = body.clone()
    other.ops[0].results[0].name = "m"  # type: ignore[union-attr]
    branches = {"then_branch": body, "else_branch": other}
    graph.append(Op("If", [graph.inputs[1]], [Value("y")], regions=branches))
    for cluster, op in enumerate(graph.ops):
        op.cluster = cluster
    plan = make_plan(graph)
    assert shown(plan) == [["a", "!0"], ["?0", "y"]]
    plan.verify()


def test_several_samples_run_one_after_the_other() -> None:
    plan = make_plan(diamond(), samples=2)
    assert shown(plan) == [
        ["a", "!0", "b", "?1", "d", "a'", "!2", "b'", "?3", "d'"],
        ["?0", "c", "!1", "?2", "c'", "!3"],
    ]
    plan.verify()


def test_an_empty_graph_has_an_empty_plan() -> None:
    graph = Graph("empty", [Value("x")])
    graph.set_outputs(graph.inputs)
    plan = make_plan(graph)
    plan.verify()
    assert shown(plan) == [[]]
    assert simulate(plan, Table()).makespan == 0
    assert aliases(graph) == {"x": graph.inputs[0]}
    assert list(computed_outputs(graph)) == []


def test_segments_start_at_receives_and_end_with_their_sends() -> None:
    first, second = make_plan(diamond()).segments(0)
    assert (first.receives, [step.op.label for step in first.computes], first.sends) == (
        (), ["%a", "%b"], (0,)
    )  # fmt: skip
    assert (second.receives, [step.op.label for step in second.computes], second.sends) == (
        (1,), ["%d"], ()
    )  # fmt: skip
    (only,) = make_plan(diamond()).segments(1)
    assert (only.receives, len(only.computes), only.sends) == ((0,), 1, (1,))


# What verify refuses ------------------------------------------------------------------------------


def change(plan: Plan, worker: int, steps: list[Step]) -> Plan:
    workers = list(plan.workers)
    workers[worker] = tuple(steps)
    return replace(plan, workers=tuple(workers))


def edit(worker: int, action: Callable[[list[Step]], object]) -> Callable[[Plan], Plan]:
    def apply(plan: Plan) -> Plan:
        steps = list(plan.workers[worker])
        action(steps)
        return change(plan, worker, steps)

    return apply


def swap(steps: list[Step], i: int, j: int) -> None:
    steps[i], steps[j] = steps[j], steps[i]


def message(number: int, **fields: object) -> Callable[[Plan], Plan]:
    def apply(plan: Plan) -> Plan:
        messages = list(plan.messages)
        messages[number] = replace(messages[number], **fields)  # type: ignore[arg-type]
        return replace(plan, messages=tuple(messages))

    return apply


def cross(plan: Plan) -> Plan:
    """Worker 0 waits for c before it sends a."""
    return change(plan, 0, [plan.workers[0][i] for i in (0, 3, 1, 2, 4)])


def foreign(plan: Plan) -> Plan:
    return change(plan, 1, [*plan.workers[1], Compute(diamond().ops[0])])


def duplicate(plan: Plan) -> Plan:
    twin = Message(plan.messages[1].value, 1, 0)
    twice = replace(plan, messages=(*plan.messages, twin))
    return change(twice, 1, [*plan.workers[1], Send(2)])


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (edit(0, lambda s: s.pop(0)), "worker 0: send message 0: %a is not there yet"),
        (edit(0, lambda s: s.pop(2)), "worker 0: compute %d = Add: it reads %b"),
        (edit(0, lambda s: s.pop(4)), "no worker computes %d = Add of sample 0"),
        (edit(1, lambda s: s.pop(1)), "worker 1: send message 1: %c is not there yet"),
        (edit(0, lambda s: s.pop(1)), "message 0 with %a is never sent"),
        (edit(1, lambda s: s.pop(2)), "message 1 with %c is never sent"),
        (edit(0, lambda s: s.pop(3)), "worker 0: compute %d = Add: it reads %c"),
        (edit(1, lambda s: s.pop(0)), "worker 1: compute %c = Abs: it reads %a"),
        (edit(0, lambda s: swap(s, 3, 4)), "worker 0: compute %d = Add: it reads %c"),
        (edit(0, lambda s: swap(s, 0, 1)), "worker 0: send message 0: %a is not there yet"),
        (edit(0, lambda s: swap(s, 0, 2)), "worker 0: compute %b = Neg: it reads %a"),
        (edit(1, lambda s: swap(s, 1, 2)), "worker 1: send message 1: %c is not there yet"),
        (edit(0, lambda s: s.append(s[0])), "worker 0: compute %a = Relu: it is computed twice"),
        (edit(0, lambda s: s.append(s[1])), "worker 0: send message 0: it happens twice"),
        (edit(0, lambda s: s.append(s[3])), "worker 0: receive message 1: it happens twice"),
        (edit(0, lambda s: s.append(Send(1))), "worker 0: send message 1: the message belongs to"),
        (edit(1, lambda s: s.append(Receive(1))), "worker 1: receive message 1: the message"),
        (edit(1, lambda s: s.append(Send(7))), "worker 1: send message 7: there is no such"),
        (edit(1, lambda s: s.append(Send(-1))), "worker 1: send message -1: there is no such"),
        (message(0, sample=1), "worker 0: send message 0: %a is not there yet"),
        (message(1, target=1), "worker 0: receive message 1: the message belongs to worker 1"),
        (duplicate, "message 2 with %c is never received"),
        (foreign, "worker 1: compute %a = Relu: the op is not in the graph"),
        (lambda plan: replace(plan, samples=2), "no worker computes %a = Relu of sample 1"),
        (
            edit(1, lambda s: s.append(Compute(s[1].op, 3))),  # type: ignore[union-attr]
            "worker 1: compute %c = Abs of sample 3: there are 1 samples",
        ),
        (cross, "the plan has a cycle: worker 0 waits for ever"),
    ],
)
def test_verify_names_the_step_that_breaks_a_law(
    mutate: Callable[[Plan], Plan], message: str
) -> None:
    plan = make_plan(diamond())
    plan.verify()
    with pytest.raises(PlanError, match=re.escape(message)):
        mutate(plan).verify()


def test_a_plan_whose_receives_are_swapped_is_refused() -> None:
    plan = make_plan(diamond())
    workers = (
        tuple(Receive(0) if step == Receive(1) else step for step in plan.workers[0]),
        tuple(Receive(1) if step == Receive(0) else step for step in plan.workers[1]),
    )
    with pytest.raises(PlanError, match="worker 0: receive message 0: the message belongs to"):
        replace(plan, workers=workers).verify()


def test_a_cycle_cannot_be_simulated_either() -> None:
    with pytest.raises(PlanError, match=r"worker [01] waits for ever"):
        simulate(cross(make_plan(diamond())), Table())


def test_verify_refuses_any_dropped_step_of_a_random_plan() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        graph = random_dag(rng, 15)
        random_clusters(graph, rng)
        plan = make_plan(graph, samples=rng.randrange(1, 3))
        plan.verify()
        for worker, steps in enumerate(plan.workers):
            for index in range(len(steps)):
                with pytest.raises(PlanError):
                    change(plan, worker, [*steps[:index], *steps[index + 1 :]]).verify()


# What simulate predicts ---------------------------------------------------------------------------


def test_a_message_delays_its_receiver_and_nobody_else() -> None:
    #        a(2) ─ b(3) ──────── d(1)     worker 0: a until 2, b until 5, d 9 to 10
    #          └─1─ c(5) ─1─────┘          worker 1: waits until 3, c until 8
    plan = make_plan(diamond())
    timeline = simulate(plan, Table(a=2, b=3, c=5))
    assert [(span.start, span.end) for span in timeline.rows[0]] == [
        (0, 2), (2, 2), (2, 5), (5, 9), (9, 10)
    ]  # fmt: skip
    assert [(span.start, span.end) for span in timeline.rows[1]] == [(0, 3), (3, 8), (8, 8)]
    assert timeline.makespan == 10
    assert timeline.busy == [6, 5]


class BusyTable(Table):
    """Of each edge of 4 the sender is busy for 1, the receiver for 2; a segment takes 10."""

    def estimate_send(self, value: Value) -> float:
        return 1.0

    def estimate_receive(self, value: Value) -> float:
        return 2.0

    def estimate_segment(self) -> float:
        return 10.0


def test_messages_occupy_their_ends_and_segments_take_time_to_start() -> None:
    # worker 0: a 0 to 12, sends until 13, b until 26, receives at 35, d until 46
    # worker 1: a's value is there at 16, c until 31, sends until 32
    timeline = simulate(make_plan(diamond()), BusyTable(4.0, a=2, b=3, c=5))
    assert [(span.start, span.end) for span in timeline.rows[0]] == [
        (0, 12), (12, 13), (13, 26), (26, 35), (35, 46)
    ]  # fmt: skip
    assert [(span.start, span.end) for span in timeline.rows[1]] == [(0, 16), (16, 31), (31, 32)]


def test_a_receive_takes_its_time_although_the_message_is_there() -> None:
    timeline = simulate(make_plan(diamond()), BusyTable(4.0, a=2, b=30, c=5))
    assert [(span.start, span.end) for span in timeline.rows[0]][2:4] == [(13, 53), (53, 55)]


def test_a_message_that_is_early_delays_nobody() -> None:
    timeline = simulate(make_plan(diamond()), Table(a=2, b=30, c=5))
    assert timeline.makespan == 33


def test_threads_make_ops_shorter() -> None:
    graph = diamond()
    for op in graph.ops:
        op.cluster = 0
    costs = Table(a=2, b=3, c=5)
    assert sequential_time(graph, costs, 1) == 11
    assert sequential_time(graph, costs, 2) == 5.5
    assert simulate(make_plan(graph, threads=2), costs).makespan == 5.5


def test_samples_overlap_where_workers_differ() -> None:
    # worker 0 runs d until 10 and only then the second a; both workers idle as in the first sample
    timeline = simulate(make_plan(diamond(), samples=2), Table(a=2, b=3, c=5))
    assert timeline.makespan == 20
