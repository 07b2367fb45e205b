"""The first thing to run: some models through every backend, and one table that tells the truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ramiel_ir.artifact import write_artifact
from ramiel_ir.bench import Contestant, Measurement, measure, of_each
from ramiel_ir.calibrate import calibrate_once
from ramiel_ir.compare import Comparison, Reference, check
from ramiel_ir.costs import Costs, work
from ramiel_ir.driver import (
    SIMPLIFY,
    Compilation,
    default_pipeline,
    make_context,
    parallel_pipeline,
    plan_model,
    read,
)
from ramiel_ir.errors import UsageError
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import PassManager


@dataclass(frozen=True)
class Showing:
    """One model on one backend: its parallel plan, whether it agrees, and the latencies.

    `sequential` ran on all cores, `alone` on one thread; `clusters` are those before merge. The
    gate would emit the sequential plan where `gated`.
    """

    model: str
    backend: str
    folder: Path
    clusters: int
    merged: int
    parallelism: float
    plan: Compilation
    plain: Graph
    """What is to be computed, before the plan computes some ops twice."""
    gated: bool
    comparison: Comparison
    alone: Measurement
    sequential: Measurement
    parallel: Measurement

    @property
    def bound(self) -> float:
        """The greatest speedup any plan on as many workers can have over one thread."""
        context = self.plan.context
        least = work(self.plain, context.costs, context.threads).bound(context.workers)
        return work(self.plain, context.costs).work / least


def show(
    sources: Sequence[str],
    output: Path,
    *,
    backends: Sequence[str],
    workers: int,
    rounds: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Showing]:
    """Compile, run, compare and measure each model on each backend; artifacts stay in `output`.

    Costs are those of this machine: it is calibrated first, if it never was. Raises `UsageError`
    for models whose artifacts would have the same names.
    """
    stems = _stems(sources)
    costs = {}
    for backend in backends:
        costs[backend] = calibrate_once(backend)
        progress()
    found: list[Showing] = []
    for stem, source in stems.items():
        graph = read(source)
        inputs = random_inputs(graph)
        reference = Reference(graph)
        expected = reference.run(inputs)
        parts: list[tuple[list[Compilation], Comparison, list[Contestant]]] = []
        for plans in of_each(backends, partial(_plans, graph, workers, costs)):
            contestants = []
            for title, done in zip(("one-thread", "sequential", "parallel"), plans, strict=False):
                folder = output / f"{stem}-{done.backend.name}-{title}"
                write_artifact(done.plan, done.timeline, done.backend, folder, force=True)
                contestants.append(Contestant(folder.name, os.fspath(folder)))
                progress()
            comparison = check(plans[2], reference, [inputs], [expected])
            parts.append((plans, comparison, contestants))
        everyone = [contestant for part in parts for contestant in part[2]]
        measured = iter(measure(everyone, graph, inputs, rounds=rounds, progress=progress))
        for (alone, _, done, gated), comparison, contestants in parts:
            clustered = alone.graph.clone()
            PassManager.parse("cluster", done.context).run(clustered)
            before = len(clustered.clusters)
            PassManager.parse("merge", done.context).run(clustered)
            found.append(
                Showing(
                    stem,
                    done.backend.name,
                    Path(contestants[2].folder),
                    before,
                    len(clustered.clusters),
                    work(alone.graph, done.context.costs).parallelism,
                    done,
                    alone.graph,
                    gated.plan.is_sequential,
                    comparison,
                    *(next(measured) for _ in contestants),
                )
            )
    return found


def _stems(sources: Sequence[str]) -> dict[str, str]:
    """The sources by what their artifacts are named after."""
    found: dict[str, str] = {}
    for source in sources:
        stem = Path(source.removeprefix("zoo:")).stem
        if stem in found:
            raise UsageError(
                f"the artifacts of {found[stem]!r} and {source!r} would have the same names",
                hint="rename one, or show each with an --output of its own",
            )
        found[stem] = source
    return found


def _plans(
    graph: Graph, workers: int, costs: Mapping[str, Costs], backend: str
) -> list[Compilation]:
    """On one thread, on all cores, parallel, and what the gate takes."""
    context = make_context(workers=workers, costs=costs[backend], backend=backend)
    return [
        plan_model(graph, backend=backend, passes=passes, context=within)
        for passes, within in (
            (f"{SIMPLIFY},sequential", replace(context, alone=(1,))),
            (f"{SIMPLIFY},sequential", replace(context, alone=context.alone[:1])),
            (parallel_pipeline(workers), context),
            (default_pipeline(workers), context),
        )
    ]
