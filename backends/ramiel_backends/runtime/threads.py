"""Thread isolation: workers are threads of the caller's process, and share its fate.

Start-up takes no time and a message is the object itself. A thread cannot be ended from outside:
after a timeout the engine takes no request until the worker that is late has returned.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from .backend import Backend, convert, find_backend
from .engine import GRACE, Engine, Sample
from .errors import Aborted, ArtifactError, WorkerError, WorkerTimeout
from .manifest import Manifest
from .places import Place, may_move
from .source import describe
from .turns import remaining

ABORTED: Any = object()
"""Sent in place of a message to whoever waits for one that will not come."""


class ThreadPort:
    """One request of a set of threads; a message is the object itself.

    All workers share it. `abort` may be called at any time and by anybody: every `receive` that
    still waits, and every later one, unwinds its worker.
    """

    def __init__(self, messages: int, samples: int) -> None:
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(messages)]
        self.inputs: Sequence[Mapping[str, Any]] = ()
        self.outputs: list[dict[str, Any]] = [{} for _ in range(samples)]

    def input(self, name: str, sample: int = 0) -> Any:
        """A model input."""
        return self.inputs[sample][name]

    def send(self, number: int, value: Any) -> None:
        """Send message `number`."""
        self._queues[number].put(value)

    def receive(self, number: int) -> Any:
        """Wait for message `number`."""
        value = self._queues[number].get()
        if value is ABORTED:
            raise Aborted
        return value

    def output(self, name: str, value: Any, sample: int = 0) -> None:
        """Hand over a model output."""
        self.outputs[sample][name] = value

    def clear(self) -> None:
        """Let go of the values of a finished request."""
        self.inputs = ()
        for outputs in self.outputs:
            outputs.clear()

    def abort(self) -> None:
        """Unwind every worker that waits for a message, now or later."""
        for queue in self._queues:
            queue.put(ABORTED)


class _Request:
    """One request: its port, and which workers have not finished it."""

    def __init__(self, port: ThreadPort, workers: int) -> None:
        self.port = port
        self.running = set(range(workers))
        self.finished: SimpleQueue[tuple[int, str | None]] = SimpleQueue()
        self.failed = False

    def wait(self, seconds: float | None) -> str | None:
        """Wait for one more worker; says what went wrong in it. `Empty` if none came."""
        worker, problem = self.finished.get(timeout=seconds)
        self.running.discard(worker)
        return None if problem is None else f"worker {worker} failed: {problem}"


class ThreadEngine(Engine):
    """An engine whose workers are daemon threads."""

    def __init__(self, folder: Path, manifest: Manifest, start_timeout: float) -> None:
        super().__init__(manifest.wiring.in_flight)
        wiring = manifest.wiring
        self._wiring = wiring
        self._names = [spec.name for spec in manifest.computed]
        self._backend = find_backend(manifest.backend)
        self._tasks_of: list[SimpleQueue[_Request | None]] = [SimpleQueue() for _ in wiring.threads]
        self._free = threading.Semaphore(wiring.in_flight)
        self._ports: list[ThreadPort] = []
        self._late: list[_Request] = []
        self._threads: list[threading.Thread] = []
        ready: SimpleQueue[str | None] = SimpleQueue()
        cells = [0] * wiring.workers
        for worker, tasks in enumerate(self._tasks_of):
            place = Place(cells, worker) if may_move(wiring) else None
            arguments = (self._backend, folder, worker, wiring.threads[worker], place, tasks, ready)
            self._threads.append(threading.Thread(target=_work, args=arguments, daemon=True))
            self._threads[-1].start()
        self._finalizer = weakref.finalize(
            self, _stop, self._tasks_of, self._threads, self._backend
        )
        try:
            problems = [ready.get(timeout=start_timeout) for _ in self._tasks_of]
        except Empty:
            problems = ["they took too long"]
        for problem in filter(None, problems):
            self.close()
            raise ArtifactError(f"the workers cannot start: {problem}")

    def _admit(self, inputs: Sequence[Sample], deadline: float | None) -> _Request:
        if not self._free.acquire(timeout=remaining(deadline)):
            raise WorkerTimeout("the deadline passed before the workers were free")
        try:
            self._wait_for_late(deadline)
            port = self._ports.pop() if self._ports else self._new_port()
            convert_one = self._backend.from_numpy
            port.inputs = [
                {name: convert(value, convert_one) for name, value in sample.items()}
                for sample in inputs
            ]
        except BaseException:
            self._free.release()
            raise
        request = _Request(port, self._wiring.workers)
        for tasks in self._tasks_of:
            tasks.put(request)
        return request

    def _new_port(self) -> ThreadPort:
        return ThreadPort(len(self._wiring.messages), self._wiring.samples)

    def _wait_for_late(self, deadline: float | None) -> None:
        """Wait, but not for long, for workers that are still busy with a failed request."""
        left = remaining(deadline)
        end = time.monotonic() + (GRACE if left is None else min(left, GRACE))
        for request in list(self._late):
            try:
                while request.running:
                    request.wait(remaining(end))
            except Empty:
                names = ", ".join(str(worker) for worker in sorted(request.running))
                raise WorkerError(f"worker {names} still runs a request that failed") from None
            self._late.remove(request)

    def _collect(self, request: _Request, deadline: float | None) -> list[dict[str, Any]]:
        try:
            while request.running:
                problem = request.wait(remaining(deadline))
                if problem is not None:
                    raise WorkerError(problem)
        except Empty:
            raise WorkerTimeout("the deadline passed while the workers computed") from None
        return [self._take(outputs) for outputs in request.port.outputs]

    def _abandon(self, request: _Request) -> None:
        request.failed = True
        request.port.abort()

    def _take(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Copies of a sample's outputs, for the caller to keep."""
        for name in self._names:
            if name not in outputs:
                raise WorkerError(f"no worker computed output {name!r}")
        return {name: convert(outputs[name], self._own) for name in self._names}

    def _own(self, value: Any) -> Any:
        return np.array(self._backend.to_numpy(value), order="C", copy=True)

    def _leave(self, request: _Request) -> None:
        if not request.failed:
            request.port.clear()
            self._ports.append(request.port)
        elif request.running:
            self._late.append(request)
        self._free.release()

    def close(self) -> None:
        """Let the threads end; requests in flight are finished first."""
        super().close()
        self._finalizer()


def _work(
    backend: Backend,
    folder: Path,
    worker: int,
    threads: int,
    place: Place | None,
    tasks: SimpleQueue[_Request | None],
    ready: SimpleQueue[str | None],
) -> None:
    """One worker: take requests in order until there is None."""
    try:
        backend.start(threads)
        with backend.guard():
            run = backend.worker(folder, worker)
    except BaseException as error:
        ready.put(f"worker {worker}: {describe(error)}")
        return
    ready.put(None)
    with backend.guard():
        while (request := tasks.get()) is not None:
            problem = None
            try:
                if not request.failed:
                    if place is not None:
                        place.settle()
                    run(request.port)
            except Aborted:
                pass
            except BaseException as error:
                problem = describe(error)
            request.finished.put((worker, problem))
            del request


def _stop(
    tasks_of: list[SimpleQueue[_Request | None]], threads: list[threading.Thread], backend: Backend
) -> None:
    """Let the threads end, and wait for them: one that Python ends in C++ takes the process along.

    A worker that is stuck in a failed request is not waited for longer than the grace period.
    """
    for tasks in tasks_of:
        tasks.put(None)
    end = time.monotonic() + GRACE
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(remaining(end))
    backend.stop()
