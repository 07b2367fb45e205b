"""The commands of the model zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ramiel_ir.cli_options import (
    AsJson,
    parse_size,
    print_table,
    progress,
)
from ramiel_ir.errors import UsageError

zoo_app = typer.Typer(help="The models that come with ramiel-ir.", no_args_is_help=True)


@zoo_app.command("list", short_help="List the models.")
def zoo_list(as_json: AsJson = False) -> None:
    """List the models: name, source, ops, parameters, parallelism (analytic costs)."""
    from ramiel_ir import registry
    from ramiel_ir.costs import AnalyticCosts, work
    from ramiel_ir.driver import read

    rows: list[dict[str, Any]] = []
    names = registry.MODELS.names()
    with progress("building", len(names)) as advance:
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
    print_table("the zoo", list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])


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
    from ramiel_ir.onnx_writer import save_model

    builder = registry.MODELS.get(name, "zoo model")
    given = {
        "batch": batch and parse_size(batch),
        "image_size": image_size,
        "sequence_length": sequence_length and parse_size(sequence_length),
        "seed": seed,
        "opset": opset,
    }
    options = {key: value for key, value in given.items() if value is not None}
    known = python_inspect.signature(builder).parameters
    for key in options:
        if key not in known:
            raise UsageError(f"{name} has no {key.replace('_', '-')}; it has {', '.join(known)}")
    with progress("building"):
        save_model(builder(**options), output)
