"""The commands that measure: bench, tune, profile, calibrate, demo."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ramiel_ir.cli_options import (
    AsJson,
    Backends,
    CostModel,
    External,
    InputRange,
    InputShape,
    Model,
    Seed,
    Workers,
    model_inputs,
    parse_backends,
    print_table,
    printable,
    progress,
    read_model,
)

measure_app = typer.Typer()


@measure_app.command(short_help="Measure our plans and the peers.")
def bench(
    model: Model,
    backends: Backends = "torch,ort",
    workers: Workers = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 8,
    peers: Annotated[bool, typer.Option(help="Measure the peers as well.")] = True,
    costs: CostModel = "analytic",
    trace: Annotated[
        Path | None, typer.Option(help="Write timelines to this .json, for ui.perfetto.dev.")
    ] = None,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """Measure the latency of our plans and of the peers, interleaved, each in its own process."""
    from ramiel_ir import bench as benching
    from ramiel_ir.driver import parse_costs
    from ramiel_ir.files import refuse_unwritable
    from ramiel_ir.trace import chrome_trace

    if trace is not None:
        refuse_unwritable(trace.parent)
    graph = read_model(model, input_shape, allow_external)
    names = parse_backends(backends)
    with progress("measuring") as advance:
        report = benching.bench(
            graph,
            backends=names,
            workers=workers,
            rounds=rounds,
            costs={name: parse_costs(costs, name) for name in names},
            peers=peers,
            traces=trace is not None,
            inputs=model_inputs(graph, inputs, seed, input_range),
            progress=advance,
        )
    _print_rows(graph.name, report.rows, as_json)
    if trace is not None:
        trace.write_text(json.dumps(chrome_trace(report.traces)) + "\n")
    if any(row.failure and not row.contestant.peer for row in report.rows):
        raise typer.Exit(1)


def _print_rows(title: str, rows: list[Any], as_json: bool) -> None:
    from ramiel_ir.bench import COLUMNS

    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    print_table(title, list(COLUMNS), [row.cells() for row in rows])
    _print_failures(rows)


def _print_failures(rows: list[Any]) -> None:
    for row in rows:
        if row.failure:
            print(f"{row.contestant.name} failed: {printable(row.failure)}", file=sys.stderr)


@measure_app.command(short_help="Emit the plan that is fastest on this machine.")
def tune(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The artifact's folder.")],
    backends: Backends = "torch,ort",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 8,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact.")] = False,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """Measure plans of each backend, sequential and parallel, and emit the fastest."""
    from ramiel_ir import tune as tuning

    graph = read_model(model, input_shape, allow_external)
    with progress("tuning") as advance:
        found = tuning.tune(
            graph,
            output,
            backends=parse_backends(backends),
            rounds=rounds,
            inputs=model_inputs(graph, inputs, seed, input_range),
            force=force,
            progress=advance,
        )
    _print_rows(graph.name, found.rows, as_json)
    print(f"{output}: {found.best.contestant.name}; read {output / 'model.py'}", file=sys.stderr)


@measure_app.command(short_help="Measure costs on this machine.")
def profile(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .json file to write.")],
    backend: Annotated[str, typer.Option(help="The backend to measure.")] = "torch",
    rounds: Annotated[int, typer.Option(min=1, help="Inferences to take medians of.")] = 20,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    allow_external: External = None,
) -> None:
    """Measure µs per op and per message on this machine, for --costs."""
    from ramiel_ir import profile as profiling
    from ramiel_ir.files import refuse_unwritable

    refuse_unwritable(output.parent)
    graph = read_model(model, input_shape, allow_external)
    with progress("measuring"):
        given = model_inputs(graph, inputs, seed, input_range)
        found = profiling.profile(graph, backend=backend, inputs=given, rounds=rounds)
    found.save(output)
    alone, together = (sum(pair[i] for pair in found.ops.values()) / 1e3 for i in (0, 1))
    print(
        f"{output}: {len(found.ops)} ops, {alone:.2f} ms on one thread, {together:.2f} ms on all; "
        f"{_messages(found.messages)}",
        file=sys.stderr,
    )


def _messages(found: Any) -> str:
    per_kilobyte = 1e3 * (found.send_per_byte + found.receive_per_byte)
    return (
        f"a message takes {found.fixed:.1f} µs and {per_kilobyte:.2f} µs per kB, "
        f"a segment {found.segment:.1f} µs, a request {found.request:.0f} µs "
        f"and {found.input:.1f} µs per input"
    )


@measure_app.command(short_help="Fit the analytic costs to this machine.")
def calibrate(backends: Backends = "torch,ort") -> None:
    """Fit the analytic costs to this machine, once; later commands use what is found."""
    from ramiel_ir import calibrate as calibrating

    for backend in parse_backends(backends):
        with progress("measuring"):
            found = calibrating.calibrate(backend)
        print(
            f"{backend}: {found.gflops:.0f} GFLOP/s, {found.gigabytes_per_second:.1f} GB/s, "
            f"{found.overhead:.1f} µs per op, a second thread adds {100 * found.scaling:.0f} %; "
            f"{_messages(found.messages)}; kept in {calibrating.cache_file(backend)}",
            file=sys.stderr,
        )


@measure_app.command(short_help="Compile, compare and measure some models.")
def demo(
    models: Annotated[list[str], typer.Argument(help="Models, as for compile.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where artifacts go.")],
    backends: Backends = "torch,ort",
    workers: Annotated[int, typer.Option(min=1, help="Workers of the plans.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 6,
) -> None:
    """Compile models for each backend, compare, measure, and print one table."""
    from ramiel_ir.demo import show

    with progress("compiling and measuring") as advance:
        shown = show(
            models,
            output,
            backends=parse_backends(backends),
            workers=workers,
            rounds=rounds,
            progress=advance,
        )
    header = [
        "model", "backend", "ops", "clusters", "parallelism", "bound", "max error",
        "1 thread", "sequential", f"{workers} workers", "speedup", "the gate takes",
    ]  # fmt: skip
    rows = [
        [
            row.model,
            row.backend,
            str(len(row.plan.graph.ops)),
            f"{row.clusters} → {row.merged} → {len(row.plan.plan.workers)}",
            f"{row.parallelism:.2f}",
            f"{row.bound:.2f}×",
            f"{row.comparison.error:.1e}" + ("" if row.comparison.agrees else " DIFFERS"),
            _latency(row.alone),
            _latency(row.sequential),
            _latency(row.parallel),
            _speedup(row.sequential, row.parallel),
            "sequential" if row.gated else "parallel",
        ]
        for row in shown
    ]
    print_table("latency in ms, median ± spread, all contestants interleaved", header, rows)
    print(
        "clusters: before merge → after merge → workers. bound: the most that any plan of whole "
        "ops on these workers can gain over 1 thread.\n"
        "sequential: one worker with all cores. speedup: of the workers over sequential; below 1 "
        "the gate should decline, and says whether it does."
    )
    print("Read the generated code:")
    for row in shown:
        print(f"  {row.folder / 'model.py'}")
    measured = [each for row in shown for each in (row.alone, row.sequential, row.parallel)]
    _print_failures(measured)
    if any(each.failure for each in measured) or not all(row.comparison.agrees for row in shown):
        raise typer.Exit(1)


def _latency(row: Any) -> str:
    return "failed" if row.failure else f"{row.median:.1f} ± {row.spread * row.median:.1f}"


def _speedup(before: Any, after: Any) -> str:
    return "" if before.failure or after.failure else f"{before.median / after.median:.2f}×"
