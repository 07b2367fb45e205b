"""Loading, running, submitting and closing, under both kinds of isolation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramiel_backends.runtime import (
    ArtifactError,
    InputError,
    Message,
    Spec,
    WorkerError,
    WorkerTimeout,
    load,
)
from ramiel_backends.runtime.manifest import digest

from .artifacts import MOODY, write

pytestmark = pytest.mark.usefixtures("nothing_left")
both = pytest.mark.parametrize("isolation", ["process", "thread"])


def ones(size: int) -> dict[str, Any]:
    """Inputs of some size."""
    return {"x": np.ones(size, np.float32)}


def test_closing_waits_for_the_threads(tmp_path: Path) -> None:
    """A thread that Python has to end while it is in torch takes the process along."""
    before = threading.active_count()
    with load(write(tmp_path / "out", MOODY, backend="numpy"), "thread") as model:
        model.run(ones(3))
        assert threading.active_count() > before
    assert threading.active_count() == before


@both
def test_shapes_may_change_from_run_to_run(tmp_path: Path, isolation: Any) -> None:
    with load(write(tmp_path / "out", MOODY, backend="numpy"), isolation) as model:
        for size in (1, 1, 9, 0, 100_000, 3, 100_001, 1):
            answer = model.run(ones(size))["y"]
            assert answer.shape == (size,) and (answer == 13).all()


@both
def test_outputs_belong_to_the_caller(tmp_path: Path, isolation: Any) -> None:
    with load(write(tmp_path / "out", MOODY, backend="numpy"), isolation) as model:
        first = model.run(ones(3))["y"]
        first[:] = 99
        assert model.run(ones(3))["y"].tolist() == [13] * 3
        assert first.tolist() == [99] * 3


SLOW = """
import time
import numpy as np

def worker_0(weights):
    seen = []
    def run(port):
        x = port.input("x")
        seen.append(float(x[0]))
        time.sleep(0.01)
        port.send(0, x)
        port.output("y", port.receive(1))
        port.output("seen", np.array(seen))
    return run
def worker_1(weights):
    def run(port):
        x = port.receive(0)
        time.sleep(0.02)
        port.send(1, x * 10)
    return run
WORKERS = [worker_0, worker_1]
"""
SLOW_FIELDS: Any = {"backend": "numpy", "outputs": (Spec("y"), Spec("seen"))}


@both
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_submitted_requests_run_in_order(tmp_path: Path, isolation: Any, in_flight: int) -> None:
    folder = write(tmp_path / "out", SLOW, **SLOW_FIELDS, in_flight=in_flight)
    with load(folder, isolation) as model:
        done: list[int] = []

        def remember(n: int, _: Any) -> None:
            done.append(n)

        futures = []
        for n in range(12):
            futures.append(model.submit({"x": np.array([n], np.float32)}))
            futures[-1].add_done_callback(partial(remember, n))
        last = model.run({"x": np.array([99], np.float32)})
        assert [future.result()["y"][0] for future in futures] == [10 * n for n in range(12)]
        assert last["seen"].tolist() == [*range(12), 99]
        assert done == sorted(done) or in_flight > 1


@both
def test_many_threads_and_cancelled_futures(tmp_path: Path, isolation: Any) -> None:
    folder = write(tmp_path / "out", SLOW, **SLOW_FIELDS, in_flight=2)
    with load(folder, isolation) as model:
        answers: dict[int, float] = {}

        def ask(n: int) -> None:
            for k in range(5):
                answers[10 * n + k] = model.run({"x": np.array([10 * n + k], np.float32)})["y"][0]

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        futures = [model.submit({"x": np.array([n], np.float32)}) for n in range(6)]
        cancelled = futures[4].cancel()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 20 and all(y == 10 * x for x, y in answers.items())
        assert futures[5].result()["y"][0] == 50
        assert cancelled


SAMPLES = """
def worker_0(weights):
    def run(port):
        port.send(0, port.input("x", 0))
        port.output("y", port.input("x", 1) + 1, 1)
        port.send(1, port.input("x", 2))
    return run
def worker_1(weights):
    def run(port):
        port.output("y", port.receive(0) + 1, 0)
        port.output("y", port.receive(1) + 1, sample=2)
    return run
WORKERS = [worker_0, worker_1]
"""


@both
def test_samples(tmp_path: Path, isolation: Any) -> None:
    messages = (Message(0, 1, sample=0), Message(0, 1, sample=2))
    folder = write(tmp_path / "out", SAMPLES, backend="numpy", samples=3, messages=messages)
    with load(folder, isolation) as model:
        answers = model.run([ones(1), ones(2), ones(3)])
        assert [answer["y"].tolist() for answer in answers] == [[2.0] * n for n in (1, 2, 3)]
        with pytest.raises(InputError, match="list of 3 dicts"):
            model.run(ones(1))


def test_failures_while_two_requests_may_be_in_flight(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", MOODY, backend="numpy", in_flight=2)
    with load(folder, "process") as model:
        for _ in range(3):
            with pytest.raises(WorkerError, match="mood"):
                model.run({"x": np.array([-1], np.float32)})
            assert [model.submit(ones(n)).result()["y"].size for n in (1, 2, 3)] == [1, 2, 3]
        with pytest.raises(WorkerError, match="SIGKILL"):
            model.run({"x": np.array([-2], np.float32)})
        assert model.run(ones(2))["y"].tolist() == [13, 13]


def test_thread_exception_and_timeout(tmp_path: Path) -> None:
    text = MOODY.replace("time.sleep(60)", "time.sleep(2); mood = 0")
    with load(write(tmp_path / "out", text, backend="numpy"), "thread") as model:
        for _ in range(2):
            with pytest.raises(WorkerError, match=r"worker 1 failed: ValueError: mood.*model.py"):
                model.run({"x": np.array([-1], np.float32)})
            assert model.run(ones(1))["y"] == 13
        with pytest.raises(WorkerTimeout):
            model.run({"x": np.array([-6], np.float32)}, timeout=0.05)
        assert model.run(ones(1))["y"] == 13
        with pytest.raises(WorkerTimeout):
            model.run({"x": np.array([-3], np.float32)}, timeout=0.05)
        with pytest.raises(WorkerError, match="worker 1 still runs a request that failed"):
            model.run(ones(1), timeout=0.01)
        end = time.monotonic() + 10
        while True:  # until the worker has returned
            try:
                assert model.run(ones(1))["y"] == 13
                break
            except WorkerError:
                assert time.monotonic() < end


@both
def test_timeouts_are_checked(tmp_path: Path, isolation: Any) -> None:
    napping = MOODY.replace("while mood == -3:", "if mood == -3:").replace("60", "0.5")
    with load(write(tmp_path / "out", napping, backend="numpy"), isolation) as model:
        for bad in ("5", [1], float("nan"), -1, 1j):
            with pytest.raises(InputError, match="timeout: expected None or seconds, at least 0"):
                model.run(ones(1), timeout=bad)  # type: ignore[arg-type]
        for good in (1e300, float("inf"), 10**400, np.float32(20), None):
            assert model.run(ones(1), timeout=good)["y"] == 13
        model.submit({"x": np.array([-3], np.float32)})  # it naps: the next one has to wait
        assert model.run(ones(1), timeout=1e300)["y"] == 13


def test_a_thread_that_cannot_start_leaves_no_turn_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with load(write(tmp_path / "out", MOODY, backend="numpy"), "thread") as model:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
            patch.setattr(threading.Thread, "start", refuse)
            model.submit(ones(1))
        assert model.run(ones(1), timeout=5)["y"] == 13
        assert model.submit(ones(1)).result(timeout=5)["y"] == 13


@both
def test_an_output_that_nobody_computes(tmp_path: Path, isolation: Any) -> None:
    outputs = (Spec("y"), Spec("z"))
    with load(write(tmp_path / "out", MOODY, backend="numpy", outputs=outputs), isolation) as model:
        for _ in range(2):
            with pytest.raises(WorkerError, match="no worker computed output 'z'"):
                model.run(ones(1))


def test_aliases_need_no_worker(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = write(
        tmp_path / "out",
        "WORKERS = []",
        workers=0,
        messages=(),
        outputs=(Spec("a", "f32", ("N",)), Spec("b", "i64", (2,))),
        aliases={"a": {"input": "x"}, "b": {"weight": "w"}},
    )
    with pytest.raises(ArtifactError, match="weight 'w' is missing"):
        load(folder)
    safetensors.save_file({"w": np.array([3, 4])}, folder / "weights.safetensors")
    with load(folder) as model:
        inputs = ones(2)
        outputs = model.run(inputs)
        assert list(outputs) == ["a", "b"] and outputs["b"].tolist() == [3, 4]
        outputs["a"][:] = outputs["b"][:] = 0
        assert model.submit(inputs).result()["b"].tolist() == [3, 4] and inputs["x"].all()


BAD = {
    "input 'x' is missing": {},
    "unknown input 'z'; the model takes 'x', 'w', 's', 'o'": {"z": 1},
    r"input 'x': expected f32\[N,2\], got f64\[3,2\]": {"x": np.ones((3, 2))},
    r"input 'x': expected f32\[N,2\], got f32\[3\]": {"x": np.ones(3, np.float32)},
    r"input 'x': expected f32\[N,2\], got f32\[3,4\]": {"x": np.ones((3, 4), np.float32)},
    r"got >f4\[3,2\]|no model takes type >f4": {"x": np.ones((3, 2), ">f4")},
    "dimension 'N' is 4, but 3 in input 'x'": {"w": np.ones(4, np.int64)},
    "input 'w': expected an array, got None": {"w": None},
    "input 's': expected a list, got ndarray": {"s": np.ones(3)},
    r"input 's': expected str\[\?\], got f64\[1\]": {"s": [np.ones(1)]},
    "may hold strings only": {"s": [np.array([None])]},
    r"input 'o': expected bool\[\], got i64": {"o": np.array(1)},
    "inputs must be a dict": 3,
}


@pytest.mark.parametrize("message", BAD)
def test_inputs_are_checked(message: str) -> None:
    from ramiel_backends.runtime.inputs import Inputs

    specs = (
        Spec("x", "f32", ("N", 2)),
        Spec("w", "i64", ("N",)),
        Spec("s", kind="sequence", element=Spec("", "str", (None,))),
        Spec("o", kind="optional", element=Spec("", "bool", ())),
    )
    good = {
        "x": np.ones((3, 2), np.float32),
        "w": np.arange(3),
        "s": [np.array(["a"]), np.array(["b", "c"], dtype=object)],
        "o": None,
    }
    assert [value.dtype.kind for value in Inputs(specs).check(good)["s"]] == ["O", "O"]
    bad: Any = BAD[message]
    if isinstance(bad, dict):
        bad = {**good, **bad} if bad else {}
    with pytest.raises(InputError, match=message) as caught:
        Inputs(specs).check(bad)
    assert "\n" not in str(caught.value)


def test_damaged_artifacts(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an artifact"):
        load(tmp_path)
    folder = write(tmp_path / "out", backend="numpy")
    path = folder / "manifest.json"
    text = path.read_text()
    (folder / "data.bin").write_bytes(b"data")

    def damaged(message: str, **changes: Any) -> None:
        path.write_text(json.dumps({**json.loads(text), **changes}))
        with pytest.raises(ArtifactError, match=message):
            load(folder, "thread")

    damaged("format version 2", format_version=2)
    damaged("unknown backend 'os'; there are: torch", backend="os")
    damaged("the wiring is damaged", wiring={})
    damaged("data.bin was changed or damaged", files={"data.bin": "sha256:0"})
    damaged("lies outside", files={"../data.bin": "sha256:0"})
    damaged("cannot read none.bin", files={"none.bin": "sha256:0"})
    damaged("alias 'y' names an unknown input", aliases={"y": {"input": "z"}})
    damaged("unknown type 'f33'", inputs=[{"name": "x", "dtype": "f33", "shape": []}])
    (folder / "link.bin").symlink_to("/etc/hostname")
    damaged("leads outside", files={"link.bin": "sha256:0"})
    path.write_text(text[:50])
    with pytest.raises(ArtifactError, match=r"manifest.json is damaged"):
        load(folder)
    path.write_text(text)
    assert digest(folder / "data.bin").startswith("sha256:3a6eb0790f39ac87")
    (folder / "model.py").unlink()
    with pytest.raises(ArtifactError, match=r"there is no model.py"):
        load(folder)


def script(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, without anything of ours on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@both
def test_command_line(tmp_path: Path, isolation: str) -> None:
    text = (
        MOODY + '\nif __name__ == "__main__":\n    import runtime\n\n    runtime.main(__file__)\n'
    )
    folder = write(tmp_path / "out", text, backend="numpy")
    np.savez(tmp_path / "x.npz", **ones(3))
    command = [str(folder / "model.py"), "--inputs", "x.npz", "--isolation", isolation]
    done = script([*command, "--outputs", "y.npz", "--repeat", "3"], tmp_path)
    assert done.returncode == 0 and done.stdout == "" and "3 runs: min" in done.stderr
    with np.load(tmp_path / "y.npz") as file:
        assert file["y"].tolist() == [13] * 3
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    done = script(command, tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: input 'x': expected f32[N], got f64[3]\n"


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", MOODY, backend="numpy")
    (tmp_path / "script.py").write_text(
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport runtime, numpy\n"
        f"model = runtime.load({str(folder)!r}, 'process')\n"
        "print(model.run({'x': numpy.ones(1, 'f')})['y'])\n"
    )
    done = script(["script.py"], tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("[13.]\n", "", 0)


NOTEBOOK = """
import nbclient, nbformat
cell = nbformat.v4.new_code_cell({cell!r})
notebook = nbformat.v4.new_notebook(cells=[cell])
nbclient.NotebookClient(notebook, timeout=120).execute()
print(cell.outputs[0].text, end="")
"""


def test_a_notebook(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = write(tmp_path / "out", MOODY, backend="numpy")
    cell = (
        f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport runtime, numpy\n"
        f"with runtime.load({str(folder)!r}, 'process') as model:\n"
        "    print(model.run({'x': numpy.ones(1, 'f')})['y'])\n"
    )
    done = script(["-c", NOTEBOOK.format(cell=cell)], tmp_path)
    assert (done.stdout, done.returncode) == ("[13.]\n", 0), done.stderr


def test_errors_are_those_of_ramiel_ir_where_it_is_used(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", MOODY, backend="numpy")
    root = Path(__file__).parents[3]
    text = (
        f"import sys\nsys.path[:0] = [{str(root)!r}, {str(folder)!r}]\n"
        "import ramiel_ir.errors as ours, runtime\n"
        "assert issubclass(runtime.WorkerTimeout, (ours.WorkerTimeout))\n"
        "assert issubclass(runtime.WorkerTimeout, runtime.WorkerError)\n"
        "for name in ('WorkerError', 'ArtifactError'):\n"
        "    assert issubclass(getattr(runtime, name), getattr(ours, name))\n"
        "assert issubclass(runtime.InputError, ours.UsageError)\n"
    )
    done = script(["-c", text], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
