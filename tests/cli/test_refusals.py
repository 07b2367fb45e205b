"""Models, options and inputs that are refused: exit code, one line, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramiel_ir import driver
from ramiel_ir.parser import parse_graph
from tests.cli.calls import (
    DONE,
    FAILED,
    QUICK,
    SAMPLES,
    UNSUPPORTED,
    USAGE,
    Cli,
    X,
    fork,
    model,
    python,
    refuses,
)


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
    "whose costs": (["opt", "fork.onnx", "--backend=../tpu"], "unknown backend '../tpu'"),
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
    "shape of too many digits": (
        ["opt", "fork.onnx", f"--input-shape=x:{9 * 10**18},4"],
        "'9000000000000000000' is no dimension",
    ),
    "shape without name": (["opt", "fork.onnx", "--input-shape=1,4"], "NAME:VALUES"),
    "range of three": (["compare", "fork.onnx", "--input-range=x:0,1,2"], "NAME:LO,HI"),
    "range in words": (["compare", "fork.onnx", "--input-range=x:low,high"], "NAME:LO,HI"),
    "range of no input": (
        ["bench", "fork.onnx", "--input-range=z:0,1"],
        "no input 'z'; there are: x",
    ),
    "range downwards": (["bench", "fork.onnx", "--input-range=x:5,1"], "'x' can be drawn from 5"),
    "range to nowhere": (["bench", "fork.onnx", "--input-range=x:0,nan"], "drawn from 0 to nan"),
    "negative seed": (["compare", "fork.onnx", "--seed=-1"], "--seed"),
    "inputs that are none": (["compare", "fork.onnx", "--inputs=fork.onnx"], "no .npz"),
    "bench's backend": (["bench", "fork.onnx", "--backends=ort,tpu"], "unknown backend 'tpu'"),
    "tune's backend": (["tune", "fork.onnx", "-o", "t", "--backends=,"], "unknown backend ''"),
    "calibrate's backend": (["calibrate", "--backends=ort tpu"], "unknown backend 'ort tpu'"),
    "demo's artifacts": (
        ["demo", "a/fork.onnx", "b/fork.onnx", "-o", "demo"],
        "the artifacts of 'a/fork.onnx' and 'b/fork.onnx'",
    ),
    "zoo option": (["zoo", "build", "dlrm", "-o", "d.onnx", "--image-size=9"], "image-size"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_usage_errors(run: Cli, case: str) -> None:
    arguments, fragment = USAGE_ERRORS[case]
    before = sorted(Path().iterdir())
    refuses(run(*arguments), USAGE, fragment)
    assert sorted(Path().iterdir()) == before


def test_files_that_hold_no_inputs(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    whole = Path("x.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("empty.npz").touch()
    Path("changed.npz").write_bytes(whole.replace(X.tobytes(), (2 * X).tobytes()))
    np.savez("objects.npz", x=np.array(["a"], object))
    for file in ("cut.npz", "empty.npz", "changed.npz", "objects.npz"):
        result = run("compare", "fork.onnx", f"--inputs={file}", "--backends=ort", QUICK)
        refuses(result, USAGE, f"'{file}' is no .npz or .npy file that can be read")
        program = python("out/model.py", f"--inputs={file}")
        assert program.returncode == USAGE
        assert program.stderr.startswith(f"error: {file} cannot be read: ")
    np.save("x.npy", X)
    program = python("out/model.py", "--inputs=x.npy")
    assert (program.returncode, program.stderr) == (USAGE, "error: x.npy is no .npz file\n")


def test_files_of_inputs_that_the_model_has_not(run: Cli) -> None:
    tensor = numpy_helper.from_array(X).SerializeToString()
    for folder, name in (("word", "input_x.pb"), ("more", "input_1.pb")):
        Path(folder).mkdir()
        Path(folder, name).write_bytes(tensor)
        result = run("compare", "fork.onnx", f"--inputs={folder}", "--backends=ort", QUICK)
        refuses(result, USAGE, f"'{folder}/{name}' is for none of the model's 1 inputs")
    made = model([helper.make_node("Relu", ["w"], ["y"])], weights={"w": X})
    del made.graph.input[:]
    onnx.save(made, "alone.onnx")
    np.save("x.npy", X)
    result = run("compare", "alone.onnx", "--inputs=x.npy", "--backends=ort", QUICK)
    refuses(result, USAGE, "'x.npy' is one array; the model takes 0")


MISFITS = {
    "another name": ({"z": X}, "the model has no input 'z'; there are: x"),
    "one more": ({"x": X, "z": X}, "the model has no input 'z'; there are: x"),
    "nothing": ({}, "the input 'x' is missing"),
    "type": ({"x": X.astype(np.float64)}, "the input 'x' is f32[1,4], not f64[1,4]"),
    "rank": ({"x": X[0]}, "the input 'x' is f32[1,4], not f32[4]"),
    "dimension": ({"x": X[:, :3]}, "the input 'x' is f32[1,4], not f32[1,3]"),
    "text": ({"x": np.array("a")}, "the input 'x' is f32[1,4], not str[]"),
    "no type": ({"x": X.view("V4")}, "'x' is no array of a known type"),
}
MEASURING = {
    "compare": ["--isolation=thread", QUICK],
    "bench": ["--backends=ort", "--no-peers"],
    "tune": ["-o", "out"],
    "profile": ["-o", "costs.json"],
}


@pytest.mark.parametrize("command", MEASURING)
def test_inputs_that_do_not_fit(run: Cli, command: str) -> None:
    for arrays, fragment in MISFITS.values():
        np.savez("given.npz", **arrays)
        given = (command, "fork.onnx", "--inputs=given.npz", *MEASURING[command])
        refuses(run(*given), USAGE, fragment)
    assert {path.name for path in Path().iterdir()} == {"fork.onnx", "given.npz", "x.npz"}


def test_samples_that_do_not_fit(run: Cli) -> None:
    given = ("compare", "fork.onnx", "--inputs=many.npz", "--isolation=thread", SAMPLES)
    for array, fragment in (
        (np.zeros((3, 1, 5), np.float32), "the input 'x' is f32[1,4], not f32[1,5]"),
        (np.zeros(3, np.float32), "the input 'x' is f32[1,4], not f32[]"),
        (np.float32(0), "first axis of 3 samples"),
    ):
        np.savez("many.npz", x=array)
        refuses(run(*given), USAGE, fragment)


def test_a_list_is_given_for_a_sequence_only(run: Cli) -> None:
    Path("list").mkdir()
    sequence = numpy_helper.from_list([X, X[0]])
    Path("list/input_0.pb").write_bytes(sequence.SerializeToString())
    result = run("compare", "fork.onnx", "--inputs=list", QUICK)
    refuses(result, USAGE, "'x' is no array of a known type")
    made = model([helper.make_node("SequenceLength", ["x"], ["y"])])
    row = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    made.graph.input[0].CopyFrom(row)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, []))
    onnx.save(made, "row.onnx")
    assert run("compare", "row.onnx", "--inputs=list", "--isolation=thread", QUICK).code == DONE
    result = run("compare", "row.onnx", "--inputs=x.npz", QUICK)
    refuses(result, USAGE, "the input 'x' is sequence(f32[...]): give a list")


def test_shapes_of_ir_are_fixed(run: Cli) -> None:
    text = run("opt", "fork.onnx").out
    Path("fork.ir").write_text(text)
    refuses(run("opt", "fork.ir", "--input-shape=x:1,4"), USAGE, "fixed")
    refuses(run("opt", "-", "--input-shape=x:1,4", stdin=text.encode()), USAGE, "fixed")


def test_ir_that_does_not_parse_points_at_the_place(run: Cli) -> None:
    result = run("opt", "-", stdin=b"graph @g(%x: f32[1]) opset 21 {\n  %y = Relu(%x : f32[1]\n}")
    refuses(result, FAILED, "stdin:2:", "^")
    refuses(run("opt", "-", stdin=b"graph \xff"), FAILED, "stdin:1:")


def test_ir_of_no_version_that_exists_is_refused(run: Cli) -> None:
    text = b"graph @main(%x: f32[2]) opset 9999999999 { %y = Relu(%x) : f32[2] return %y }"
    refuses(run("opt", "-", stdin=text), FAILED, "no op set has the version 9999999999")


def test_what_nobody_expected_is_one_line_unless_debugged(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise ZeroDivisionError("never\n\x1bheard")

    monkeypatch.setattr(driver, "read", read)
    said = "error: ZeroDivisionError: never \\x1bheard\nhint: "
    refuses(run("opt", "fork.onnx"), FAILED, said, "--debug")
    with pytest.raises(ZeroDivisionError):
        run("--debug", "opt", "fork.onnx")


def test_inputs_that_no_memory_holds(run: Cli) -> None:
    for dims, gigabytes in (((10**6, 10**6, 1000), "7.45e+06"), ((10**9,) * 3, "7.45e+18")):
        made = model([helper.make_node("Relu", ["x"], ["y"])])
        for value in (*made.graph.input, *made.graph.output):
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))
        onnx.save(made, "large.onnx")
        said = f"the input 'x', f32[{','.join(map(str, dims))}], does not fit into memory: "
        refuses(run("compare", "large.onnx", QUICK), USAGE, said, f"takes {gigabytes} GiB")


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
