"""`tune`: measures plans on this machine and keeps the fastest, where `compile` predicts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ramiel_ir.artifact import refuse_existing, write_artifact
from ramiel_ir.bench import Measurement, emitted, measure, of_each, sequential_plans
from ramiel_ir.driver import (
    Compilation,
    Source,
    make_context,
    parallel_pipeline,
    plan_model,
    read,
)
from ramiel_ir.errors import RamielError
from ramiel_ir.inputs import example_inputs
from ramiel_ir.ir import Graph
from ramiel_ir.machine import usable_cores
from ramiel_ir.profile import profile

CLOSE = 0.03
"""Plans whose medians are so near the fastest one's, as a share of it, count as equally fast."""


@dataclass(frozen=True)
class Tuned:
    """What was measured, and of which plan the artifact is."""

    rows: list[Measurement]
    best: Measurement
    compilation: Compilation


def tune(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    backends: Sequence[str] = ("torch", "ort"),
    rounds: int = 8,
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[], None] = lambda: None,
    **reading: Any,
) -> Tuned:
    """Emit the plan that is fastest here into `folder`.

    Each backend is profiled, and its plans for 2, 4, 8 … workers, up to all cores, compete with
    those of one worker with one thread and with all cores. Of those within `CLOSE` of the least
    median latency the one that takes the least CPU time wins. A backend that lacks an op takes no
    part. Raises as `compile` does, and `RamielError` where no plan could be measured.
    """
    refuse_existing(folder, force)
    graph = read(source, **reading)
    given = example_inputs(graph, inputs, seed=seed)
    plans = _plans(graph, backends, given)
    with emitted(plans) as contestants:
        rows = measure(contestants, graph, given, rounds=rounds, progress=progress)
    best = choose(rows)
    done = plans[best.contestant.name]
    write_artifact(done.plan, done.timeline, done.backend, folder, force=force)
    return Tuned(rows, best, done)


def choose(rows: Sequence[Measurement]) -> Measurement:
    """The one with the least CPU time among the fastest."""
    measured = [row for row in rows if not row.failure]
    if not measured:
        raise RamielError(f"no plan could be measured: {rows[0].failure}")
    limit = (1 + CLOSE) * min(row.median for row in measured)
    return min((row for row in measured if row.median <= limit), key=lambda row: row.cpu_seconds)


def _plans(
    graph: Graph, backends: Sequence[str], inputs: Mapping[str, Any]
) -> dict[str, Compilation]:
    """The candidates, by title."""

    def compiled(backend: str) -> dict[str, Compilation]:
        costs = profile(graph, backend=backend, inputs=inputs)
        found = sequential_plans(graph, make_context(costs=costs, backend=backend))
        for workers in worker_counts(usable_cores()):
            context = make_context(workers=workers, costs=costs, backend=backend)
            passes = parallel_pipeline(workers)
            done = plan_model(graph, backend=backend, passes=passes, context=context)
            if not done.plan.is_sequential:
                title = f"{len(done.plan.workers)} workers, threads of each: {done.plan.threads}"
                found[f"{backend}: parallel, {title}"] = done
        return found

    return {title: done for found in of_each(backends, compiled) for title, done in found.items()}


def worker_counts(cores: int) -> list[int]:
    """2, 4, 8 … and all cores."""
    powers = [2**power for power in range(1, cores.bit_length())]
    return sorted({count for count in (*powers, cores) if 1 < count <= cores})
