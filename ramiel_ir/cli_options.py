"""What the commands share: options, how they are read, progress and tables."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramiel_ir.errors import UsageError

if TYPE_CHECKING:
    from ramiel_ir.ir import Graph


class Isolation(StrEnum):
    process = "process"
    thread = "thread"


def _check_backend(name: str) -> str:
    from ramiel_ir import registry

    registry.BACKENDS.check(name, "backend")
    return name


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
    typer.Option(
        min=1,
        help="Intra-op threads of each worker, also of one that is left alone.",
        show_default="cores // workers; alone 1 or all, whichever is predicted to be faster",
    ),
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
    str,
    typer.Option(
        "--costs",
        help="Costs: analytic, static, or profiles (.json), with commas between them: "
        "the first one for a backend counts.",
    ),
]
CostsOf = Annotated[
    str,
    typer.Option("--backend", help="The backend whose costs count.", callback=_check_backend),
]
External = Annotated[
    list[Path] | None,
    typer.Option("--allow-external", help="A folder that external data may also lie in."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Backends = Annotated[str, typer.Option(help="Backends, separated by commas.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random inputs.")]


_DIGITS = 18  # of a dimension: any such number fits into 64 bits


def printable(text: object, *, lines: bool = False) -> str:
    """`text` with control characters spelt out: a model's names must not steer the terminal.

    With `lines` line feeds stay.
    """
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else ascii(letter)[1:-1]
        for letter in str(text)
    )


def parse_size(text: str) -> int | str:
    """A dimension: a number, or else the name of a symbol."""
    if text.startswith("-") or (text.isdecimal() and len(text) > _DIGITS):
        raise UsageError(
            f"{text!r} is no dimension",
            hint=f"give a number of up to {_DIGITS} digits, or a name for any size",
        )
    return int(text) if text.isdecimal() else text


def parse_backends(text: str) -> list[str]:
    """The backends that `--backends` names."""
    return [_check_backend(name.strip()) for name in text.split(",")]


def _named(texts: list[str] | None, what: str) -> dict[str, list[str]]:
    found = {}
    for text in texts or []:
        name, colon, rest = text.rpartition(":")
        if not colon or not name:
            raise UsageError(f"{what} {text!r} is not NAME:VALUES")
        found[name] = [item.strip() for item in rest.split(",") if item.strip()]
    return found


def parse_shapes(texts: list[str] | None) -> dict[str, list[int | str]]:
    """What `--input-shape` says, by input."""
    return {
        name: [parse_size(dim) for dim in dims]
        for name, dims in _named(texts, "--input-shape").items()
    }


def parse_ranges(texts: list[str] | None) -> dict[str, tuple[float, float]]:
    """What `--input-range` says, by input."""
    found = {}
    for name, limits in _named(texts, "--input-range").items():
        try:
            low, high = map(float, limits)
        except ValueError:
            raise UsageError("--input-range takes NAME:LO,HI") from None
        found[name] = (low, high)
    return found


def read_model(model: str, shapes: list[str] | None, external: list[Path] | None = None) -> Graph:
    """The graph of a model argument: a file, `zoo:NAME`, or `-` for stdin."""
    from ramiel_ir import driver, ir_file
    from ramiel_ir.onnx_proto import parse_model

    if model != "-":
        return driver.read(model, input_shapes=parse_shapes(shapes), allow_external=external or ())
    data = sys.stdin.buffer.read()
    if data.lstrip()[:5] == b"graph" or data.lstrip()[:2] == b"//":
        if shapes:
            raise UsageError("the shapes of IR are fixed; give them when reading the model")
        text = data.decode(errors="replace")
        return ir_file.parse_with_weights(text, Path(), what="stdin")
    return driver.read(
        parse_model(data, "stdin"), input_shapes=parse_shapes(shapes), allow_external=external or ()
    )


def model_inputs(
    graph: Graph, path: Path | None, seed: int, ranges: list[str] | None
) -> dict[str, Any]:
    """Inputs from the file given, else random ones."""
    from ramiel_ir.inputs import example_inputs

    given = given_inputs(graph, path)
    return example_inputs(graph, given, seed=seed, ranges=parse_ranges(ranges))


def given_inputs(graph: Graph, path: Path | None) -> dict[str, Any] | None:
    """Inputs from the file given, None without one."""
    from ramiel_ir.inputs import read_inputs

    return None if path is None else read_inputs(path, [value.name for value in graph.inputs])


@contextlib.contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
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


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table on stdout, the first column left-aligned; wide where stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
