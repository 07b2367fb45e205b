"""`read`, `optimize`, `compile`: from a model to an artifact. This file is the whole story."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramiel_ir import registry
from ramiel_ir.artifact import refuse_existing, write_artifact
from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.calibrate import calibrated_costs
from ramiel_ir.costs import AnalyticCosts, Costs, StaticCosts
from ramiel_ir.errors import UsageError
from ramiel_ir.ir import Graph
from ramiel_ir.machine import describe_machine, usable_cores
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import Plan, Timeline, best_sequential, make_plan, simulate

if TYPE_CHECKING:
    from ramiel_ir.onnx_proto import Shapes

_log = logging.getLogger("ramiel_ir")

Source = Any
"""A path (.onnx or .ir), `zoo:NAME`, an `onnx.ModelProto`, an `onnx_ir.Model`, an ONNX Script
function, a `torch.nn.Module` (with example inputs), or a Graph."""


def read(
    source: Source,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    input_shapes: Shapes | None = None,
    allow_external: Sequence[str | os.PathLike[str]] = (),
) -> Graph:
    """The verified graph of a model.

    A `torch.nn.Module` is exported with `example_inputs` (and `dynamic_shapes`, as torch.export
    takes them). `input_shapes` gives inputs a shape by name; external data is read from the
    model's own folder and `allow_external` only. Raises `ModelError` for a broken model,
    `UsageError` for an unknown source.
    """
    from ramiel_ir import ir_file, onnx_reader

    if isinstance(source, Graph):
        return source.clone()
    if isinstance(source, str) and source.startswith("zoo:"):
        source = registry.MODELS.get(source.removeprefix("zoo:"), "zoo model")()
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".ir":
        if input_shapes:
            raise UsageError(
                "the shapes of an .ir file are fixed; give them when reading the model"
            )
        return ir_file.read_ir(source)
    if is_torch_module(source):
        from ramiel_ir.torch_export import export

        if example_inputs is None:
            raise UsageError("a torch.nn.Module needs example inputs to be exported")
        source = export(source, example_inputs, dynamic_shapes)
    if hasattr(source, "to_model_proto"):
        source = source.to_model_proto()
    return onnx_reader.read_onnx(source, input_shapes=input_shapes, allow_external=allow_external)


def is_torch_module(source: Source) -> bool:
    """Whether the source is a `torch.nn.Module`; never imports torch."""
    torch = sys.modules.get("torch")  # who has a module has imported torch
    return torch is not None and isinstance(source, torch.nn.Module)


def parse_costs(text: str, backend: str = "") -> Costs:
    """The first of these costs, with commas between them, that is for the backend.

    A .json file is a profile, and for the backend that was measured; `analytic`, the model as
    calibrated for the backend on this machine, and `static` are for any. Raises `UsageError` where
    none is.
    """
    measured = []
    for name in text.split(","):
        if name == AnalyticCosts.name:
            return calibrated_costs(backend)
        if name == StaticCosts.name:
            return StaticCosts()
        if not name.endswith(".json"):
            known = "analytic, static, and profiles (.json)"
            raise UsageError(f"unknown costs {name!r}; there are: {known}")
        found = MeasuredCosts.load(name)
        if backend in ("", found.backend):
            if found.machine != describe_machine():
                _log.warning("%s was measured on another machine: %s", name, found.machine)
            return found
        measured.append(f"{name!r} is of {found.backend}")
    command = f"`ramiel-ir profile --backend={backend}`"
    raise UsageError(f"no costs for {backend}: {', '.join(measured)}; {command} measures them")


def make_context(
    *,
    workers: int | None = None,
    threads: int | None = None,
    costs: Costs | Mapping[str, Costs] | None = None,
    backend: str = "",
) -> Context:
    """The context of a compilation: workers = cores and threads = cores // workers by default.

    One worker, where one is left, has all cores or one thread, or as many threads as are asked for.
    `costs` may be given by backend, as profiles are.
    """
    if isinstance(costs, Mapping):
        costs = costs.get(backend)
    cores = usable_cores()
    workers = workers or cores
    if workers > cores:
        _log.warning("%d workers share %d cores", workers, cores)
    return Context(
        costs=costs or calibrated_costs(backend),
        workers=workers,
        threads=threads or max(1, cores // workers),
        alone=(threads,) if threads else tuple(dict.fromkeys((cores, 1))),
        backend=backend,
    )


SIMPLIFY = "fold,dce,absorb"
"""The passes that make less work, whatever the plan."""


def parallel_pipeline(workers: int) -> str:
    """The passes of the best parallel plan for so many workers, whether it wins or not."""
    return f"{SIMPLIFY},divide,cluster,merge{{max-clusters={workers}}},clone,refine"


def default_pipeline(workers: int) -> str:
    """The passes that `compile` runs unless it is told others."""
    return f"{parallel_pipeline(workers)},gate"


@dataclass(frozen=True)
class Compilation:
    """What `plan_model` made in so many seconds: the plan, its predicted timeline, the passes."""

    backend: Backend
    graph: Graph
    plan: Plan
    timeline: Timeline
    manager: PassManager
    context: Context
    seconds: float


def plan_model(
    source: Source,
    *,
    backend: str,
    passes: str | None = None,
    context: Context | None = None,
    **reading: Any,
) -> Compilation:
    """Everything up to the verified plan: read, prepare, graph passes, plan, plan passes."""
    start = time.perf_counter()
    emitter = find_backend(backend)
    context = context or make_context(backend=backend)
    pipeline = default_pipeline(context.workers) if passes is None else passes
    manager = PassManager.parse(pipeline, context)
    graph = emitter.prepare(read(source, **reading), context)
    emitter.check(graph)
    manager.run(graph)
    if isinstance(context.costs, MeasuredCosts):
        known, ops = context.costs.known(graph), len(graph.ops)
        if known < ops / 2:
            _log.warning("the profile knows %d of %d ops: is it of this model?", known, ops)
    threads = context.threads
    if len(graph.clusters) < 2:
        threads, _ = best_sequential(graph, context.costs, context.alone)
    plan = make_plan(graph, threads=threads)
    plan.verify()
    plan = emitter.arrange(manager.run_plan(plan), context.costs)
    plan.verify()
    timeline = simulate(plan, context.costs)
    seconds = time.perf_counter() - start
    return Compilation(emitter, graph, plan, timeline, manager, context, seconds)


def compile(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    backend: str = "torch",
    passes: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    costs: Costs | None = None,
    force: bool = False,
    **reading: Any,
) -> Compilation:
    """Turn a model into an artifact in `folder`.

    `reading` are options of `read`: `example_inputs`, `input_shapes`, `allow_external`. `passes`
    is a pipeline string (an empty one runs no passes); `workers` defaults to the usable cores,
    `threads` (of each worker) to cores // workers; `costs` to the analytic model. Nothing is
    written unless everything worked.
    Raises `ModelError`, `UnsupportedOpError`, `PipelineError`, `PlanError` or `UsageError`.
    """
    refuse_existing(folder, force)  # before all the work
    context = make_context(workers=workers, threads=threads, costs=costs, backend=backend)
    done = plan_model(source, backend=backend, passes=passes, context=context, **reading)
    write_artifact(done.plan, done.timeline, done.backend, folder, force=force)
    return done
