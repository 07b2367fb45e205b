"""`compile` and `run`: artifacts and what comes out of them."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramiel_backends.runtime.command import _plain
from ramiel_backends.runtime.errors import InputError
from ramiel_ir.errors import UsageError
from ramiel_ir.inputs import write_outputs
from tests.cli.calls import (
    DONE,
    FAILED,
    QUICK,
    SAMPLES,
    UNSUPPORTED,
    USAGE,
    Cli,
    X,
    expected,
    fork,
    model,
    python,
    refuses,
)


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
    assert "one worker, and not 2: the passes leave one cluster" in run(*one, "--workers=2").err
    assert "one worker" not in run(*one, "--workers=1", "--force").err
    said = run(*one[:-1], "--passes=cluster,gate", "--workers=2", "--force").err
    (micros,) = re.findall(r"and not 2: several would take \d+ µs, one (\d+) µs", said)
    (millis,) = re.findall(r"predicted (\S+) ms", said)
    assert float(millis) == pytest.approx(float(micros) / 1e3, abs=0.006)


def test_an_empty_pipeline_has_no_passes(run: Cli) -> None:
    done = run("compile", "fork.onnx", "-o", "out", "--backend=ort", "--workers=2", "--passes=")
    assert done.code == DONE
    assert "on 1 worker" in done.err
    assert "the passes leave one cluster" in done.err
    assert run("compare", "fork.onnx", "--backends=ort", "--passes=").code == DONE


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


def test_an_output_may_have_any_name(run: Cli) -> None:
    names = ("x", "hidden", "left", "right", "file", "w")
    onnx.save(fork(names), "odd.onnx")
    assert run("compile", "odd.onnx", "-o", "out", "--backend=ort", QUICK).code == DONE
    assert run("run", "out", "--inputs=x.npz", "--outputs=y.npz").code == DONE
    np.testing.assert_allclose(np.load("y.npz")["file"], expected(), rtol=1e-5)
    program = python("out/model.py", "--inputs=x.npz", "--outputs=z.npz")
    assert program.returncode == DONE, program.stderr
    np.testing.assert_array_equal(np.load("z.npz")["file"], np.load("y.npz")["file"])


@pytest.mark.parametrize("passes", [QUICK, SAMPLES])
def test_a_model_without_inputs_runs_without(run: Cli, passes: str) -> None:
    made = model([helper.make_node("Relu", ["w"], ["y"])], weights={"w": X})
    del made.graph.input[:]
    onnx.save(made, "alone.onnx")
    assert run("compile", "alone.onnx", "-o", "out", "--backend=ort", passes).code == DONE
    printed = run("run", "out")
    assert (printed.code, printed.err) == (DONE, "")
    assert "y: float32" in printed.out


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


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_samples_come_and_go_along_a_new_first_axis(run: Cli, backend: str) -> None:
    made = run(
        "compile", "fork.onnx", "-o", "out", f"--backend={backend}", "--workers=2", SAMPLES
    )  # fmt: skip
    assert made.code == DONE, made.err
    assert "3 samples, " in made.err
    many = np.stack([X, 2 * X, -X])
    np.savez("many.npz", x=many)
    ran = run("run", "out", "--inputs=many.npz", "--outputs=y.npz")
    assert (ran.code, ran.out, ran.err) == (DONE, "", "")
    assert np.load("y.npz")["y"].shape == (3, 1, 4)
    np.testing.assert_allclose(np.load("y.npz")["y"], expected(many), rtol=1e-5)
    program = python("out/model.py", "--inputs=many.npz", "--outputs=z.npz")
    assert program.returncode == DONE, program.stderr
    np.testing.assert_array_equal(np.load("z.npz")["y"], np.load("y.npz")["y"])

    refuses(run("run", "out", "--inputs=x.npz"), USAGE, "'x'", "first axis of 3 samples")
    program = python("out/model.py", "--inputs=x.npz")
    assert (program.returncode, program.stdout) == (USAGE, "")
    assert "'x' must have a new first axis of 3 samples" in program.stderr


def test_samples_whose_outputs_differ_in_shape_are_a_list(run: Cli) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("NonZero", ["positive"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "places",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [2, None])],
    )
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), "places.onnx")
    assert run("compile", "places.onnx", "-o", "out", "--workers=2", SAMPLES).code == DONE
    np.savez("many.npz", x=np.stack([X, -X, 0 * X]))
    ran = run("run", "out", "--inputs=many.npz")
    assert (ran.code, ran.err) == (DONE, "")
    program = python("out/model.py", "--inputs=many.npz")
    assert (program.returncode, program.stderr) == (DONE, "'y': list of 3\n")
    program = python("out/model.py", "--inputs=many.npz", "--outputs=y.npz")
    assert program.returncode == USAGE
    assert "output 'y': .npz cannot hold its type" in program.stderr


def test_texts_are_written_by_both_commands(run: Cli) -> None:
    made = model([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)])
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(made, "texts.onnx")
    assert run("compile", "texts.onnx", "-o", "out", "--backend=ort", QUICK).code == DONE
    assert run("run", "out", "--inputs=x.npz", "--outputs=y.npz").code == DONE
    program = python("out/model.py", "--inputs=x.npz", "--outputs=z.npz")
    assert program.returncode == DONE, program.stderr
    assert np.load("y.npz")["y"].tolist() == [["0.5", "-1", "2", "-0.25"]]
    np.testing.assert_array_equal(np.load("z.npz")["y"], np.load("y.npz")["y"])


@pytest.mark.parametrize("array", [np.array([b"a"], object), np.zeros(1, ml_dtypes.bfloat16)])
def test_what_npz_cannot_hold_is_to_be_had_from_python(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the output 'y' cannot be stored") as caught:
        write_outputs(tmp_path / "y.npz", {"y": array})
    assert "ramiel_ir.load(folder)" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"output 'y'.*; runtime\.load\(\)\.run\(\) gives it"):
        _plain("y", array)


def test_run_refuses_what_does_not_fit(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    refuses(run("run", "out"), USAGE, "input 'x' is missing")
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


@pytest.mark.parametrize("folder", [".", "..", "/", "../here", "new/.."])
def test_the_current_folder_is_no_place_for_an_artifact(
    run: Cli, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    Path("here").mkdir()
    monkeypatch.chdir("here")
    result = run("compile", "../fork.onnx", "--backend=ort", QUICK, "-o", folder)
    refuses(result, USAGE, "is the current folder or holds it")
    assert not list(Path.cwd().iterdir())


def test_a_failure_with_force_keeps_the_old_artifact(run: Cli) -> None:
    run("compile", "fork.onnx", "-o", "out", "--backend=ort", QUICK)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    onnx.save(model([helper.make_node("Nothing", ["x"], ["y"])]), "odd.onnx")
    refuses(run("compile", "odd.onnx", "-o", "out", "--force"), UNSUPPORTED, "Nothing × 1")
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
