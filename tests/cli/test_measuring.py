"""`compare`, `bench`, `profile`, `demo`, `inspect`, `ops` and `zoo`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from ramiel_backends.ort.backend import OrtBackend
from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir import bench as benching
from ramiel_ir import calibrate as calibrating
from ramiel_ir import demo as showing
from ramiel_ir import driver, registry
from ramiel_ir.backend import refuse
from ramiel_ir.bench import Contestant, Measurement, measure
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Graph
from ramiel_ir.machine import usable_cores
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.pipeline import Context
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
    model,
    refuses,
)


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
        "compare", "fork.onnx", "--backends= ort, ort", "--passes=cluster", "--inputs=x.npz",
        "--rtol=1e-4", "--atol=1e-6", "--seed=1", "--input-range=x:0,1",
    )  # fmt: skip
    assert result.code == DONE
    assert result.out.count("2 of 2") == 2
    assert result.out.count("agrees") == 2


def test_compare_takes_several_samples(run: Cli) -> None:
    given = ("compare", "fork.onnx", "--isolation=thread", SAMPLES)
    drawn = run(*given)
    assert (drawn.code, drawn.out.count("agrees")) == (DONE, 2)
    np.savez("many.npz", x=np.stack([X, 2 * X, -X]))
    assert run(*given, "--inputs=many.npz").code == DONE
    refuses(run(*given, "--inputs=x.npz"), USAGE, "'x'", "first axis of 3 samples")


@pytest.mark.parametrize("name", ["BFLOAT16", "FLOAT8E4M3FN"])
def test_types_that_numpy_lacks(run: Cli, name: str) -> None:
    element = onnx.TensorProto.DataType.Value(name)
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Relu", ["wide"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["y"], to=element),
    ]
    made = model(nodes)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = element
    onnx.save(made, "narrow.onnx")
    compared = run("compare", "narrow.onnx", "--isolation=thread", QUICK)
    assert (compared.code, compared.out.count("agrees")) == (DONE, 2), compared.err
    profiled = run("profile", "narrow.onnx", "-o", "costs.json", "--backend=ort", "--rounds=1")
    assert profiled.code == DONE, profiled.err
    assert set(json.loads(Path("costs.json").read_text())["ops"]) == {"wide", "positive", "y"}


@pytest.mark.parametrize(
    ("arguments", "who"),
    [
        (["compare"], "the reference"),
        (["profile", "-o", "costs.json", "--backend=ort"], "the ort backend"),
        (["profile", "-o", "costs.json", "--backend=torch"], "the torch backend"),
    ],
)
def test_random_inputs_that_the_model_cannot_take(run: Cli, arguments: list[str], who: str) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    made = model(nodes, weights={"shape": np.array([-1, 4], np.int64)})
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "N"
    onnx.save(made, "square.onnx")
    command, *options = arguments
    said = f"{who} cannot run the model on these inputs: "
    refuses(run(command, "square.onnx", *options), FAILED, said, "hint: ", "--input-shape")


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
    dear = dict.fromkeys(("hidden", "left", "right", "y"), (1e5, 1e5))
    MeasuredCosts("ort", dear).save("costs.json")  # so that two workers pay
    result = run(
        "bench", "fork.onnx", "--backends=ort", "--workers=2", "--costs=costs.json",
        "--rounds=1", "--no-peers", "--json", "--trace=t.json",
    )  # fmt: skip
    assert result.code == DONE, result.err
    rows = {row["name"]: row for row in json.loads(result.out)}
    assert list(rows) == [
        *(f"ort: sequential, {n} thread{'s' * (n > 1)}" for n in sorted({1, usable_cores()})),
        "ort: parallel, 2 workers",
        "ort: default (gated)",
    ]
    for row in rows.values():
        assert "failure" not in row
        assert 0 < row["min_ms"] <= row["median_ms"] and row["runs"] > 0
    events = json.loads(Path("t.json").read_text())["traceEvents"]
    named = {event["pid"]: event["args"]["name"] for event in events if "tid" not in event}
    sliced = {named[event["pid"]] for event in events if event["ph"] == "X"}
    parallel = "ort: parallel, 2 workers"
    assert sliced >= {f"{parallel}, predicted", f"{parallel}, measured"}


def test_profile_serves_as_costs(run: Cli) -> None:
    result = run("profile", "fork.onnx", "-o", "costs.json", "--backend=ort", "--rounds=1")
    assert (result.code, result.out) == (DONE, "")
    assert "a message takes" in result.err
    assert set(json.loads(Path("costs.json").read_text())["ops"]) >= {"hidden", "left"}
    asked = ("--passes=cluster", "--costs=costs.json", "--backend=ort")
    assert run("opt", "fork.onnx", *asked).code == DONE
    both = ("compare", "fork.onnx", QUICK, "--isolation=thread")
    refuses(run(*both, "--costs=costs.json"), USAGE, "no costs for torch: 'costs.json' is of ort")
    assert run(*both, "--costs=costs.json,static").code == DONE
    assert run(*both, "--costs=costs.json", "--backends=ort").code == DONE


OUTPUTS = {
    "bench": (["--trace=no/t.json"], "there is no folder 'no'"),
    "profile": (["-o", "no/c.json"], "there is no folder 'no'"),
    "tune": (["-o", "fork.onnx/out"], "fork.onnx'"),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_nothing_is_measured_for_a_file_that_cannot_be_written(
    run: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(registry.BACKENDS, "find", pytest.fail)
    options, fragment = OUTPUTS[command]
    refuses(run(command, "fork.onnx", *options), FAILED, fragment)


@pytest.mark.parametrize("command", OUTPUTS)
def test_external_data_may_lie_in_a_folder_that_is_named(
    run: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def read(model: str, **options: Any) -> Graph:
        raise ModelError(f"asked for {options['allow_external']}")

    monkeypatch.setattr(driver, "read", read)
    asked = (command, "fork.onnx", "--allow-external=data")
    output = () if command == "bench" else ("-o", "made")
    refuses(run(*asked, *output), FAILED, f"asked for {[Path('data')]}")


def test_tune_leaves_the_fastest(run: Cli) -> None:
    result = run("tune", "fork.onnx", "-o", "out", "--backends=ort", "--rounds=1", "--json")
    assert result.code == DONE, result.err
    names = [row["name"] for row in json.loads(result.out)]
    assert names[0] == "ort: sequential, 1 thread"
    assert any(f"out: {name}; read" in result.err for name in names)
    assert run("run", "out", "--inputs=x.npz", "--outputs=y.npz").code == DONE
    np.testing.assert_allclose(np.load("y.npz")["y"], expected(), rtol=1e-5)
    refuses(run("tune", "fork.onnx", "-o", "out"), USAGE, "is not empty", "--force")


def test_calibrate_measures_nothing_that_it_could_not_keep(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "fork.onnx")
    monkeypatch.setattr(calibrating, "find_backend", pytest.fail)
    refuses(run("calibrate", "--backends=ort"), FAILED, "fork.onnx")


def test_demo_calibrates_and_leaves_its_artifacts(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = []
    monkeypatch.setattr(calibrating, "calibrate", calibrated.append)
    result = run("demo", "fork.onnx", "-o", "demo", "--backends=ort", "--workers=1", "--rounds=1")
    assert result.code == DONE, result.err
    assert "fork" in result.out
    assert "demo/fork-ort-parallel/model.py" in result.out
    assert Path("demo/fork-ort-parallel/model.py").is_file()
    assert calibrated == ["ort"]


def _fails(name: str) -> Callable[..., list[Measurement]]:
    """`measure`, where contestants whose names end so have lost their artifacts."""

    def measure_the_rest(contestants: list[Contestant], *args: Any, **options: Any) -> Any:
        broken = [
            dataclasses.replace(one, folder="nowhere") if one.name.endswith(name) else one
            for one in contestants
        ]
        return measure(broken, *args, **options)

    return measure_the_rest


def test_bench_shows_what_it_measured_and_fails_with_a_plan_of_ours(
    run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benching, "measure", _fails("1 thread"))
    asked = ("bench", "fork.onnx", "--backends=ort", "--workers=1", "--rounds=1", "--no-peers")
    result = run(*asked)
    assert result.code == FAILED
    assert "ort: default (gated)" in result.out
    assert "ort: sequential, 1 thread failed: ArtifactError: 'nowhere'" in result.err
    rows = json.loads(run(*asked, "--json").out)
    assert ["failure" in row for row in rows] == [True, *[False] * (len(rows) - 1)]


def test_demo_shows_what_it_measured_and_fails(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "calibrate", lambda backend: None)
    monkeypatch.setattr(showing, "measure", _fails("parallel"))
    result = run("demo", "fork.onnx", "-o", "demo", "--backends=ort", "--workers=1", "--rounds=1")
    assert result.code == FAILED
    (row,) = (line for line in result.out.splitlines() if line.startswith("│ fork"))
    assert [cell.strip() for cell in row.split("│")][-4:-1] == ["failed", "", "sequential"]
    assert "fork-ort-parallel failed: ArtifactError: 'nowhere'" in result.err


@pytest.mark.parametrize(
    "command", [("bench", "--no-peers"), ("demo", "-o", "demo")], ids=["bench", "demo"]
)
def test_a_backend_that_lacks_an_op_takes_no_part(
    run: Cli,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: tuple[str, ...],
) -> None:
    def lacks(self: TorchBackend, graph: Graph) -> None:
        refuse("torch", [(graph.ops[0], "no reason")])

    monkeypatch.setattr(calibrating, "calibrate", lambda backend: None)
    monkeypatch.setattr(TorchBackend, "check", lacks)
    asked = (*command, "fork.onnx", "--workers=1", "--rounds=1")
    result = run(*asked, "--backends=torch,ort")
    assert result.code == DONE, result.err
    assert "ort" in result.out and "torch" not in result.out
    assert "torch takes no part: the torch backend cannot emit MatMul" in caplog.text
    refuses(run(*asked, "--backends=torch"), UNSUPPORTED, "cannot emit MatMul")


def test_inspect(run: Cli) -> None:
    described = json.loads(run("inspect", "fork.onnx", "--json", "--workers=2").out)
    assert described["inputs"] == {"x": "f32[1,4]"}
    assert described["outputs"] == {"y": "f32[1,4]"}
    assert described["ops"] == {"MatMul": 1, "Relu": 1, "Sigmoid": 1, "Add": 1}
    assert described["opsets"] == {"": 21}
    text = run("inspect", "fork.onnx", "--costs=static").out
    for word in ("MatMul", "parallelism", "clusters before merge", "critical path"):
        assert word in text


def test_opt_and_inspect_use_the_calibration_of_a_backend(
    run: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for backend, micros in (("torch", 1e4), ("ort", 1e5)):
        fitted = AnalyticCosts(overhead=micros)
        monkeypatch.setattr(calibrating, "fit", lambda *_, fitted=fitted, **__: fitted)
        calibrating.calibrate(backend)
    for options, micros in (((), "40000 µs"), (("--backend=ort",), "400000 µs")):
        assert micros in run("inspect", "fork.onnx", *options).out
        assert micros in run("opt", "fork.onnx", "--stats", *options).err


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
