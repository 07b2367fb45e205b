"""The paper's measure on this machine; `make reproduce` writes docs/reproduction.md with it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

from filling import fill, table

from ramiel_ir import registry
from ramiel_ir.artifact import write_artifact
from ramiel_ir.bench import Contestant, measure
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


def reproduce(name: str, rounds: int) -> list[str]:
    """The row of one model: torch, one thread per worker, two workers against one."""
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
        measured = dict(zip(plans, measure(contestants, graph, inputs, rounds=rounds), strict=True))
    bounds = work(plans["sequential"].graph, costs)
    bound = min(_WORKERS, bounds.parallelism)
    base = measured["sequential"].median
    ungated, gated = (base / measured[title].median for title in ("ungated", "gated"))
    simulated = bounds.work / plans["ungated"].timeline.makespan
    further = []
    for workers in _MORE_WORKERS:
        many = dataclasses.replace(context, workers=workers)
        passes = parallel_pipeline(workers)
        done = plan_model(graph, backend="torch", passes=passes, context=many, threads=1)
        further.append(f"{bounds.work / done.timeline.makespan:.2f}×")
    return [
        name,
        f"{base:.1f} ± {100 * measured['sequential'].spread:.0f} %",
        f"{measured['ungated'].median:.1f} ± {100 * measured['ungated'].spread:.0f} %",
        f"{gated:.2f}×" + (" (declined)" if plans["gated"].plan.is_sequential else ""),
        f"{ungated:.2f}×",
        f"{simulated:.2f}×",
        f"{bound:.2f}×",
        f"{100 * ungated / bound:.0f} %",
        *further,
        _REIMPLEMENTATION.get(name, ""),
    ]


def main() -> None:
    """Measure the zoo, or the models named, and fill in the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=registry.MODELS.names())
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    rows = []
    for name in options.models:
        print(name, file=sys.stderr)
        rows.append(reproduce(name, options.rounds))
    header = [
        "model",
        "1 worker, ms",
        "2 workers, ms",
        "speedup",
        "ungated",
        "simulated",
        "bound",
        "reached",
        *(f"{workers} workers, simulated" for workers in _MORE_WORKERS),
        "reimplementation, 8 cores",
    ]
    fill(__file__, {"table": table(header, rows)})


if __name__ == "__main__":
    main()
