"""The paper's measure on this machine; `make reproduce` writes docs/reproduction.md with it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.artifact import write_artifact
from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.bench import Contestant, Measurement, measure
from ramiel_ir.company import twins
from ramiel_ir.costs import MessageCosts, work
from ramiel_ir.driver import (
    SIMPLIFY,
    Compilation,
    default_pipeline,
    make_context,
    parallel_pipeline,
    plan_model,
    read,
)
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import Graph, Names, Op, Tensor
from ramiel_ir.messages import measure_messages
from ramiel_ir.order import least_makespan
from ramiel_ir.plan import Plan, Timeline, make_plan, simulate
from ramiel_ir.profile import profile

_WORKERS = 2
_MORE_WORKERS = (4, 8, 16)
_SAMPLES = 4
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
    """One model: what was measured and predicted of each program, by its title."""

    name: str
    measured: dict[str, Measurement]
    predicted: dict[str, float]
    """Latencies in ms."""
    bound: float
    attainable: float
    """What no plan of whole ops exceeds for a caller: see `least_makespan`."""
    verdict: str
    parallel: bool
    further: dict[int, float]
    """The simulated speedup of more workers."""

    def gain(self, title: str, samples: int = 1) -> float:
        """Of a program over as many samples on one worker, one after the other."""
        return samples * self.measured[title].speedup(self.measured["sequential"])

    def gain_of_minima(self, title: str, samples: int = 1) -> float:
        """The same, of the least latencies."""
        return samples * self.measured["sequential"].minimum / self.measured[title].minimum

    def simulated(self, title: str, samples: int = 1) -> float:
        """What it was predicted to gain."""
        return samples * self.predicted["sequential"] / self.predicted[title]

    def reached(self, title: str) -> float:
        """How much of what was predicted it gains."""
        return self.gain(title) / self.simulated(title)

    @property
    def error(self) -> float:
        """How far the parallel plan's predicted latency is from the measured one, as a share."""
        return self.predicted["ungated"] / self.measured["ungated"].median - 1


def reproduce(name: str, rounds: int, messages: MessageCosts) -> Row:
    """Torch, one thread per worker, two workers against one."""
    graph = read(f"zoo:{name}")
    inputs = random_inputs(graph)
    costs = profile(graph, backend="torch", inputs=inputs, rounds=8, messages=messages)
    # The paper compares with one thread: so does the gate here.
    context = make_context(workers=_WORKERS, threads=1, costs=costs, backend="torch")

    def compiled(passes: str, workers: int = _WORKERS) -> Compilation:
        within = dataclasses.replace(context, workers=workers)
        return plan_model(graph, backend="torch", passes=passes, context=within)

    parallel = parallel_pipeline(_WORKERS)
    whole = parallel.replace("divide,", "")  # samples side by side need no messages of parts
    sequential = compiled(f"{SIMPLIFY},sequential")
    plans = {
        "sequential": sequential.plan,
        "ungated": (ungated := compiled(parallel)).plan,
        "gated": (gated := compiled(default_pipeline(_WORKERS)).plan),
        "hypercluster": compiled(f"{whole},hypercluster{{samples={_SAMPLES}}}").plan,
        "switched": compiled(f"{whole},hypercluster{{samples={_SAMPLES},switched=true}}").plan,
        "in step": make_plan(in_step(sequential.graph, max(1, len(ungated.plan.messages) // 2))),
    }
    timelines = {title: simulate(plan, costs) for title, plan in plans.items()}
    programs = {
        title: (plan, timelines[title]) for title, plan in plans.items() if title != "hypercluster"
    }
    bounds = work(sequential.graph, costs)
    alone = sequential.timeline.latency
    least = ungated.timeline.request + least_makespan(sequential.graph, costs, _WORKERS)
    return Row(
        name,
        _measure(programs, sequential.backend, graph, inputs, rounds),
        {title: timeline.latency / 1e3 for title, timeline in timelines.items()},
        min(_WORKERS, bounds.parallelism),
        alone / least,
        _verdict(ungated.plan, gated),
        not ungated.plan.is_sequential,
        {
            workers: alone / compiled(parallel_pipeline(workers), workers).timeline.latency
            for workers in _MORE_WORKERS
        },
    )


def _measure(
    programs: Mapping[str, tuple[Plan, Timeline]],
    backend: Backend,
    graph: Graph,
    inputs: Mapping[str, Any],
    rounds: int,
) -> dict[str, Measurement]:
    """Each by its title; those that are the same program are measured once."""
    contestants: dict[str, Contestant] = {}
    texts = {}
    with tempfile.TemporaryDirectory() as scratch:
        for title, (plan, timeline) in programs.items():
            folder = Path(scratch) / title
            write_artifact(plan, timeline, backend, folder)
            texts[title] = (folder / "model.py").read_text()
            contestant = Contestant(title, os.fspath(folder), samples=plan.samples)
            contestants.setdefault(texts[title], contestant)
        rows = measure(list(contestants.values()), graph, inputs, rounds=rounds)
    found = dict(zip(contestants, rows, strict=True))
    return {title: found[text] for title, text in texts.items()}


def in_step(graph: Graph, meetings: int) -> Graph:
    """The graph beside a copy of it, on two workers that wait for each other now and then.

    At each meeting, every so many ops, both send a number and then receive the other's.
    """
    both = twins(graph)
    names = Names(both)
    originals, made = both.clusters.values()
    zero = both.add_weight(names.fresh("zero"), Tensor.of(np.zeros(1, np.float32)))
    order: list[Op] = []
    for chunk in np.array_split(range(len(originals)), meetings + 1):
        order += [ops[index] for ops in (originals, made) for index in chunk]
        tokens = [both.add("Neg", [zero], names.fresh("token"), zero.type) for _ in range(_WORKERS)]
        met = [both.add("Neg", [token], names.fresh("met"), zero.type) for token in tokens]
        for number in range(_WORKERS):
            tokens[number].op.cluster, met[number].op.cluster = number, 1 - number
        order += [value.op for value in (*tokens, *met)]
    both.reorder(order)
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
                _spread(row.measured["sequential"]),
                _spread(row.measured["ungated"]),
                _milliseconds(row.predicted["ungated"]),
                f"{row.gain('gated'):.2f}×{row.verdict}",
                f"{row.gain('ungated'):.2f}×",
                f"{row.gain_of_minima('ungated'):.2f}×",
                f"{row.simulated('ungated'):.2f}×",
                f"{100 * row.reached('ungated'):.0f} %",
                f"{row.bound:.2f}×",
                f"{100 * row.gain('ungated') / row.bound:.0f} %",
                f"{100 * row.reached('in step'):.0f} %",
            ]
            for row in rows
        ),
    )


def _verdict(ungated: Plan, gated: Plan) -> str:
    if ungated.is_sequential:
        return " (one cluster)"
    return " (declined)" if gated.is_sequential else ""


def _spread(found: Measurement) -> str:
    median, minimum = map(_milliseconds, (found.median, found.minimum))
    return f"{median} ± {100 * found.spread:.0f} % ({minimum})"


def _milliseconds(found: float) -> str:
    return f"{found:.{1 if found >= 10 else 2}f}"


def simulated_table(rows: Sequence[Row]) -> str:
    """More workers than this machine has cores, and what others published."""
    header = ["model", *(f"{workers} workers" for workers in (2, *_MORE_WORKERS))]
    return table(
        [*header, "reimplementation, 8 cores"],
        (
            [
                row.name,
                f"{row.simulated('ungated'):.2f}×",
                *(f"{row.further[workers]:.2f}×" for workers in _MORE_WORKERS),
                _REIMPLEMENTATION.get(row.name, ""),
            ]
            for row in rows
        ),
    )


def samples_table(rows: Sequence[Row]) -> str:
    """Several samples in one request: what each gains over one after the other on one worker."""
    header = ["model", f"{_SAMPLES} samples, ms", "one by one", "hypercluster, simulated"]
    header += ["switched, simulated", "switched", "of minima"]
    return table(
        header,
        (
            [
                row.name,
                _spread(row.measured["switched"]),
                f"{row.gain('ungated'):.2f}×",
                f"{row.simulated('hypercluster', _SAMPLES):.2f}×",
                f"{row.simulated('switched', _SAMPLES):.2f}×",
                f"{row.gain('switched', _SAMPLES):.2f}×",
                f"{row.gain_of_minima('switched', _SAMPLES):.2f}×",
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


def attainable(rows: Sequence[Row]) -> str:
    """Where requests and the order of ops leave less to gain than the bound says."""
    found = [
        f"{row.name} {row.attainable:.2f}× for {row.bound:.2f}×"
        for row in rows
        if row.parallel and row.attainable < 0.95 * row.bound
    ]
    return ", ".join(found) or "none of these"


def handing_over(messages: MessageCosts) -> str:
    """What messages and requests cost here, as it was measured before the models were."""
    return (
        f"A message of 1 KiB arrives {messages.fixed:.1f} µs after its worker begins with it, of "
        f"which that worker is busy for {messages.send:.1f} µs and the other for "
        f"{messages.receive:.1f}. A request takes {messages.request:.0f} µs beside the ops of one "
        f"worker, {messages.request + messages.wake:.0f} beside those of two, and "
        f"{messages.input:.1f} more for each input."
    )


def main() -> None:
    """Measure the zoo, or the models named, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.MODELS.names())
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    start = time.monotonic()
    messages = measure_messages(find_backend("torch"), rounds=20)
    rows = []
    for name in options.models:
        print(name, file=sys.stderr)
        rows.append(reproduce(name, options.rounds, messages))
        parts = {
            "measured": measured_table(rows),
            "summary": summary(rows),
            "attainable": attainable(rows),
            "messages": handing_over(messages),
            "minutes": f"{(time.monotonic() - start) / 60:.0f}",
            "simulated": simulated_table(rows),
            "samples": samples_table(rows),
        }
        fill(__file__, parts)  # after each model, so that what was measured is kept


if __name__ == "__main__":
    main()
