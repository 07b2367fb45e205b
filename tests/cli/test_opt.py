"""`opt`: what it prints and writes."""

from __future__ import annotations

from pathlib import Path

import onnx

from ramiel_ir import registry
from ramiel_ir.parser import parse_graph
from ramiel_ir.printer import print_graph
from tests.cli.calls import (
    DONE,
    FAILED,
    QUICK,
    USAGE,
    Cli,
    fork,
    refuses,
)


def test_opt_prints_ir_and_nothing_else(run: Cli) -> None:
    result = run("opt", "--passes=cluster,merge", "--timing", "--stats", "fork.onnx")
    assert result.code == DONE
    assert print_graph(parse_graph(result.out)) == result.out
    assert "%left = Relu(%hidden) @0" in result.out
    assert "merge: unchanged" in result.err
    assert "critical path" in result.err


def test_opt_reads_ir_and_onnx_from_stdin(run: Cli) -> None:
    from_bytes = run("opt", "-", stdin=fork().SerializeToString())
    assert from_bytes.out == run("opt", "fork.onnx").out
    from_text = run("opt", "-", stdin=from_bytes.out.encode())
    assert from_text.out == from_bytes.out
    assert run("opt", "-", stdin=b"// a comment\n" + from_bytes.out.encode()).code == DONE


def test_a_model_from_stdin_reads_its_data_in_folders_that_are_named(run: Cli) -> None:
    made = fork()
    onnx.save(made, "apart.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    data = Path("apart.onnx").read_bytes()
    refuses(run("opt", "-", stdin=data), FAILED, "hint: ", "--allow-external")
    allowed = run("opt", "-", "--allow-external=.", stdin=data)
    assert (allowed.code, allowed.out) == (DONE, run("opt", "fork.onnx").out)


def test_opt_writes_ir_with_its_weights(run: Cli) -> None:
    result = run("opt", "--passes=cluster", "fork.onnx", "-o", "fork.ir")
    assert (result.code, result.out) == (DONE, "")
    assert Path("fork.weights.safetensors").is_file()
    assert run("opt", "fork.ir").out == Path("fork.ir").read_text()
    assert run("compare", "fork.ir", "--backends=ort", QUICK).code == DONE


def test_opt_writes_onnx_that_keeps_clusters(run: Cli) -> None:
    result = run("opt", "--passes=cluster", "fork.onnx", "-o", "clustered.onnx")
    assert (result.code, result.out) == (DONE, "")
    onnx.checker.check_model("clustered.onnx")
    assert run("opt", "clustered.onnx").out == run("opt", "--passes=cluster", "fork.onnx").out


def test_opt_names_the_folder_that_is_not_there(run: Cli) -> None:
    refuses(run("opt", "fork.onnx", "-o", "no/x.onnx"), FAILED, "there is no folder 'no'")


def test_opt_prints_ir_after_passes_on_stderr(run: Cli) -> None:
    plain = run("opt", "--passes=cluster,merge", "fork.onnx").out
    one = run("opt", "--passes=cluster,merge", "--print-ir-after=cluster", "fork.onnx")
    assert one.out == plain
    assert one.err.count("// IR after") == 1
    assert "// IR after cluster\n" in one.err
    both = run("opt", "--passes=cluster,merge", "--print-ir-after=all", "fork.onnx")
    assert both.err.count("// IR after") == 2
    changed = run("opt", "--passes=cluster,merge", "--print-ir-after-change", "fork.onnx")
    assert "IR after cluster" in changed.err
    assert "IR after merge" not in changed.err
    refuses(run("opt", "--print-ir-after=mrege", "fork.onnx"), USAGE, "unknown pass 'mrege'")


def test_opt_lists_passes_with_their_options(run: Cli) -> None:
    result = run("opt", "--list-passes")
    assert (result.code, result.err) == (DONE, "")
    for name in registry.PASSES.names():
        assert f"{name}  (ramiel-ir)\n" in result.out
    assert "max-clusters=none" in result.out


def test_opt_takes_shapes_costs_and_workers(run: Cli) -> None:
    symbolic = fork()
    symbolic.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(symbolic, "symbolic.onnx")
    assert "x: f32[N,4]" in run("opt", "symbolic.onnx").out
    assert "x: f32[3,4]" in run("opt", "symbolic.onnx", "--input-shape=x:3,4").out
    assert "x: f32[B,4]" in run("opt", "symbolic.onnx", "--input-shape", "x:B,4").out
    static = run("opt", "fork.onnx", "--costs=static", "--stats", "--workers=7")
    assert "bound on 7 workers" in static.err
    assert run("opt", "--no-verify-each", "--passes=cluster", "fork.onnx").code == DONE
