"""Profiles, calibration and benchmarks: what they contain and what they do with failures."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from ramiel_backends.ort.backend import OrtBackend
from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir import bench as bench_module
from ramiel_ir import calibrate as calibrating
from ramiel_ir.backend import find_backend
from ramiel_ir.bench import Contestant, Measurement, bench, emitted, measure, ours, sequential_plans
from ramiel_ir.compare import Deviation, Reference, Tolerance, deviation
from ramiel_ir.costs import AnalyticCosts, MessageCosts, StaticCosts
from ramiel_ir.driver import compile, make_context, parse_costs, plan_model, read
from ramiel_ir.errors import RamielError, UnsupportedOpError, UsageError
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.machine import describe_machine
from ramiel_ir.measured import FORMAT_VERSION, MeasuredCosts
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import PassManager
from ramiel_ir.profile import profile
from ramiel_ir.tune import choose, tune, worker_counts
from tests.exported.modules import ConvNet, Difference, normal

KIND = Type(DType.F32, (1, 64))


def branches() -> Graph:
    """x feeds two chains that join."""
    graph = Graph("branches", [Value("x", KIND)], opsets={"": 21})
    ends = []
    for side, kinds in (("left", ("Sin", "Cos", "Abs")), ("right", ("Cos", "Sin", "Neg"))):
        value = graph.inputs[0]
        for index, kind in enumerate(kinds):
            value = graph.add(kind, [value], f"{side}{index}", KIND)
        ends.append(value)
    graph.set_outputs([graph.add("Add", ends, "y", KIND)])
    return graph


def unusual() -> Graph:
    """Inputs that .npz cannot hold, one of them with a name that `savez` has for itself."""
    kind, words = Type(DType.F32, (4,)), Type(DType.STRING, (4,))
    inputs = {
        "file": Type(DType.BF16, (4,)),
        "tiny": Type(DType.F8E4M3FN, (4,)),
        "words": words,
        "row": Type(kind, None, "sequence"),
        "maybe": Type(kind, None, "optional"),
    }
    graph = Graph("unusual", [Value(*item) for item in inputs.items()], opsets={"": 21})
    file, tiny, text, row, maybe = graph.inputs
    graph.add("Cast", [file], "wide", kind, to=DType.F32.onnx_code)
    graph.add("Cast", [tiny], "wider", kind, to=DType.F32.onnx_code)
    graph.add("StringConcat", [text, text], "pairs", words)
    graph.add("SequenceLength", [row], "length", Type(DType.I64, ()))
    graph.add("OptionalGetElement", [maybe], "some", kind)
    graph.set_outputs([op.writes[0] for op in graph.ops])
    return graph


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_profile_names_every_op_and_survives_its_file(backend, tmp_path):
    found = profile(branches(), backend=backend, rounds=3)
    made = {f"{side}{index}" for side in ("left", "right") for index in range(3)} | {"y"}
    assert set(found.ops) == made
    assert all(micros > 0 for pair in found.ops.values() for micros in pair)
    path = tmp_path / "costs.json"
    found.save(path)
    again = parse_costs(str(path))
    assert isinstance(again, MeasuredCosts)
    assert again == found


def test_a_profile_measures_the_parts_of_ops_that_it_would_have_divided():
    image = Type(DType.F32, (1, 32, 56, 56))
    graph = Graph("chain", [Value("x", image)], opsets={"": 21})
    value = graph.inputs[0]
    kernels = np.random.default_rng(0).normal(0, 0.05, (32, 32, 3, 3)).astype(np.float32)
    weight = graph.add_weight("w", Tensor.of(kernels))
    for index in range(4):
        value = graph.add("Conv", [value, weight], f"c{index}", image, pads=[1, 1, 1, 1])
    graph.set_outputs([graph.add("ReduceMean", [value], "y", Type(DType.F32, (1, 1, 1, 1)))])
    found = profile(graph, backend="torch", rounds=3, messages=MessageCosts())
    assert {"c3.rows0_28_56", "c3.rows28_56_56", "c3.joined"} < set(found.ops)
    assert all(micros > 0 for pair in found.ops.values() for micros in pair)


def test_a_profile_of_torch_knows_ops_of_several_statements_and_results():
    graph = parse_graph(SEVERAL)
    times = find_backend("torch").profile(graph, random_inputs(graph), 1, 3)
    assert set(times) == {"values", "unread", "last", "all"}
    assert times["last"] > times["values"]  # a loop of 200 turns and what it collects


SEVERAL = """
graph @several(%x: f32[1,64]) opset 21 {
  %trips = weight : i64[] = [200]
  %k = weight : i64[1] = [3]
  %halves = weight : i64[2] = [32, 32]
  %values, %indices = TopK(%x, %k) : f32[1,3], i64[1,3]
  %unread, %second = Split(%x, %halves) {axis=1} : f32[1,32], f32[1,32]
  %last, %all_turns = Loop(%trips, _, %second) : f32[1,32], f32[N,1,32] body = @body(%i: i64[], %go: bool[], %s: f32[1,32]) {
    %next = Add(%s, %s) : f32[1,32]
    %on = Identity(%go) : bool[]
    return %on, %next, %next
  }
  %all = Neg(%all_turns) : f32[N,1,32]
  return %indices, %all
}
"""  # noqa: E501


def test_a_session_costs_something_and_a_statement_nothing():
    type = Type(DType.F32, (64,))
    graph = Graph("chain", [Value("x", type)], opsets={"": 21})
    value = graph.inputs[0]
    for index in range(40):
        value = graph.add("Neg", [value], f"v{index}", type)
    graph.set_outputs([value])
    inputs = {"x": np.ones(64, np.float32)}
    assert find_backend("torch").segment(graph, inputs, 3) == 0
    assert 0 < find_backend("ort").segment(graph, inputs, 3) < 1000


def test_a_graph_of_one_session_says_nothing_of_sessions():
    graph = Graph("one", [Value("x", KIND)], opsets={"": 21})
    graph.set_outputs([graph.add("Neg", graph.inputs, "y", KIND)])
    assert find_backend("ort").segment(graph, random_inputs(graph), 3) == 0


def test_a_profile_knows_what_segments_of_its_model_cost(monkeypatch):
    messages = MessageCosts(fixed=7.0, segment=5.0)
    monkeypatch.setattr(OrtBackend, "segment", lambda *_: 42.0)
    found = profile(branches(), backend="ort", rounds=1, messages=messages)
    assert found.messages == dataclasses.replace(messages, segment=42.0)
    monkeypatch.setattr(OrtBackend, "segment", lambda *_: 0.0)  # too small to tell
    assert profile(branches(), backend="ort", rounds=1, messages=messages).messages == messages


def test_a_profile_is_for_its_backend(tmp_path):
    torch, ort = (tmp_path / f"{name}.json" for name in ("torch", "ort"))
    for path in (torch, ort):
        MeasuredCosts(path.stem, {}, machine=describe_machine()).save(path)
    both = f"{torch},{ort}"
    assert [parse_costs(both, backend).backend for backend in ("torch", "ort")] == ["torch", "ort"]
    assert parse_costs(f"{torch},static", "ort") == StaticCosts()
    with pytest.raises(
        UsageError, match=r"no costs for ort: .*torch\.json' is of torch; `ramiel-ir profile"
    ):
        parse_costs(str(torch), "ort")


def test_a_profile_of_another_machine_or_model_is_told(tmp_path, caplog):
    path = tmp_path / "costs.json"
    MeasuredCosts("torch", {"left0": (8.0, 5.0)}, machine="another one").save(path)
    costs = parse_costs(str(path), "torch")
    assert f"{path} was measured on another machine: another one" in caplog.text
    plan_model(branches(), backend="torch", context=make_context(costs=costs, backend="torch"))
    assert "the profile knows 1 of 7 ops: is it of this model?" in caplog.text


def test_a_profile_passes_over_a_bad_second(monkeypatch):
    asked = []

    def slow_at_first(self, graph, inputs, threads, rounds):
        turn = asked.count(threads)
        asked.append(threads)
        slowness = {1: [50.0, 2.0, 1.0], 4: [50.0, 40.0, 50.0, 50.0, 1.0, 50.0]}[threads][turn]
        return {op.label.removeprefix("%"): slowness * threads for op in graph.ops}

    monkeypatch.setattr(TorchBackend, "profile", slow_at_first)
    monkeypatch.setattr("ramiel_ir.profile.measure_messages", lambda *_: MessageCosts())
    monkeypatch.setattr("ramiel_ir.profile.usable_cores", lambda: 4)
    found = profile(branches(), backend="torch", rounds=4)
    assert asked == [1, 4] * 3 + [4] * 3  # in turns, and threads once more after a while
    assert set(found.ops.values()) == {(2.0, 4.0)}  # the median, and the best


def test_measured_costs_know_threads_and_fall_back_to_the_scaled_model():
    graph = branches()
    model = AnalyticCosts()
    costs = MeasuredCosts("torch", {"left0": (8.0, 5.0)}, scale=2.0)
    known, unknown = graph.ops[0], graph.ops[1]
    assert (costs.op(known, 1), costs.op(known, 2)) == (8.0, 5.0)
    assert costs.op(unknown) == pytest.approx(2 * model.op(unknown), rel=1e-3)


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}', '{"format_version": 7}'])
def test_a_file_that_is_no_profile_is_refused(text, tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"costs\.json"):
        parse_costs(str(path))


def test_measured_costs_of_some_threads_lie_between_those_of_one_and_of_all():
    op = branches().ops[0]
    costs = MeasuredCosts("torch", {op.label[1:]: (1600.0, 550.0)}, cores=8)
    assert [costs.op(op, threads) for threads in (1, 2, 4, 8, 16)] == [1600, 1000, 700, 550, 550]
    one = MeasuredCosts("torch", {op.label[1:]: (1600.0, 1600.0)}, cores=1)
    assert one.op(op, 1) == one.op(op, 4) == 1600


def test_a_profile_decides_the_gate(tmp_path):
    """The same clusters win or lose by what their ops were measured to take."""
    ops = {f"{side}{index}" for side in ("left", "right") for index in range(3)} | {"y"}
    for micros, workers in ((1000.0, 2), (1.0, 1)):
        costs = MeasuredCosts("torch", dict.fromkeys(ops, (micros, micros)))
        context = make_context(workers=2, threads=1, costs=costs, backend="torch")
        done = plan_model(branches(), backend="torch", context=context)
        assert len(done.plan.workers) == workers


def test_the_gate_competes_with_the_threads_that_the_user_asks_for(tmp_path, monkeypatch):
    """A sequential plan on more threads would win, but it would not be emitted."""
    monkeypatch.setattr("ramiel_ir.driver.usable_cores", lambda: 2)
    ops = {f"{side}{index}" for side in ("left", "right") for index in range(3)} | {"y"}
    costs = MeasuredCosts("torch", dict.fromkeys(ops, (1000.0, 500.0)))
    for asked, workers, threads in ((1, 2, 1), (None, 1, 2)):
        done = compile(branches(), tmp_path / f"{asked}", workers=2, threads=asked, costs=costs)
        assert (len(done.plan.workers), done.plan.threads) == (workers, threads)


def test_calibration_is_cached_for_this_machine_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert calibrating.calibrated_costs("ort") == AnalyticCosts()
    found = calibrating.calibrate("ort", rounds=2)
    assert found.gflops > 0 and found.overhead > 0
    assert calibrating.calibrated_costs("ort") == found
    assert calibrating.calibrated_costs("torch") == AnalyticCosts()
    path = calibrating.cache_file("ort")
    assert list(path.parent.iterdir()) == [path]
    kept = json.loads(path.read_text())
    for change in ({"machine": "another one"}, {"format_version": 1}):
        path.write_text(json.dumps({**kept, **change}))
        assert calibrating.calibrated_costs("ort") == AnalyticCosts()


def test_calibrate_once_measures_what_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = AnalyticCosts(gflops=1.0)
    monkeypatch.setattr(calibrating, "calibrate", lambda backend: measured)
    assert calibrating.calibrate_once("ort") is measured
    path = calibrating.cache_file("ort")
    path.parent.mkdir()
    kept = {"machine": describe_machine(), "format_version": FORMAT_VERSION}
    path.write_text(json.dumps({**kept, **dataclasses.asdict(AnalyticCosts(gflops=2.0))}))
    assert calibrating.calibrate_once("ort") == AnalyticCosts(gflops=2.0)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("cache", ["", "a file"])
def test_without_a_cache_the_fit_is_used_and_not_kept(cache, tmp_path, monkeypatch, caplog):
    """There is no home, or the cache cannot be written."""
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setattr(Path, "home", _no_home)
    monkeypatch.setattr(calibrating, "fit", lambda backend: AnalyticCosts(gflops=1.0))
    assert make_context(backend="ort").costs == AnalyticCosts()
    assert calibrating.calibrate_once("ort") == AnalyticCosts(gflops=1.0)
    assert "the calibration of ort is not kept: " in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_contestants_are_measured_in_turn_and_failures_are_reported(tmp_path):
    graph = branches()
    inputs = random_inputs(graph)
    with ours(graph, ["ort"], workers=2) as (contestants, plans):
        assert [plan.plan.is_sequential for plan in plans.values()][:2] == [True, True]
        broken = Contestant("broken", str(tmp_path))
        ticks: list[None] = []
        rows = measure(
            [*contestants, broken, Contestant("peer", peer="onnxruntime")],
            graph,
            inputs,
            rounds=1,
            progress=lambda: ticks.append(None),
        )
    assert "is not an artifact" in rows[-2].failure
    for row in [*rows[:-2], rows[-1]]:
        assert not row.failure and row.latencies and row.memory > 1 and row.start > 0
        assert row.minimum <= row.median
    assert ticks


def test_contestants_may_write_as_much_as_they_like():
    """More than a pipe holds, which nobody reads while they run."""
    graph = branches()
    with ours(graph, ["ort"], workers=1) as (contestants, _):
        for contestant, end in zip(contestants[:2], ("", "raise ValueError('no')"), strict=True):
            with (Path(contestant.folder) / "model.py").open("a") as source:
                source.write(f"\nprint('long\\n' * 100_000)\n{end}\n")
        talks, fails = measure(contestants[:2], graph, random_inputs(graph), rounds=1)
    assert talks.latencies and not talks.failure
    assert "ValueError: no" in fails.failure


def test_a_contestant_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(bench_module, "_ANSWER_SECONDS", 1.0)
    graph = branches()
    with ours(graph, ["ort"], workers=1) as (contestants, _):
        with (Path(contestants[0].folder) / "model.py").open("a") as source:
            source.write("\nwhile True:\n    pass\n")
        (hangs,) = measure(contestants[:1], graph, random_inputs(graph), rounds=1)
    assert hangs.failure == "it gave no answer for 1 s"


def test_a_plan_that_cannot_be_traced_leaves_the_table(monkeypatch, caplog):
    def fails(*_):
        raise RamielError("no clock")

    monkeypatch.setattr(bench_module, "record", fails)
    settings = {"backends": ["ort"], "workers": 2, "costs": StaticCosts()}
    report = bench(branches(), **settings, rounds=1, peers=False, traces=True)
    assert all(row.latencies for row in report.rows)
    assert not any("measured" in title for title in report.traces)
    assert "could not be traced: no clock" in caplog.text


def test_inputs_of_every_type_reach_the_contestants():
    graph = unusual()
    with emitted(sequential_plans(graph, make_context(workers=1, backend="ort"))) as contestants:
        rows = measure(
            [contestants[0], Contestant("peer", peer="torch-eager")],
            graph,
            random_inputs(graph),
            rounds=1,
        )
    assert [row.failure for row in rows] == ["", ""]


def test_the_torch_peer_runs_the_module_itself():
    module = ConvNet()
    example = [normal(1, 3, 20, 20)]
    graph = read(module, example)
    inputs = {graph.inputs[0].name: example[0].numpy()}
    peer = Contestant("eager", peer="torch-eager")
    (whole,) = measure([peer], graph, inputs, rounds=1, module=module)
    assert whole.latencies and not whole.failure
    module.stem = None  # the file knows nothing of it
    (broken,) = measure([peer], graph, inputs, rounds=1, module=module)
    assert "NoneType" in broken.failure
    (emitted,) = measure([peer], graph, inputs, rounds=1)
    assert emitted.latencies and not emitted.failure


def test_the_torch_peer_hands_keywords_to_a_module_that_takes_them():
    example = {"left": normal(4), "right": normal(4)}
    graph = read(Difference(), example)
    given = {name: value.numpy() for name, value in example.items()}
    peer = Contestant("eager", peer="torch-eager")
    (row,) = measure([peer], graph, given, rounds=1, module=Difference(), by_keyword=True)
    assert row.latencies and not row.failure
    (row,) = measure([peer], graph, given, rounds=1, module=Difference())
    assert row.failure == "ValueError: there is a mask: none was expected"


def test_a_contestant_takes_classes_but_no_libraries_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as in a notebook
    Path("numpy.py").write_text("raise SystemExit('not numpy')")
    Path("lying_here.py").write_text("import torch\nclass Net(torch.nn.Identity):\n    pass")
    module = importlib.import_module("lying_here").Net()
    graph = read(module, [normal(4)])
    peer = Contestant("eager", peer="torch-eager")
    (row,) = measure([peer], graph, random_inputs(graph), rounds=1, module=module)
    assert row.latencies and not row.failure
    assert row.turns == [pytest.approx(row.median / 1e3)]


def test_statistics_of_a_measurement():
    row = Measurement(Contestant("x"), latencies=[0.001 * n for n in range(1, 12)], cpu=[0.002])
    assert row.minimum == pytest.approx(1.0)
    assert row.median == pytest.approx(6.0)
    assert row.spread == pytest.approx((10 - 2) / 2 / 6)
    assert row.as_dict()["cpu_ms"] == pytest.approx(2.0)


def test_a_speedup_compares_turns_of_the_same_round():
    slow, fast = Measurement(Contestant("slow")), Measurement(Contestant("fast"))
    slow.turns, fast.turns = [2.0, 8.0, 2.1], [1.0, 4.0, 1.0]  # all was slow in the second round
    assert fast.speedup(slow) == pytest.approx(2.0)
    assert slow.speedup(fast) == pytest.approx(0.5)


def test_of_equally_fast_plans_the_one_that_takes_less_cpu_time_wins():
    def row(name, latency, cpu, failure=""):
        return Measurement(Contestant(name), [latency] * 3, [cpu], failure=failure)

    rows = [row("a", 1.00, 1.9), row("b", 1.02, 1.0), row("c", 1.04, 0.5), row("d", 0, 0, "no")]
    assert choose(rows).contestant.name == "b"
    with pytest.raises(RamielError, match="no plan could be measured: no"):
        choose(rows[3:])


def test_tune_tries_powers_of_two_and_all_cores():
    assert [worker_counts(cores) for cores in (1, 2, 3, 4, 6, 16)] == [
        [], [2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8, 16],
    ]  # fmt: skip


def test_a_backend_that_lacks_an_op_takes_no_part_in_tuning(tmp_path, caplog):
    graph = Graph("odd", [Value("x", KIND)], opsets={"": 21, "no.where": 1})
    graph.append(Op("Nothing", graph.inputs, [Value("y", KIND)], domain="no.where"))
    graph.set_outputs(graph.ops[0].writes)
    with pytest.raises(UnsupportedOpError, match=r"no\.where\.Nothing"):
        tune(graph, tmp_path / "out", backends=["torch"])
    assert "torch takes no part" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dtype", "reference", "found", "error"),
    [
        (DType.I64, 2**53, 2**53 + 1, 1),
        (DType.U64, 2**64 - 1, 2**64 - 2, 1),
        (DType.I64, -(2**63), 2**63 - 1, 2.0**64),
        (DType.I4, -8, 7, 15),
        (DType.BOOL, True, False, 1),
    ],
)
def test_integers_are_compared_exactly(dtype, reference, found, error):
    one, other = (np.array([0, number], dtype.numpy) for number in (reference, found))
    loose = Tolerance(rtol=10, atol=10)
    assert deviation(one, one.copy(), loose) == Deviation()
    for a, b in ((one, other), (one[1], other[1])):
        assert deviation(a, b, loose).error == error
        assert not deviation(a, b, loose).agrees


def test_reference_says_what_it_is():
    assert "onnxruntime" in Reference(branches()).name
    custom = Graph("custom", [Value("x", KIND)], opsets={"": 28})
    custom.set_outputs([custom.add("Relu", [custom.inputs[0]], "y", KIND)])
    assert Reference(custom).name == "interpret"


def test_absorb_needs_a_batch_normalisation():
    manager = PassManager.parse("absorb")
    assert not manager.run(branches())
    assert manager.steps[0].reason
