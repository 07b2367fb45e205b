"""The command line: `ramiel-ir opt | compile | run | compare | inspect | ops`.

`bench`, `tune`, `profile`, `calibrate` and `demo` are in cli_measure.py, `zoo` is in cli_zoo.py.

IR and data go to stdout; logs, timings and progress to stderr. Exit codes: 0 done, 1 failed or
mismatch, 2 usage, 3 unsupported op or type. Everything heavy is imported by the command that
needs it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramiel_ir._version import VERSION
from ramiel_ir.cli_measure import measure_app
from ramiel_ir.cli_options import (
    AsJson,
    Backends,
    CostModel,
    CostsOf,
    External,
    InputRange,
    InputShape,
    Isolation,
    Model,
    Passes,
    Seed,
    Threads,
    Workers,
    given_inputs,
    parse_backends,
    parse_ranges,
    print_table,
    printable,
    progress,
    read_model,
)
from ramiel_ir.cli_zoo import zoo_app
from ramiel_ir.errors import RamielError, UsageError

if TYPE_CHECKING:
    from ramiel_ir.ir import Graph
    from ramiel_ir.pipeline import Option, PassManager

app = typer.Typer(
    name="ramiel-ir",
    help="Turn an ONNX model into a package that runs its branches in parallel on CPU workers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(measure_app)
app.add_typer(zoo_app, name="zoo")

_debug = False


class _Printable(logging.Formatter):
    """Warnings name ops and values, too."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main() -> None:
    """The console script: run the command, turn errors into one line and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.addLevelName(logging.WARNING, "warning")
    try:
        app()
    except RamielError as error:
        if _debug:
            raise
        print(f"error: {printable(error, lines=True)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {printable(error.hint)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nobody is left to tell
        sys.exit(1)
    except OSError as error:
        if _debug:
            raise
        print(f"error: {printable(error)}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:  # a defect of ours, or of what we call
        if _debug:
            raise
        message = " ".join(str(error).split())
        print(f"error: {type(error).__name__}: {printable(message)}", file=sys.stderr)
        print("hint: this is unexpected; --debug, before the command, shows where", file=sys.stderr)
        sys.exit(1)


def _version(asked: bool) -> None:
    if asked:
        print(f"ramiel-ir {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    global _debug
    _debug = debug


# Commands -----------------------------------------------------------------------------------------


@app.command()
def opt(
    model: Annotated[
        str | None,
        typer.Argument(help="A .onnx or .ir file, zoo:NAME, or - for stdin.", show_default=False),
    ] = None,
    passes: Annotated[str, typer.Option(help="Pipeline, such as cluster,merge.")] = "",
    output: Annotated[
        str, typer.Option("-o", "--output", help="A .ir or .onnx file, or - for IR on stdout.")
    ] = "-",
    list_passes: Annotated[
        bool, typer.Option("--list-passes", help="List the passes, with options, and stop.")
    ] = False,
    print_ir_after: Annotated[
        str | None, typer.Option(help="Print the IR on stderr after this pass, or after all.")
    ] = None,
    print_ir_after_change: Annotated[
        bool, typer.Option("--print-ir-after-change", help="... after passes that changed it.")
    ] = False,
    verify_each: Annotated[
        bool, typer.Option("--verify-each/--no-verify-each", help="Verify after each pass.")
    ] = True,
    timing: Annotated[bool, typer.Option("--timing", help="Seconds per pass, on stderr.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="What the graph is, on stderr.")] = False,
    workers: Workers = None,
    costs: CostModel = "analytic",
    backend: CostsOf = "torch",
    input_shape: InputShape = None,
    allow_external: External = None,
) -> None:
    """Run passes over a model and print the IR."""
    from ramiel_ir import registry
    from ramiel_ir.driver import make_context, parse_costs
    from ramiel_ir.pipeline import PassManager

    if list_passes:
        print("\n".join(_describe_pass(name) for name in registry.PASSES.names()))
        return
    if model is None:
        raise UsageError("opt needs a model", hint="ramiel-ir opt --passes=cluster,merge x.onnx")
    if output != "-" and Path(output).suffix not in (".ir", ".onnx"):
        raise UsageError(f"-o takes a .ir or .onnx file, or -, not {output!r}")
    if print_ir_after not in (None, "all"):
        registry.PASSES.get(str(print_ir_after), "pass")

    def after(step: Option, graph: Graph, changed: bool) -> None:
        if print_ir_after in ("all", step.name) or (print_ir_after_change and changed):
            from ramiel_ir.printer import print_graph

            print(f"// IR after {step}\n{print_graph(graph)}", file=sys.stderr)

    context = make_context(workers=workers, costs=parse_costs(costs, backend))
    manager = PassManager.parse(passes, context, verify_each=verify_each, after=after)
    if manager.plan_passes:
        raise UsageError(f"{manager.plan_passes[0].name} works on plans; opt stops before planning")
    with progress("optimizing"):
        graph = read_model(model, input_shape, allow_external)
        manager.run(graph)
    if timing:
        _print_timing(manager)
    if stats:
        for name, text in _facts(graph, context).items():
            print(f"{name:<28}{text}", file=sys.stderr)
    _write(graph, output)


def _write(graph: Graph, output: str) -> None:
    if output == "-":
        from ramiel_ir.printer import print_graph

        sys.stdout.write(print_graph(graph))
    elif output.endswith(".ir"):
        from ramiel_ir.ir_file import write_ir

        write_ir(graph, output)
    else:
        from ramiel_ir.onnx_writer import write_onnx

        write_onnx(graph, output)


def _describe_pass(name: str) -> str:
    from ramiel_ir import registry

    cls = registry.PASSES.find(name)
    lines = [f"{name}  ({registry.PASSES.provider(name)})", f"    {cls.summary()}"]
    lines += [f"    {option}" for option in cls.describe_options()]
    return "\n".join(lines)


def _print_timing(manager: PassManager) -> None:
    for step in manager.steps:
        outcome = "changed" if step.changed else "unchanged"
        reason = f" ({step.reason})" if step.reason else ""
        print(f"{step.seconds:9.4f} s  {step.spec}: {outcome}{reason}", file=sys.stderr)


def _facts(graph: Graph, context: Any) -> dict[str, str]:
    from ramiel_ir.costs import work
    from ramiel_ir.plan import make_plan, simulate

    bounds = work(graph, context.costs)
    plan = make_plan(graph)
    facts = {
        "ops": str(len(graph.ops)),
        "weights": str(len(graph.weights)),
        "work": f"{bounds.work:.0f} µs",
        "critical path": f"{bounds.critical_path:.0f} µs",
        "parallelism": f"{bounds.parallelism:.2f}",
        f"bound on {context.workers} workers": f"{bounds.bound(context.workers):.0f} µs",
        "clusters": str(len(graph.clusters)),
    }
    if graph.clusters:
        facts["messages"] = str(len(plan.messages))
        facts["predicted makespan"] = f"{simulate(plan, context.costs).makespan:.0f} µs"
    return facts


@app.command()
def compile(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The artifact's folder.")],
    backend: Annotated[str, typer.Option(help="What emits the artifact.")] = "torch",
    passes: Passes = None,
    workers: Workers = None,
    threads: Threads = None,
    input_shape: InputShape = None,
    costs: CostModel = "analytic",
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact.")] = False,
    allow_external: External = None,
) -> None:
    """Emit an artifact: a folder that runs the model without ramiel-ir."""
    from ramiel_ir import driver
    from ramiel_ir.driver import parse_costs

    with progress("compiling"):
        done = driver.compile(
            read_model(model, input_shape, allow_external),
            output,
            backend=backend,
            passes=passes,
            workers=workers,
            threads=threads,
            costs=parse_costs(costs, backend),
            force=force,
        )
    plan = done.plan
    print(
        f"{output}: {_count(len(plan.graph.ops), 'op')} on {_count(len(plan.workers), 'worker')} "
        f"of {_count(plan.threads, 'thread')}, {_count(len(plan.messages), 'message')}, "
        f"{f'{plan.samples} samples, ' if plan.samples > 1 else ''}"
        f"predicted {done.timeline.latency / 1e3:.2f} ms; read {output / 'model.py'}",
        file=sys.stderr,
    )
    if plan.is_sequential and done.context.workers > 1:
        reasons = [step.reason for step in done.manager.steps if step.changed and step.reason]
        reason = reasons[-1] if reasons else "the passes leave one cluster"
        print(f"one worker, and not {done.context.workers}: {reason}", file=sys.stderr)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="An artifact's folder.", show_default=False)],
    inputs: Annotated[
        Path | None, typer.Option(help="Inputs: .npz, .npy, or a folder of input_k.pb files.")
    ] = None,
    outputs: Annotated[Path | None, typer.Option(help="Where to write outputs, as .npz.")] = None,
    isolation: Annotated[
        Isolation | None, typer.Option(help="Workers as processes or threads.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one inference may take.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run so often; print latencies.")] = 1,
) -> None:
    """Run an artifact on inputs from a file."""
    import statistics
    import time

    from ramiel_ir.artifact import load
    from ramiel_ir.inputs import read_inputs, split_samples, stack_samples, write_outputs

    seconds: list[float] = []
    with load(folder, isolation=None if isolation is None else isolation.value) as model:
        manifest = json.loads((folder / "manifest.json").read_text())  # load has verified it
        names = [entry["name"] for entry in manifest["inputs"]]
        given: Any = {} if inputs is None else read_inputs(inputs, names)
        if manifest["wiring"]["samples"] > 1:
            given = split_samples(given, manifest["wiring"]["samples"])
        with progress("running", repeat) as advance:
            for _ in range(repeat):
                start = time.perf_counter()
                found = model.run(given, timeout=timeout)
                seconds.append(time.perf_counter() - start)
                advance()
    if manifest["wiring"]["samples"] > 1:
        found = stack_samples(found)
    if outputs is not None:
        write_outputs(outputs, found)
    else:
        for name, value in found.items():
            kind = getattr(value, "dtype", type(value).__name__)
            print(f"{printable(name)}: {kind}", end="")
            print(f"{list(getattr(value, 'shape', ()))}\n{value}")
    if repeat > 1:
        low, middle = 1e3 * min(seconds), 1e3 * statistics.median(seconds)
        print(f"{repeat} runs: min {low:.3f} ms, median {middle:.3f} ms", file=sys.stderr)


@app.command(short_help="Check the backends against the reference.")
def compare(
    model: Model,
    backends: Backends = "torch,ort",
    workers: Annotated[str, typer.Option(help="Worker counts, separated by commas.")] = "2",
    passes: Passes = None,
    costs: CostModel = "analytic",
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.")] = None,
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance.")] = None,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    isolation: Annotated[
        Isolation | None, typer.Option(help="Workers as processes or threads.")
    ] = None,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """Do the backends agree with the reference? Exit code 1 where one does not."""
    from ramiel_ir import compare as comparing
    from ramiel_ir.driver import parse_costs

    try:
        counts = [int(count) for count in workers.split(",")]
        if min(counts) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--workers takes numbers separated by commas, not {workers!r}") from None
    graph = read_model(model, input_shape, allow_external)
    names = parse_backends(backends)
    with progress("comparing"):
        found = comparing.compare(
            graph,
            file=Path(model),
            backends=names,
            workers=counts,
            passes=passes,
            costs={name: parse_costs(costs, name) for name in names},
            seed=seed,
            ranges=parse_ranges(input_range),
            inputs=given_inputs(graph, inputs),
            tolerance=comparing.Tolerance(rtol, atol),
            isolation=None if isolation is None else isolation.value,
        )
    if as_json:
        print(json.dumps([row.as_dict() for row in found], indent=2))
    else:
        rows = [
            [
                row.backend,
                f"{row.used_workers} of {row.workers}",
                f"{row.error:.2e}",
                "agrees" if row.agrees else f"differs, first at {row.first}",
            ]
            for row in found
        ]
        print_table("against the reference", ["backend", "workers", "max error", ""], rows)
    if not all(row.agrees for row in found):
        raise typer.Exit(1)


@app.command(short_help="Describe a model.")
def inspect(
    model: Model,
    workers: Workers = None,
    costs: CostModel = "analytic",
    backend: CostsOf = "torch",
    input_shape: InputShape = None,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """What a model is: inputs, outputs, ops, opset, work, critical path, parallelism, clusters."""
    from collections import Counter

    from ramiel_ir.driver import make_context, parse_costs
    from ramiel_ir.pipeline import PassManager
    from ramiel_ir.printer import print_type

    graph = read_model(model, input_shape, allow_external)
    context = make_context(workers=workers, costs=parse_costs(costs, backend))
    histogram = dict(Counter(op.qualified_kind for op in graph.walk()).most_common())
    planned = graph.clone()
    PassManager.parse("fold,dce,cluster", context).run(planned)
    before = len(planned.clusters)
    PassManager.parse("merge", context).run(planned)
    facts = _facts(planned, context)
    del facts["clusters"]
    facts |= {"clusters before merge": str(before), "after merge": str(len(planned.clusters))}
    described = {
        "name": graph.name,
        "opsets": graph.opsets,
        "inputs": {value.name: print_type(value.type) for value in graph.inputs},
        "outputs": {value.name: print_type(value.type) for value in graph.outputs},
        "ops": histogram,
        "after fold and dce": facts,
    }
    if as_json:
        print(json.dumps(described, indent=2))
        return
    for title, section in described.items():
        if isinstance(section, dict):
            print(title)
            for name, text in section.items():
                print(f"    {printable(name) or 'ai.onnx':<32}{printable(text)}")
        else:
            print(f"{title}: {printable(section)}")


@app.command(short_help="List the ops a backend can emit.")
def ops(
    backend: Annotated[str, typer.Option(help="The backend whose table to list.")] = "torch",
    as_json: AsJson = False,
) -> None:
    """List the ops a backend can emit, with the op-set versions from which each form holds."""
    from ramiel_ir.backend import find_backend

    table = find_backend(backend).ops()
    if not table:
        raise UsageError(f"the {backend} backend keeps no table: it tries every op")
    if as_json:
        print(json.dumps(table, indent=2))
        return
    for name, versions in table.items():
        print(f"{name:<40}{', '.join(map(str, versions))}")


if __name__ == "__main__":
    main()
