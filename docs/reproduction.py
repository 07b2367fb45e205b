"""The paper's measure on this machine; `make reproduce` writes docs/reproduction.md with it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.artifact import write_artifact
from ramiel_ir.bench import Contestant, Measurement, measure
from ramiel_ir.costs import work
from ramiel_ir.driver import (
    SIMPLIFY,
    default_pipeline,
    make_context,
    parallel_pipeline,
    plan_model,
    read,
)
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import Graph, Names, Op, Tensor, Value, clone_op
from ramiel_ir.plan import Plan, make_plan, simulate
from ramiel_ir.profile import profile

_WORKERS = 2
_MORE_WORKERS = (4, 8, 16)
_REIMPLEMENTATION = {
    "squeezenet": "0.97×",
    "googlenet": "1.21×",
    "resnet50": "1.01×",
    "densenet121": "0.86×",
    "inception-v3": "1.35×",
}
"""Published speedups of the known reimplementation, on 8 cores."""


@dataclass(frozen=True)
class Row:
    """One model: ms of the sequential and of the parallel plan, and what was predicted."""

    name: str
    alone: Measurement
    ungated: Measurement
    in_step: Measurement
    """Two workers that run the whole model each, and wait for each other as often as the plan's."""
    in_step_predicted: float
    gated: float
    verdict: str
    parallel: bool
    predicted: float
    alone_predicted: float
    bound: float
    further: dict[int, float]

    @property
    def speedup(self) -> float:
        """Of the parallel plan, whether the gate takes it or not."""
        return self.alone.median / self.ungated.median

    @property
    def simulated(self) -> float:
        """What the parallel plan was predicted to gain."""
        return self.alone_predicted / self.predicted

    @property
    def reached(self) -> float:
        """How much of what was predicted the parallel plan gains."""
        return self.speedup / self.simulated

    @property
    def in_step_reached(self) -> float:
        """The same of two workers in step, whose work is equal however it is predicted."""
        gained = self.alone.median / self.in_step.median
        return gained * self.in_step_predicted / self.alone_predicted

    @property
    def error(self) -> float:
        """How far the predicted latency is from the measured one, as a share of it."""
        return self.predicted / self.ungated.median - 1


def reproduce(name: str, rounds: int) -> Row:
    """Torch, one thread per worker, two workers against one."""
    graph = read(f"zoo:{name}")
    inputs = random_inputs(graph)
    costs = profile(graph, backend="torch", inputs=inputs, rounds=8)
    # The paper compares with one thread: so does the gate here.
    context = dataclasses.replace(
        make_context(workers=_WORKERS, threads=1, costs=costs, backend="torch"), cores=1
    )
    pipelines = {
        "sequential": f"{SIMPLIFY},sequential",
        "ungated": parallel_pipeline(_WORKERS),
        "gated": default_pipeline(_WORKERS),
    }
    plans = {
        title: plan_model(graph, backend="torch", passes=passes, context=context, threads=1)
        for title, passes in pipelines.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        contestants = []
        for title, done in plans.items():
            folder = Path(scratch) / title
            write_artifact(done.plan, done.timeline, done.backend, folder)
            contestants.append(Contestant(title, os.fspath(folder)))
        folder = Path(scratch) / "in step"
        meetings = max(1, len(plans["ungated"].plan.messages) // 2)
        together = make_plan(in_step(plans["sequential"].graph, meetings))
        timeline = simulate(together, costs)
        write_artifact(together, timeline, plans["sequential"].backend, folder)
        contestants.append(Contestant("in step", os.fspath(folder)))
        found = measure(contestants, graph, inputs, rounds=rounds)
        measured = {row.contestant.name: row for row in found}
    bounds = work(plans["sequential"].graph, costs)
    bound = min(_WORKERS, bounds.parallelism)
    alone = plans["sequential"].timeline.latency
    further = {}
    for workers in _MORE_WORKERS:
        many = dataclasses.replace(context, workers=workers)
        passes = parallel_pipeline(workers)
        done = plan_model(graph, backend="torch", passes=passes, context=many, threads=1)
        further[workers] = alone / done.timeline.latency
    return Row(
        name,
        measured["sequential"],
        measured["ungated"],
        measured["in step"],
        timeline.latency / 1e3,
        measured["sequential"].median / measured["gated"].median,
        _verdict(plans["ungated"].plan, plans["gated"].plan),
        not plans["ungated"].plan.is_sequential,
        plans["ungated"].timeline.latency / 1e3,
        alone / 1e3,
        bound,
        further,
    )


def in_step(graph: Graph, meetings: int) -> Graph:
    """The graph beside a copy of it, on two workers that wait for each other now and then.

    At each meeting, every so many ops, both send a number and then receive the other's.
    """
    both = graph.clone()
    names, copies = Names(both), dict[Value, Value]()
    originals = list(both.ops)
    twins = [both.append(clone_op(op, copies)) for op in originals]
    for value in (value for op in twins for value in op.writes):
        value.name = names.fresh(value.name)
    for number, ops in enumerate((originals, twins)):
        for op in ops:
            op.cluster = number
    zero = both.add_weight(names.fresh("zero"), Tensor.of(np.zeros(1, np.float32)))
    order: list[Op] = []
    for chunk in np.array_split(range(len(originals)), meetings + 1):
        order += [ops[index] for ops in (originals, twins) for index in chunk]
        tokens = [both.add("Neg", [zero], names.fresh("token"), zero.type) for _ in range(_WORKERS)]
        met = [both.add("Neg", [token], names.fresh("met"), zero.type) for token in tokens]
        for number in range(_WORKERS):
            tokens[number].op.cluster, met[number].op.cluster = number, 1 - number
        order += [value.op for value in (*tokens, *met)]
    both.reorder(order)
    both.set_outputs([*both.outputs, *(copies.get(value, value) for value in both.outputs)])
    return both


def measured_table(rows: Sequence[Row]) -> str:
    """What was measured, beside what was predicted."""
    header = ["model", "1 worker, ms", "2 workers, ms", "predicted, ms", "speedup", "ungated"]
    header += ["of minima", "simulated", "reached", "bound", "reached", "in step reached"]
    return table(
        header,
        (
            [
                row.name,
                _spread(row.alone),
                _spread(row.ungated),
                f"{row.predicted:.1f}",
                f"{row.gated:.2f}×{row.verdict}",
                f"{row.speedup:.2f}×",
                f"{row.alone.minimum / row.ungated.minimum:.2f}×",
                f"{row.simulated:.2f}×",
                f"{100 * row.reached:.0f} %",
                f"{row.bound:.2f}×",
                f"{100 * row.speedup / row.bound:.0f} %",
                f"{100 * row.in_step_reached:.0f} %",
            ]
            for row in rows
        ),
    )


def _verdict(ungated: Plan, gated: Plan) -> str:
    if ungated.is_sequential:
        return " (one cluster)"
    return " (declined)" if gated.is_sequential else ""


def _spread(found: Measurement) -> str:
    return f"{found.median:.1f} ± {100 * found.spread:.0f} % ({found.minimum:.1f})"


def simulated_table(rows: Sequence[Row]) -> str:
    """More workers than this machine has cores, and what others published."""
    header = ["model", *(f"{workers} workers" for workers in (2, *_MORE_WORKERS))]
    return table(
        [*header, "reimplementation, 8 cores"],
        (
            [
                row.name,
                f"{row.simulated:.2f}×",
                *(f"{row.further[workers]:.2f}×" for workers in _MORE_WORKERS),
                _REIMPLEMENTATION.get(row.name, ""),
            ]
            for row in rows
        ),
    )


def summary(rows: Sequence[Row]) -> str:
    """The prediction's error over all plans with several workers."""
    errors = [abs(row.error) for row in rows if row.parallel]
    if not errors:
        return "No plan has several workers."
    return (
        f"Over the {len(errors)} plans of two workers the predicted latency is "
        f"{100 * statistics.median(errors):.0f} % from the measured one in the median, "
        f"{100 * max(errors):.0f} % at most."
    )


def main() -> None:
    """Measure the zoo, or the models named, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.MODELS.names())
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        print(name, file=sys.stderr)
        rows.append(reproduce(name, options.rounds))
        parts = {
            "measured": measured_table(rows),
            "summary": summary(rows),
            "simulated": simulated_table(rows),
        }
        fill(__file__, parts)  # after each model, so that what was measured is kept


if __name__ == "__main__":
    main()
