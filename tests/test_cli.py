"""The command line: exit codes, streams, files, refusals. Every command and option appears here."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramiel_backends.ort.backend import OrtBackend
from ramiel_ir import cli, registry
from ramiel_ir.ir import Graph
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import Context
from ramiel_ir.printer import print_graph

DONE, FAILED, USAGE, UNSUPPORTED = 0, 1, 2, 3
QUICK = "--passes=cluster"  # the default pipeline searches longer than these models are worth

WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
X = np.array([[0.5, -1.0, 2.0, -0.25]], np.float32)

FORK_NAMES = ("x", "hidden", "left", "right", "y", "w")


def fork(names: Sequence[str] = FORK_NAMES, label: str = "fork") -> onnx.ModelProto:
    """y = relu(h) + sigmoid(h) with h = x · w: two branches."""
    x, hidden, left, right, y, w = names
    nodes = [
        helper.make_node("MatMul", [x, w], [hidden], name=label),
        helper.make_node("Relu", [hidden], [left], name=label),
        helper.make_node("Sigmoid", [hidden], [right], name=f"{label}2"),
        helper.make_node("Add", [left, right], [y], name=y),
    ]
    return model(nodes, x, y, {w: WEIGHT}, label)


def model(
    nodes: Sequence[onnx.NodeProto],
    x: str = "x",
    y: str = "y",
    weights: dict[str, Any] | None = None,
    name: str = "made",
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of one input and one output, f32[1,4] each; nothing is checked."""
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, 4]) for v in (x, y)]
    tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, name, values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def expected(x: Any = X) -> Any:
    hidden = x @ WEIGHT
    return np.maximum(hidden, 0) + 1 / (1 + np.exp(-hidden))


@dataclass(frozen=True)
class Result:
    """What a call left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Calls `ramiel-ir` in this process, in a folder that holds fork.onnx and x.npz."""
    monkeypatch.chdir(tmp_path)
    onnx.save(fork(), "fork.onnx")
    np.savez("x.npz", x=X)

    def call(*args: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["ramiel-ir", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = DONE
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else DONE
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def refuses(result: Result, code: int, *fragments: str) -> None:
    """One clear error, nothing on stdout, no traceback."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert sum(line.lower().startswith("error: ") for line in result.err.splitlines()) == 1, result
    for fragment in fragments:
        assert fragment in result.err


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60)


# Starting -----------------------------------------------------------------------------------------


def test_runs_as_a_module() -> None:
    done = python("-m", "ramiel_ir", "--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (DONE, "ramiel-ir", "")


def test_help_and_import_load_nothing_heavy() -> None:
    # By hand: `time ramiel-ir --help` and `time python -c "import ramiel_ir"`, under 0.5 s each.
    script = (
        "import sys, ramiel_ir; sys.argv = ['ramiel-ir', '--help']\n"
        "from ramiel_ir.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'onnxscript', 'numpy', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout


COMMANDS = {
    "opt": [
        "--passes", "--output", "-o", "--list-passes", "--print-ir-after",
        "--print-ir-after-change", "--no-verify-each", "--timing", "--stats", "--workers",
        "--costs", "--input-shape", "--allow-external",
    ],
    "compile": [
        "--output", "--backend", "--passes", "--workers", "--threads", "--input-shape", "--costs",
        "--force", "--allow-external",
    ],
    "run": ["--inputs", "--outputs", "--isolation", "--timeout", "--repeat"],
    "compare": [
        "--backends", "--workers", "--passes", "--rtol", "--atol", "--seed", "--inputs",
        "--input-shape", "--input-range", "--isolation", "--allow-external", "--json",
    ],
    "bench": ["--backends", "--workers", "--rounds", "--no-peers", "--costs", "--trace", "--json"],
    "profile": ["--output", "--backend", "--rounds", "--seed", "--inputs"],
    "demo": ["--output", "--backends", "--workers", "--rounds"],
    "inspect": ["--workers", "--costs", "--input-shape", "--allow-external", "--json"],
    "ops": ["--backend", "--json"],
    "zoo": ["list", "build"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_options(run: Cli, command: str) -> None:
    result = run(command, "--help")
    assert result.code == DONE
    assert result.err == ""
    for option in COMMANDS[command]:
        assert option in result.out
    assert run(command, "-h").out == result.out


def test_no_arguments_shows_help(run: Cli) -> None:
    result = run()
    assert result.code == USAGE
    assert "compile" in result.out + result.err


# opt ----------------------------------------------------------------------------------------------


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


# compile and run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_compile_then_run(run: Cli, backend: str) -> None:
    made = run(
        "compile", "fork.onnx", "-o", "out", "--backend", backend, "--workers=2", "--threads=1",
        "--passes=cluster", "--costs=static",
    )  # fmt: skip
    assert (made.code, made.out) == (DONE, "")
    assert "4 ops on 2 workers of 1 thread, 2 messages" in made.err
    ran = run("run", "out", "--inputs=x.npz", "--outputs=y.npz", "--isolation=thread")
    assert (ran.code, ran.out, ran.err) == (DONE, "", "")
    np.testing.assert_allclose(np.load("y.npz")["y"], expected(), rtol=1e-5)


def test_compile_says_why_there_is_one_worker(run: Cli) -> None:
    one = ("compile", "fork.onnx", "-o", "out", "--backend=ort", "--passes=sequential")
    assert "one worker, and not 2: no plan is pred" in run(*one, "--workers=2").err
    assert "one worker" not in run(*one, "--workers=1", "--force").err


def test_compile_reads_stdin_and_ir(run: Cli) -> None:
    assert run("opt", "fork.onnx", "-o", "fork.ir").code == DONE
    assert run("compile", "fork.ir", "-o", "a", "--backend=ort", QUICK).code == DONE
    data = fork().SerializeToString()
    assert run("compile", "-", "-o", "b", "--backend=ort", QUICK, stdin=data).code == DONE
    assert Path("a/model.py").read_text() == Path("b/model.py").read_text()


def test_compile_without_the_weights_says_so(run: Cli) -> None:
    text = run("opt", "fork.onnx").out.encode()
    for backend in ("torch", "ort"):
        result = run("compile", "-", "-o", "out", f"--backend={backend}", stdin=text)
        refuses(result, FAILED, "detached", "hint: ")
        assert not Path("out").exists()


def test_run_takes_npy_and_test_data(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    np.save("x.npy", X)
    Path("data").mkdir()
    Path("data/input_0.pb").write_bytes(numpy_helper.from_array(X, "any").SerializeToString())
    printed = run("run", "out", "--inputs=x.npz")
    assert printed.code == DONE
    assert "y: float32[1, 4]" in printed.out
    assert run("run", "out", "--inputs=x.npy").out == printed.out
    assert run("run", "out", "--inputs=data").out == printed.out


def test_run_repeats_and_tells_latencies_on_stderr(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    result = run("run", "out", "--inputs=x.npz", "--repeat=3", "--timeout=30")
    assert result.code == DONE
    assert "3 runs: min " in result.err
    assert result.out.count("float32") == 1


def test_run_supervises_processes(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    result = run("run", "out", "--inputs=x.npz", "--isolation=process")
    assert (result.code, result.err) == (DONE, "")


def test_run_refuses_what_does_not_fit(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    refuses(run("run", "nowhere", "--inputs=x.npz"), FAILED, "'nowhere' is not an artifact", "hint")
    refuses(run("run", "out", "--inputs=no.npz"), USAGE, "no file 'no.npz'")
    refuses(run("run", "out", "--inputs=fork.onnx"), USAGE, "'fork.onnx' is no .npz")
    np.savez("z.npz", z=X)
    refuses(run("run", "out", "--inputs=z.npz"), USAGE, "x")
    np.savez("wide.npz", x=np.zeros((1, 5), np.float32))
    refuses(run("run", "out", "--inputs=wide.npz"), USAGE, "x")
    Path("empty").mkdir()
    refuses(run("run", "out", "--inputs=empty"), USAGE, "input_0.pb")
    refuses(run("run", "out", "--inputs=x.npz", "--outputs=no/where.npz"), FAILED, "where.npz")
    refuses(run("run", "out", "--inputs=x.npz", "--isolation=magic"), USAGE, "isolation")
    refuses(run("run", "out", "--inputs=x.npz", "--repeat=0"), USAGE, "repeat")
    Path("out/manifest.json").write_text("{")
    refuses(run("run", "out", "--inputs=x.npz"), FAILED, "manifest.json")


def test_force_replaces_artifacts_only(run: Cli) -> None:
    compile_ort = ("compile", "fork.onnx", "--backend=ort", QUICK)
    Path("empty").mkdir()
    assert run(*compile_ort, "-o", "empty").code == DONE

    refuses(run(*compile_ort, "-o", "empty"), USAGE, "not empty", "--force")
    Path("empty/model.py").write_text("edited")
    assert run(*compile_ort, "-o", "empty", "--force").code == DONE
    assert Path("empty/model.py").read_text() != "edited"

    Path("diary").mkdir()
    Path("diary/today.txt").write_text("mine")
    refuses(run(*compile_ort, "-o", "diary"), USAGE, "not empty")
    refuses(run(*compile_ort, "-o", "diary", "--force"), USAGE, "no artifact")
    assert [path.name for path in Path("diary").iterdir()] == ["today.txt"]

    refuses(run(*compile_ort, "-o", "x.npz", "--force"), USAGE, "not a folder")
    assert np.load("x.npz")["x"].shape == X.shape


def test_a_failure_with_force_keeps_the_old_artifact(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    onnx.save(model([helper.make_node("Nothing", ["x"], ["y"])]), "odd.onnx")
    refuses(run("compile", "odd.onnx", "-o", "out", "--force"), UNSUPPORTED, "Nothing × 1")
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


# Refusals -----------------------------------------------------------------------------------------


def _cycle() -> onnx.ModelProto:
    return model(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
         helper.make_node("Relu", ["b"], ["y"])]
    )  # fmt: skip


def _duplicate() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])])


def _without_weight() -> onnx.ModelProto:
    made = fork()
    del made.graph.initializer[:]
    return made


def _two_inputs_of_one_name() -> onnx.ModelProto:
    made = fork()
    made.graph.input.append(made.graph.input[0])
    return made


def _newer_opset() -> onnx.ModelProto:
    made = fork()
    made.opset_import[0].version = 999
    return made


def _external(location: str) -> onnx.ModelProto:
    made = fork()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return made


def _map_input() -> onnx.ModelProto:
    made = fork()
    kind = made.graph.input[0].type
    kind.Clear()
    kind.map_type.key_type = TensorProto.INT64
    kind.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    return made


BAD_MODELS: dict[str, tuple[Callable[[], onnx.ModelProto | bytes | None], int, str]] = {
    "missing": (lambda: None, FAILED, "there is no file"),
    "text": (lambda: b"hello, I am text\n", FAILED, "not an ONNX model"),
    "empty": (lambda: b"", FAILED, "holds no graph"),
    "truncated": (lambda: fork().SerializeToString()[:150], FAILED, "cut short"),
    "cycle": (_cycle, FAILED, "cycle"),
    "duplicate": (_duplicate, FAILED, "'y' stands for two values"),
    "inputs": (_two_inputs_of_one_name, FAILED, "'x' stands for two values"),
    "weightless": (_without_weight, FAILED, "'w', which nothing produces"),
    "newer": (_newer_opset, FAILED, "opset 999"),
    "outside": (lambda: _external("../secret.bin"), FAILED, "w"),
    "absolute": (lambda: _external("/etc/hostname"), FAILED, "w"),
    "absent": (lambda: _external("absent.bin"), FAILED, "w"),
    "map": (_map_input, UNSUPPORTED, "map"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_are_refused_and_leave_nothing(run: Cli, name: str) -> None:
    make, code, fragment = BAD_MODELS[name]
    file = Path(f"{name}.onnx")
    made = make()
    if made is not None:
        file.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    before = sorted(Path().iterdir())
    refuses(run("opt", "--passes=cluster", file, "-o", "bad.ir"), code, fragment)
    refuses(run("compile", file, "-o", "out"), code, fragment)
    refuses(run("compile", file, "-o", "out", "--backend=ort"), code, fragment)
    refuses(run("compare", file), code, fragment)
    if name != "absent":  # what it says does not need the weights
        refuses(run("inspect", file), code, fragment)
    if made is not None:
        data = made if isinstance(made, bytes) else made.SerializeToString()
        refuses(run("compile", "-", "-o", "out", stdin=data), code)
    assert sorted(Path().iterdir()) == before


def test_an_unsupported_op_is_named_by_every_backend(run: Cli) -> None:
    nodes = [helper.make_node("Nothing", ["x"], ["y"], domain="no.where")]
    onnx.save(model(nodes, domains=["no.where"]), "odd.onnx")
    assert "no.where.Nothing(%x)" in run("opt", "odd.onnx").out  # the IR carries any op
    for backend in ("torch", "ort"):
        result = run("compile", "odd.onnx", "-o", "out", "--backend", backend)
        refuses(result, UNSUPPORTED, "no.where.Nothing", "%y", "hint: ")
        assert not Path("out").exists()


USAGE_ERRORS = {
    "unknown command": (["optt", "fork.onnx"], "No such command 'optt'"),
    "misspelt option": (["opt", "--pases=cluster", "fork.onnx"], "No such option: --pases"),
    "no model": (["opt"], "opt needs a model"),
    "no folder": (["compile", "fork.onnx"], "'-o' / '--output'"),
    "unknown pass": (["opt", "--passes=mrege", "fork.onnx"], "unknown pass 'mrege'; there are: "),
    "unknown pass option": (["opt", "--passes=merge{max=1}", "fork.onnx"], "there are: max-cl"),
    "bad pipeline": (["opt", "--passes=cluster,,merge", "fork.onnx"], "^"),
    "unknown backend": (
        ["compile", "fork.onnx", "-o", "out", "--backend=tpu"],
        "unknown backend 'tpu'; there are: ort, torch",
    ),
    "compare's backend": (["compare", "fork.onnx", "--backends=ort,"], "unknown backend ''"),
    "unknown costs": (["opt", "fork.onnx", "--costs=free"], "unknown costs 'free'"),
    "missing profile": (["opt", "fork.onnx", "--costs=no.json"], "no.json"),
    "output kind": (["opt", "fork.onnx", "-o", "x.txt"], "'x.txt'"),
    "no workers": (["compile", "fork.onnx", "-o", "out", "--workers=0"], "--workers"),
    "no threads": (["compile", "fork.onnx", "-o", "out", "--threads=0"], "--threads"),
    "compare's workers": (["compare", "fork.onnx", "--workers=0"], "--workers takes numbers"),
    "workers in words": (["compare", "fork.onnx", "--workers=two"], "'two'"),
    "unknown zoo model": (["opt", "zoo:alexnet"], "unknown zoo model 'alexnet'; there are: "),
    "shape of no input": (["opt", "fork.onnx", "--input-shape=z:1"], "no input 'z'"),
    "shape of other rank": (["opt", "fork.onnx", "--input-shape=x:1"], "rank 2"),
    "shape that contradicts": (["opt", "fork.onnx", "--input-shape=x:2,4"], "'x'"),
    "shape without name": (["opt", "fork.onnx", "--input-shape=1,4"], "NAME:VALUES"),
    "range of three": (["compare", "fork.onnx", "--input-range=x:0,1,2"], "NAME:LO,HI"),
    "range in words": (["compare", "fork.onnx", "--input-range=x:low,high"], "NAME:LO,HI"),
    "inputs that are none": (["compare", "fork.onnx", "--inputs=fork.onnx"], "no .npz"),
    "zoo option": (["zoo", "build", "dlrm", "-o", "d.onnx", "--image-size=9"], "image-size"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_usage_errors(run: Cli, case: str) -> None:
    arguments, fragment = USAGE_ERRORS[case]
    before = sorted(Path().iterdir())
    refuses(run(*arguments), USAGE, fragment)
    assert sorted(Path().iterdir()) == before


def test_shapes_of_ir_are_fixed(run: Cli) -> None:
    text = run("opt", "fork.onnx").out
    Path("fork.ir").write_text(text)
    refuses(run("opt", "fork.ir", "--input-shape=x:1,4"), USAGE, "fixed")
    refuses(run("opt", "-", "--input-shape=x:1,4", stdin=text.encode()), USAGE, "fixed")


def test_ir_that_does_not_parse_points_at_the_place(run: Cli) -> None:
    result = run("opt", "-", stdin=b"graph @g(%x: f32[1]) opset 21 {\n  %y = Relu(%x : f32[1]\n}")
    refuses(result, FAILED, "stdin:2:", "^")
    refuses(run("opt", "-", stdin=b"graph \xff"), FAILED, "stdin:1:")


def test_debug_shows_the_traceback(run: Cli, tmp_path: Path) -> None:
    done = python("-m", "ramiel_ir", "--debug", "opt", str(tmp_path / "missing.onnx"))
    assert done.returncode == FAILED
    assert "Traceback" in done.stderr
    assert "ModelError: there is no file" in done.stderr


def test_warnings_go_to_stderr(run: Cli) -> None:
    done = python("-m", "ramiel_ir", "opt", "fork.onnx", "--workers=999")
    assert done.returncode == DONE
    assert done.stderr.startswith("warning: 999 workers share ")
    assert parse_graph(done.stdout)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = "{} -m ramiel_ir opt --list-passes | head -c 1"
    done = subprocess.run(
        ["bash", "-c", script.format(sys.executable)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (DONE, "")


# compare, bench, profile, demo, inspect, ops, zoo -------------------------------------------------


def test_compare_agrees_and_tells_in_json(run: Cli) -> None:
    result = run("compare", "fork.onnx", "--workers=1,2", "--isolation=thread", QUICK, "--json")
    assert (result.code, result.err) == (DONE, "")
    rows = json.loads(result.out)
    assert [(row["backend"], row["workers"], row["agrees"]) for row in rows] == [
        ("torch", 1, True),
        ("torch", 2, True),
        ("ort", 1, True),
        ("ort", 2, True),
    ]


def test_compare_prints_a_table(run: Cli) -> None:
    result = run(
        "compare", "fork.onnx", "--backends=ort", "--passes=cluster", "--inputs=x.npz",
        "--rtol=1e-4", "--atol=1e-6", "--seed=1", "--input-range=x:0,1",
    )  # fmt: skip
    assert result.code == DONE
    assert "2 of 2" in result.out
    assert "agrees" in result.out


class _Wrong(OrtBackend):
    """Computes Tanh where the model says Sigmoid."""

    def prepare(self, graph: Graph, context: Context) -> Graph:
        copy = graph.clone()
        next(op for op in copy.ops if op.kind == "Sigmoid").kind = "Tanh"
        return copy


def test_compare_fails_and_names_the_first_op_that_differs(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.BACKENDS, "_entries", {"wrong": (_Wrong, "tests")})
    table = run("compare", "fork.onnx", "--backends=wrong", QUICK)
    assert table.code == FAILED
    assert "differs, first at %right = Tanh" in table.out
    row = json.loads(run("compare", "fork.onnx", "--backends=wrong", QUICK, "--json").out)[0]
    assert not row["agrees"]
    assert row["outputs"]["y"]["error"] > row["outputs"]["y"]["limit"]


def test_bench_in_json(run: Cli) -> None:
    result = run(
        "bench",
        "fork.onnx",
        "--backends=ort",
        "--workers=1",
        "--rounds=1",
        "--no-peers",
        "--json",
        "--trace=t.json",
    )
    assert result.code == DONE, result.err
    rows = json.loads(result.out)
    assert rows
    assert all(row for row in rows)


def test_profile_serves_as_costs(run: Cli) -> None:
    result = run("profile", "fork.onnx", "-o", "costs.json", "--backend=ort", "--rounds=1")
    assert (result.code, result.out) == (DONE, "")
    assert "a message takes" in result.err
    assert set(json.loads(Path("costs.json").read_text())["ops"]) >= {"hidden", "left"}
    assert run("opt", "fork.onnx", "--passes=cluster", "--costs=costs.json").code == DONE
    refuses(
        run("profile", "fork.onnx", "-o", "no/c.json", "--backend=ort", "--rounds=1"), FAILED, "no"
    )


def test_demo_leaves_its_artifacts(run: Cli) -> None:
    result = run("demo", "fork.onnx", "-o", "demo", "--backends=ort", "--workers=1", "--rounds=1")
    assert result.code == DONE, result.err
    assert "fork" in result.out
    assert "demo/fork-ort-parallel/model.py" in result.out
    assert Path("demo/fork-ort-parallel/model.py").is_file()


def test_inspect(run: Cli) -> None:
    described = json.loads(run("inspect", "fork.onnx", "--json", "--workers=2").out)
    assert described["inputs"] == {"x": "f32[1,4]"}
    assert described["outputs"] == {"y": "f32[1,4]"}
    assert described["ops"] == {"MatMul": 1, "Relu": 1, "Sigmoid": 1, "Add": 1}
    assert described["opsets"] == {"": 21}
    text = run("inspect", "fork.onnx", "--costs=static").out
    for word in ("MatMul", "parallelism", "clusters before merge", "critical path"):
        assert word in text


def test_ops_lists_the_table(run: Cli) -> None:
    table = json.loads(run("ops", "--json").out)
    assert table["Softmax"] == sorted(table["Softmax"])
    assert "Relu" in run("ops", "--backend=torch").out
    refuses(run("ops", "--backend=ort"), USAGE, "ort backend keeps no table")
    refuses(run("ops", "--backend=tpu"), USAGE, "unknown backend")


def test_zoo(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    built = run("zoo", "build", "squeezenet", "-o", "s.onnx", "--image-size=32", "--batch=N",
                "--seed=1", "--opset=18")  # fmt: skip
    assert (built.code, built.out) == (DONE, "")
    described = json.loads(run("inspect", "s.onnx", "--json").out)
    assert described["inputs"] == {"image": "f32[N,3,32,32]"}
    assert described["opsets"] == {"": 18}
    refuses(run("zoo", "build", "alexnet", "-o", "a.onnx"), USAGE, "unknown zoo model")

    few = {"bilstm": (registry.MODELS.find("bilstm"), "ramiel-ir")}
    monkeypatch.setattr(registry.MODELS, "_entries", few)
    rows = json.loads(run("zoo", "list", "--json").out)
    assert [row["name"] for row in rows] == ["bilstm"]
    assert "bilstm" in run("zoo", "list").out


# Hostile models -----------------------------------------------------------------------------------

HOSTILE = {
    "code": ('");import os#', "{x}", "%s", "'''", 'a"""', "\\"),
    "keywords": ("class", "None", "print", "weights", "port", "run"),
    "collisions": ("a.b", "a_b", "a b", "a-b", "a_b_2", "a:b"),
    "lines": ("a\nimport os", "a\rimport os", "a\u2028b", "\x0c", "\x1b[2J", "a\r\n"),
    "letters": ("\u210c", "H", "\uff48", "é", "e\u0301", "名前"),
    "paths": ("../../x", "/etc/passwd", "~", ".", "model.py", "CON"),
}


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_become_correct_programs(run: Cli, kind: str, backend: str) -> None:
    names = HOSTILE[kind]
    onnx.save(fork(names, label=names[1]), "hostile.onnx")
    made = run(
        "compile", "hostile.onnx", "-o", "out", f"--backend={backend}", "--passes=cluster",
        "--workers=2",
    )  # fmt: skip
    assert made.code == DONE, made.err
    np.savez("in.npz", **{names[0]: X}) if "/" not in names[0] else np.save("in.npy", X)
    source = "in.npz" if "/" not in names[0] else "in.npy"
    ran = run("run", "out", f"--inputs={source}", "--isolation=thread")
    assert ran.code == DONE, ran.err
    assert all(letter.isprintable() or letter == "\n" for letter in ran.out)
    assert f"{expected()[0, 0]:.3f}"[:4] in ran.out
    _is_plain(Path("out/model.py").read_text(encoding="utf-8"))
    checked = run("compare", "hostile.onnx", f"--backends={backend}", QUICK, "--isolation=thread")
    assert checked.code == DONE, checked


def _is_plain(source: str) -> None:
    """The source imports what we import and nothing the model says."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = {alias.name for node in imports for alias in node.names}
    assert imported <= {"torch", "torch.nn.functional", "numpy", "math", "runtime"}
    comments = [line.partition("#")[2] for line in source.splitlines() if "port" not in line]
    assert not any("import" in comment for comment in comments)


def test_hostile_names_print_as_ir_and_read_back(run: Cli) -> None:
    for names in HOSTILE.values():
        text = run("opt", "-", stdin=fork(names, label=names[1]).SerializeToString()).out
        assert run("opt", "-", stdin=text.encode()).out == text


def test_errors_do_not_pass_on_control_characters(run: Cli) -> None:
    nodes = [helper.make_node("Nothing\x1b[2J", ["x"], ["\x1b[2Jy"])]
    onnx.save(model(nodes, y="\x1b[2Jy"), "odd.onnx")
    result = run("compile", "odd.onnx", "-o", "out")
    refuses(result, UNSUPPORTED)
    assert "\x1b" not in result.err
    assert "\x1b" not in run("inspect", "odd.onnx").out
