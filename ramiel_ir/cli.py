"""The command line: `ramiel-ir opt | compile | run | compare | bench | inspect | ops | zoo`.

IR and data go to stdout; logs, timings and progress to stderr. Exit codes: 0 done, 1 failed or
mismatch, 2 usage, 3 unsupported op or type. Everything heavy is imported by the command that
needs it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramiel_ir._version import VERSION
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
zoo_app = typer.Typer(help="The models that come with ramiel-ir.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")

_debug = False


class _Isolation(StrEnum):
    process = "process"
    thread = "thread"


Model = Annotated[
    str, typer.Argument(help="A .onnx or .ir file, zoo:NAME, or - for stdin.", show_default=False)
]
Passes = Annotated[
    str | None,
    typer.Option(
        help="Pipeline, such as cluster,merge{max-clusters=2}.", show_default="fold to gate"
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers of the plan.", show_default="usable cores")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Intra-op threads of each worker.", show_default="cores // workers"),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(help="Shape of an input, such as x:1,3,224,224; may repeat.", metavar="NAME:DIMS"),
]
InputRange = Annotated[
    list[str] | None,
    typer.Option(help="Range of a random input, such as x:0,1; may repeat.", metavar="NAME:LO,HI"),
]
CostModel = Annotated[
    str, typer.Option("--costs", help="Costs: analytic, static, or a profile (.json).")
]
External = Annotated[
    list[Path] | None,
    typer.Option("--allow-external", help="A folder that external data may also lie in."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Backends = Annotated[str, typer.Option(help="Backends, separated by commas.")]
Seed = Annotated[int, typer.Option(help="Seed of the random inputs.")]


def main() -> None:
    """The console script: run the command, turn typed errors into one line and an exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.addLevelName(logging.WARNING, "warning")
    try:
        app()
    except RamielError as error:
        if _debug:
            raise
        print(f"error: {_printable(error, lines=True)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {_printable(error.hint)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nobody is left to tell
        sys.exit(1)
    except OSError as error:
        if _debug:
            raise
        print(f"error: {_printable(error)}", file=sys.stderr)
        sys.exit(1)


def _printable(text: object, *, lines: bool = False) -> str:
    """`text` with control characters spelt out: a model's names must not steer the terminal.

    With `lines` line feeds stay.
    """
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else ascii(letter)[1:-1]
        for letter in str(text)
    )


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


# Reading what the options say ---------------------------------------------------------------------


def _size(text: str) -> int | str:
    """A dimension: a number, or else the name of a symbol."""
    if text.startswith("-"):
        raise UsageError(f"{text!r} is no dimension", hint="give a number, or a name for any size")
    return int(text) if text.isdecimal() else text


def _named(texts: list[str] | None, what: str) -> dict[str, list[str]]:
    found = {}
    for text in texts or []:
        name, colon, rest = text.rpartition(":")
        if not colon or not name:
            raise UsageError(f"{what} {text!r} is not NAME:VALUES")
        found[name] = [item.strip() for item in rest.split(",") if item.strip()]
    return found


def _shapes(texts: list[str] | None) -> dict[str, list[int | str]]:
    return {
        name: [_size(dim) for dim in dims] for name, dims in _named(texts, "--input-shape").items()
    }


def _ranges(texts: list[str] | None) -> dict[str, tuple[float, float]]:
    found = {}
    for name, limits in _named(texts, "--input-range").items():
        try:
            low, high = map(float, limits)
        except ValueError:
            raise UsageError("--input-range takes NAME:LO,HI") from None
        found[name] = (low, high)
    return found


def _read(model: str, shapes: list[str] | None, external: list[Path] | None = None) -> Graph:
    from ramiel_ir import driver, ir_file
    from ramiel_ir.onnx_proto import parse_model

    if model != "-":
        return driver.read(model, input_shapes=_shapes(shapes), allow_external=external or ())
    data = sys.stdin.buffer.read()
    if data.lstrip()[:5] == b"graph" or data.lstrip()[:2] == b"//":
        if shapes:
            raise UsageError("the shapes of IR are fixed; give them when reading the model")
        text = data.decode(errors="replace")
        return ir_file.parse_with_weights(text, Path(), what="stdin")
    return driver.read(parse_model(data, "stdin"), input_shapes=_shapes(shapes))


def _inputs(graph: Graph, path: Path | None, seed: int, ranges: list[str] | None) -> dict[str, Any]:
    from ramiel_ir.inputs import random_inputs, read_inputs

    if path is not None:
        return read_inputs(path, [value.name for value in graph.inputs])
    return random_inputs(graph, seed=seed, ranges=_ranges(ranges))


@contextlib.contextmanager
def _progress(title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A bar on stderr after the first second; silent where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def _print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(_printable(title)), title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


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
            from ramiel_ir.text import print_graph

            print(f"// IR after {step}\n{print_graph(graph)}", file=sys.stderr)

    context = make_context(workers=workers, costs=parse_costs(costs))
    manager = PassManager.parse(passes, context, verify_each=verify_each, after=after)
    if manager.plan_passes:
        raise UsageError(f"{manager.plan_passes[0].name} works on plans; opt stops before planning")
    with _progress("optimizing"):
        graph = _read(model, input_shape, allow_external)
        manager.run(graph)
    if timing:
        _print_timing(manager)
    if stats:
        for name, text in _facts(graph, context).items():
            print(f"{name:<28}{text}", file=sys.stderr)
    _write(graph, output)


def _write(graph: Graph, output: str) -> None:
    if output == "-":
        from ramiel_ir.text import print_graph

        sys.stdout.write(print_graph(graph))
    elif output.endswith(".ir"):
        from ramiel_ir.ir_file import write_ir

        write_ir(graph, output)
    else:
        from ramiel_ir.onnx_io import write_onnx

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
        reason = f" ({step.declined})" if step.declined else ""
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

    with _progress("compiling"):
        done = driver.compile(
            _read(model, input_shape, allow_external),
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
        f"predicted {done.timeline.makespan / 1e3:.2f} ms; read {output / 'model.py'}",
        file=sys.stderr,
    )
    if plan.is_sequential and done.context.workers > 1:
        print(
            f"one worker, and not {done.context.workers}: no plan is predicted to be faster",
            file=sys.stderr,
        )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="An artifact's folder.", show_default=False)],
    inputs: Annotated[
        Path, typer.Option(help="Inputs: .npz, .npy, or a folder of input_k.pb files.")
    ],
    outputs: Annotated[Path | None, typer.Option(help="Where to write outputs, as .npz.")] = None,
    isolation: Annotated[
        _Isolation | None, typer.Option(help="Workers as processes or threads.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds one inference may take.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run so often; print latencies.")] = 1,
) -> None:
    """Run an artifact on inputs from a file."""
    import statistics
    import time

    from ramiel_ir.artifact import load
    from ramiel_ir.inputs import read_inputs, write_outputs

    seconds: list[float] = []
    with load(folder, isolation=None if isolation is None else isolation.value) as model:
        manifest = json.loads((folder / "manifest.json").read_text())  # load has verified it
        given = read_inputs(inputs, [entry["name"] for entry in manifest["inputs"]])
        with _progress("running", repeat) as advance:
            for _ in range(repeat):
                start = time.perf_counter()
                found = model.run(given, timeout=timeout)
                seconds.append(time.perf_counter() - start)
                advance()
    if outputs is not None:
        write_outputs(outputs, found)
    else:
        for name, value in found.items():
            kind = getattr(value, "dtype", type(value).__name__)
            print(f"{_printable(name)}: {kind}", end="")
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
    rtol: Annotated[float | None, typer.Option(help="Relative tolerance.")] = None,
    atol: Annotated[float | None, typer.Option(help="Absolute tolerance.")] = None,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    isolation: Annotated[
        _Isolation | None, typer.Option(help="Workers as processes or threads.")
    ] = None,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """Do the backends agree with the reference? Exit code 1 where one does not."""
    from ramiel_ir import compare as comparing

    try:
        counts = [int(count) for count in workers.split(",")]
        if min(counts) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--workers takes numbers separated by commas, not {workers!r}") from None
    graph = _read(model, input_shape, allow_external)
    with _progress("comparing"):
        found = comparing.compare(
            graph,
            backends=backends.split(","),
            workers=counts,
            passes=passes,
            inputs=_inputs(graph, inputs, seed, input_range),
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
        _print_table("against the reference", ["backend", "workers", "max error", ""], rows)
    if not all(row.agrees for row in found):
        raise typer.Exit(1)


@app.command(short_help="Measure our plans and the peers.")
def bench(
    model: Model,
    backends: Backends = "torch,ort",
    workers: Workers = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 8,
    peers: Annotated[bool, typer.Option(help="Measure the peers as well.")] = True,
    costs: CostModel = "analytic",
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
    as_json: AsJson = False,
) -> None:
    """Measure the latency of our plans and of the peers, interleaved, each in its own process."""
    from ramiel_ir import bench as benching
    from ramiel_ir.driver import parse_costs

    graph = _read(model, input_shape)
    with _progress("measuring") as advance:
        report = benching.bench(
            graph,
            backends=backends.split(","),
            workers=workers,
            rounds=rounds,
            costs=None if costs == "analytic" else parse_costs(costs),
            peers=peers,
            inputs=_inputs(graph, inputs, seed, input_range),
            progress=advance,
        )
    if as_json:
        print(json.dumps([row.as_dict() for row in report.rows], indent=2))
        return
    header = ["", "min ms", "median ms", "± spread", "CPU ms", "predicted ms"]
    _print_table(graph.name, header, [_bench_row(row) for row in report.rows])
    for row in report.rows:
        if row.failure:
            print(f"{row.contestant.name} failed: {_printable(row.failure)}", file=sys.stderr)


def _bench_row(row: Any) -> list[str]:
    if row.failure:
        return [row.contestant.name, "failed", "", "", "", ""]
    predicted = row.contestant.predicted
    return [
        row.contestant.name,
        f"{row.minimum:.2f}",
        f"{row.median:.2f}",
        f"{100 * row.spread:.0f} %",
        f"{1e3 * row.cpu_seconds:.1f}",
        "" if predicted is None else f"{predicted / 1e3:.2f}",
    ]


@app.command(short_help="Measure costs on this machine.")
def profile(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .json file to write.")],
    backend: Annotated[str, typer.Option(help="The backend to measure.")] = "torch",
    rounds: Annotated[int, typer.Option(min=1, help="Inferences to take medians of.")] = 20,
    seed: Seed = 0,
    inputs: Annotated[Path | None, typer.Option(help="Inputs, as run takes them.")] = None,
    input_shape: InputShape = None,
    input_range: InputRange = None,
) -> None:
    """Measure µs per op and per message on this machine, for --costs."""
    from ramiel_ir import profile as profiling

    graph = _read(model, input_shape)
    with _progress("measuring"):
        given = _inputs(graph, inputs, seed, input_range)
        found = profiling.profile(graph, backend=backend, inputs=given, rounds=rounds)
    found.save(output)
    alone, together = (sum(pair[i] for pair in found.ops.values()) / 1e3 for i in (0, 1))
    print(
        f"{output}: {len(found.ops)} ops, {alone:.2f} ms on one thread, {together:.2f} ms on all; "
        f"a message costs {found.message:.1f} µs and {1e3 * found.per_byte:.3f} µs per kB",
        file=sys.stderr,
    )


@app.command(short_help="Fit the analytic costs to this machine.")
def calibrate(backends: Backends = "torch,ort") -> None:
    """Fit the analytic costs to this machine, once; later commands use what is found."""
    from ramiel_ir import calibrate as calibrating

    for backend in backends.split(","):
        with _progress("measuring"):
            found = calibrating.calibrate(backend)
        print(
            f"{backend}: {found.gflops:.0f} GFLOP/s, {found.gigabytes_per_second:.1f} GB/s, "
            f"{found.overhead:.1f} µs per op, {found.message:.1f} µs per message, a second thread "
            f"adds {100 * found.scaling:.0f} %; kept in {calibrating.cache_file(backend)}",
            file=sys.stderr,
        )


@app.command(short_help="Compile, compare and measure some models.")
def demo(
    models: Annotated[list[str], typer.Argument(help="Models, as for compile.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where artifacts go.")],
    backends: Backends = "torch,ort",
    workers: Annotated[int, typer.Option(min=1, help="Workers of the plans.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 6,
) -> None:
    """Compile models for each backend, compare, measure, and print one table."""
    from ramiel_ir.demo import show

    with _progress("compiling and measuring") as advance:
        shown = show(
            models,
            output,
            backends=backends.split(","),
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
            f"{row.sequential.median / row.parallel.median:.2f}×",
            "sequential" if row.gated else "parallel",
        ]
        for row in shown
    ]
    _print_table("latency in ms, median ± spread, all contestants interleaved", header, rows)
    print(
        "clusters: before merge → after merge → workers. bound: the most that any plan on these "
        "workers can gain over 1 thread.\nsequential: one worker with all cores. speedup: of the "
        "workers over sequential; below 1 the gate should decline, and says whether it does."
    )
    print("Read the generated code:")
    for row in shown:
        print(f"  {row.folder / 'model.py'}")
    if not all(row.comparison.agrees for row in shown):
        raise typer.Exit(1)


def _latency(row: Any) -> str:
    return row.failure or f"{row.median:.1f} ± {row.spread * row.median:.1f}"


@app.command(short_help="Describe a model.")
def inspect(
    model: Model,
    workers: Workers = None,
    costs: CostModel = "analytic",
    input_shape: InputShape = None,
    allow_external: External = None,
    as_json: AsJson = False,
) -> None:
    """What a model is: inputs, outputs, ops, opset, work, critical path, parallelism, clusters."""
    from collections import Counter

    from ramiel_ir.driver import make_context, parse_costs
    from ramiel_ir.pipeline import PassManager
    from ramiel_ir.text import print_type

    graph = _read(model, input_shape, allow_external)
    context = make_context(workers=workers, costs=parse_costs(costs))
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
                print(f"    {_printable(name) or 'ai.onnx':<32}{_printable(text)}")
        else:
            print(f"{title}: {_printable(section)}")


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


@zoo_app.command("list", short_help="List the models.")
def zoo_list(as_json: AsJson = False) -> None:
    """List the models: name, source, ops, parameters, parallelism (analytic costs)."""
    from ramiel_ir import registry
    from ramiel_ir.costs import AnalyticCosts, work
    from ramiel_ir.driver import read

    rows: list[dict[str, Any]] = []
    names = registry.MODELS.names()
    with _progress("building", len(names)) as advance:
        for name in names:
            builder = registry.MODELS.find(name)
            graph = read(builder())
            parameters = sum(v.weight.count for v in graph.weights if v.weight is not None)
            parallelism = round(work(graph, AnalyticCosts()).parallelism, 2)
            facts = {"ops": len(graph.ops), "parameters": parameters, "parallelism": parallelism}
            rows.append({"name": name, **facts, "paper": getattr(builder, "paper", "")})
            advance()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        row["parameters"] = f"{row['parameters'] / 1e6:.2f} M"
    _print_table("the zoo", list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])


@zoo_app.command("build")
def zoo_build(
    name: Annotated[str, typer.Argument(help="A model of the zoo.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .onnx file to write.")],
    batch: Annotated[
        str | None, typer.Option(help="Batch size, or a symbol such as N.", show_default="1")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the image.")] = None,
    sequence_length: Annotated[
        str | None, typer.Option(help="Number of tokens, or a symbol such as S.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights.")] = None,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX's op set.")] = None,
) -> None:
    """Write a model of the zoo as an .onnx file."""
    import inspect as python_inspect

    from ramiel_ir import registry
    from ramiel_ir.onnx_io import save_model

    builder = registry.MODELS.get(name, "zoo model")
    given = {
        "batch": batch and _size(batch),
        "image_size": image_size,
        "sequence_length": sequence_length and _size(sequence_length),
        "seed": seed,
        "opset": opset,
    }
    options = {key: value for key, value in given.items() if value is not None}
    known = python_inspect.signature(builder).parameters
    for key in options:
        if key not in known:
            raise UsageError(f"{name} has no {key.replace('_', '-')}; it has {', '.join(known)}")
    with _progress("building"):
        save_model(builder(**options), output)


if __name__ == "__main__":
    main()
