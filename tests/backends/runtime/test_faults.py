"""What process isolation promises when something goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from ramiel_backends.runtime import ArtifactError, Model, WorkerError, WorkerTimeout, load

from .artifacts import MOODY, write
from .conftest import alive, children, eventually

pytestmark = pytest.mark.usefixtures("nothing_left")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def moody(tmp_path: Path) -> Path:
    """Two workers; x[0] says what worker 1 does instead of computing y = 2 * x + 11."""
    return write(tmp_path / "out", MOODY, backend="numpy")


def right(model: Model) -> bool:
    """Whether the model computes what it should."""
    x = np.arange(5, dtype=np.float32)
    return np.array_equal(model.run({"x": x}, timeout=30)["y"], 2 * x + 11)


def mood(number: int) -> dict[str, object]:
    """Inputs that put worker 1 into a mood."""
    return {"x": np.array([number], dtype=np.float32)}


def pids(model: Model) -> list[int]:
    """The model's children."""
    engine: Any = model._engine
    return list(engine.pids)


def test_exception(moody: Path) -> None:
    with load(moody, "process") as model:
        first = pids(model)
        for _ in range(3):
            with pytest.raises(
                WorkerError, match=r"worker 1 failed: ValueError: mood.*model.py:\d"
            ):
                model.run(mood(-1))
            assert right(model)
        assert pids(model) == first, "nobody had to be replaced"


def test_exception_beside_a_busy_worker_that_never_stops(moody: Path) -> None:
    with load(moody, "process") as model:
        first = pids(model)
        with pytest.raises(WorkerError, match="worker 1 failed"):
            model.run(mood(-5))
        assert right(model)
        assert pids(model) != first


def test_worker_dies_while_it_computes(moody: Path) -> None:
    with load(moody, "process") as model:
        start = time.monotonic()
        with pytest.raises(WorkerError, match=r"worker 1 \(process \d+\) was ended by SIGKILL"):
            model.run(mood(-2))
        assert time.monotonic() - start < 2
        assert right(model)


def test_worker_crashes(moody: Path) -> None:
    with load(moody, "process") as model:
        with pytest.raises(WorkerError, match=r"worker 1 .* was ended by SIGSEGV"):
            model.run(mood(-4))
        assert right(model)


def test_worker_dies_while_others_wait_for_it(moody: Path) -> None:
    with load(moody, "process") as model:
        future = model.submit(mood(-3))
        time.sleep(0.05)
        os.kill(pids(model)[0], signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"worker 0 .* was ended by SIGKILL"):
            future.result(timeout=2)
        assert right(model)


def test_worker_dies_while_idle(moody: Path) -> None:
    with load(moody, "process") as model:
        first = pids(model)
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in first))
        assert right(model)


def test_timeout_while_a_worker_waits_for_a_message(moody: Path) -> None:
    with load(moody, "process") as model:
        first = pids(model)
        with pytest.raises(WorkerTimeout):
            model.run(mood(-6), timeout=0.1)
        assert right(model)
        assert pids(model) == first, "workers that stop when told to are kept"


def test_timeout_of_a_worker_that_does_not_stop(moody: Path) -> None:
    with load(moody, "process") as model:
        first = pids(model)
        start = time.monotonic()
        with pytest.raises(WorkerTimeout):
            model.run(mood(-3), timeout=0.1)
        assert time.monotonic() - start < 1
        assert right(model)
        assert not {*first} & {*pids(model)}


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("moment", ["draw", "take", "give"])
def test_an_interrupt_at_the_door_blocks_nobody(
    moody: Path, isolation: Any, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(moody, isolation) as model:
        engine: Any = model._engine
        real = getattr(engine._turns, moment)

        def interrupted(*arguments: Any) -> None:
            if moment != "give":
                real(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(engine._turns, moment, interrupted)
            right(model)
        assert right(model)


def test_closing_while_a_request_runs(moody: Path) -> None:
    model = load(moody, "process")
    running, waiting = model.submit(mood(-3)), model.submit(mood(1))
    time.sleep(0.05)
    model.close()
    for future in (running, waiting):
        with pytest.raises(WorkerError, match="closed"):
            future.result(timeout=2)
    with pytest.raises(WorkerError, match="closed"):
        model.run(mood(1))
    model.close()


def test_closing_while_a_request_waits_for_busy_threads(tmp_path: Path) -> None:
    napping = MOODY.replace("while mood == -3:", "if mood == -3:").replace("60", "0.5")
    model = load(write(tmp_path / "out", napping, backend="numpy"), "thread")
    ends: SimpleQueue[object] = SimpleQueue()

    def request(n: int) -> None:
        try:
            ends.put(model.run(mood(n))["y"].tolist())
        except WorkerError as error:
            ends.put(str(error))

    for n in (-3, 1):
        threading.Thread(target=request, args=(n,), daemon=True).start()
        time.sleep(0.1)
    model.close()
    assert [ends.get(timeout=5), ends.get(timeout=5)] == [[5], "the model is closed"]


def test_innocent_requests_run_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", MOODY, backend="numpy", in_flight=2)
    with load(folder, "process") as model:
        futures = [model.submit(mood(n)) for n in (1, -1, 2, 3, -1, 4, 5)]
        for n, future in zip((1, -1, 2, 3, -1, 4, 5), futures, strict=True):
            if n < 0:
                with pytest.raises(WorkerError, match="mood"):
                    future.result(timeout=20)
            else:
                assert future.result(timeout=20)["y"] == 2 * n + 11


def test_interrupted_caller(moody: Path) -> None:
    # In the background of a shell, Ctrl-C may be ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with load(moody, "process") as model:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                model.run(mood(-6))
            assert right(model)
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    lines = {
        "x = 1 / 0": r"ZeroDivisionError.*model.py:1",
        "import os; os.write(2, b'last words'); os._exit(3)": r"(?s)exited with code 3.*last words",
        "import time; time.sleep(60)": "did not start in time",
        "def": "SyntaxError",
        "x = 1": "WORKERS",
    }
    for number, (line, message) in enumerate(lines.items()):
        folder = write(tmp_path / str(number), line, backend="numpy")
        timeout = 1.0 if "sleep" in line else 60.0
        with pytest.raises(ArtifactError, match=message):
            load(folder, "process", start_timeout=timeout)


def test_forgotten_model(moody: Path) -> None:
    model = load(moody, "process")
    assert right(model)
    model.submit(mood(1)).result(timeout=10)
    first = pids(model)
    del model
    eventually(lambda: not any(alive(pid) for pid in first))


def run_script(text: str) -> subprocess.Popen[str]:
    """Run a script that has no main guard, from standard input."""
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'backends')!r}]\n"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-"],  # 3.12 warns of fork
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(path + text)
    process.stdin.close()
    return process


LOAD = """
import numpy as np
from ramiel_backends.runtime import load
model = load({folder!r}, "process")
answer = model.run({{"x": np.ones(3, np.float32)}}, timeout=30)["y"]
assert answer.tolist() == [13.0, 13.0, 13.0]
print(*model._engine.pids, flush=True)
"""


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a script wrote, once it has ended."""
    assert process.stdout is not None and process.stderr is not None
    with process, process.stdout, process.stderr:
        return process.stdout.read(), process.stderr.read()


def test_parent_killed(moody: Path) -> None:
    process = run_script(LOAD.format(folder=str(moody)) + "import time; time.sleep(60)")
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2 and all(alive(pid) for pid in workers)
    process.kill()
    finish(process)
    eventually(lambda: not any(alive(pid) for pid in workers))


def test_parent_killed_while_workers_compute_and_a_fork_lives_on(moody: Path) -> None:
    text = LOAD.format(folder=str(moody)) + (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.close(0), os.close(1), os.close(2)\n"
        "    time.sleep(20)\n"
        "    os._exit(0)\n"
        "model.run({'x': np.array([-3], np.float32)})\n"
    )
    process = run_script(text)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    eventually(lambda: len(children(process.pid)) == 3)
    (fork,) = {*children(process.pid)} - {*workers}
    process.kill()
    finish(process)
    eventually(lambda: not any(alive(pid) for pid in workers))
    assert alive(fork)
    os.kill(fork, signal.SIGKILL)


def test_parent_ends_without_closing(moody: Path) -> None:
    process = run_script(LOAD.format(folder=str(moody)))
    printed, complaints = finish(process)
    assert process.returncode == 0 and complaints == ""
    workers = [int(pid) for pid in printed.split()]
    assert len(workers) == 2
    eventually(lambda: not any(alive(pid) for pid in workers))


def test_fork_of_the_caller_leaves_the_model_alone(moody: Path) -> None:
    text = LOAD.format(folder=str(moody)) + (
        "import os, sys\n"
        "fork = os.fork()\n"
        "if fork == 0:\n"
        "    try:\n"
        "        model.run({'x': np.ones(3, np.float32)})\n"
        "    except Exception as error:\n"
        "        print(error)\n"
        "    model.close()\n"
        "    sys.exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 7\n"
        "print(model.run({'x': np.ones(1, np.float32)})['y'][0])\n"
    )
    process = run_script(text)
    printed, complaints = finish(process)
    assert complaints == ""
    assert "before a fork" in printed and printed.split()[-1] == "13.0"


def test_shared_memory_has_no_name(moody: Path) -> None:
    with load(moody, "process") as model:
        assert right(model)
        for pid in (os.getpid(), *pids(model)):
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "memfd:ramiel-arena (deleted)" in maps
            assert "/dev/shm/" not in maps


def test_idle_workers_take_no_time(moody: Path) -> None:
    with load(moody, "process") as model:
        assert right(model)
        time.sleep(0.05)  # they look out for a next request for a fraction of a millisecond
        before = [_time(pid) for pid in pids(model)]
        time.sleep(1.0)
        assert [_time(pid) for pid in pids(model)] == before


def _time(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
