"""Thread isolation: workers are threads of the caller's process, and share its fate.

Start-up takes no time and a message is the object itself. A thread cannot be ended from outside:
after a timeout the engine takes no request until the worker that is late has returned.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from .backend import Backend, Run, convert, find_backend
from .engine import GRACE, Engine, Sample
from .errors import Aborted, ArtifactError, WorkerError, WorkerTimeout
from .manifest import Manifest
from .places import Place, may_move
from .source import describe
from .turns import remaining

ABORTED: Any = object()
"""Sent in place of a message to whoever waits for one that will not come."""


class _Inbox:
    """Turns a caller's arrays into the backend's values.

    Small ones are copied to where they were in the last request: that takes less time than another
    value and binding it.
    """

    SMALL = 1 << 14
    """Bytes; copying more than that takes longer."""

    def __init__(self, backend: Backend) -> None:
        self._from_numpy = backend.from_numpy
        self._kept: dict[str, tuple[Any, ...]] = {}

    def take(self, sample: Sample) -> dict[str, Any]:
        """The values of one sample's inputs."""
        taken, kept = {}, self._kept
        for name, given in sample.items():
            array, dtype, shape, value = kept.get(name, _NOTHING)
            if type(given) is np.ndarray and given.shape == shape and given.dtype == dtype:
                array[...] = given
                taken[name] = value
            else:
                taken[name] = self._take_anew(name, given)
        return taken

    def _take_anew(self, name: str, given: Any) -> Any:
        if not isinstance(given, np.ndarray) or given.dtype.hasobject or given.nbytes > self.SMALL:
            return convert(given, self._from_numpy)
        array = np.array(given, order="C")
        value = self._from_numpy(array)
        self._kept[name] = array, array.dtype, array.shape, value
        return value


_NOTHING: tuple[Any, ...] = (None, None, None, None)


class ThreadPort:
    """One request of a set of threads; a message is the object itself.

    All workers share it. `abort` may be called at any time and by anybody: every `receive` that
    still waits, and every later one, unwinds its worker.
    """

    def __init__(self, messages: int, samples: int, backend: Backend) -> None:
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(messages)]
        self.inboxes = [_Inbox(backend) for _ in range(samples)]
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
        self.guest: _Worker | None = None
        """The worker that computes on the caller's own thread."""

    def wait(self, seconds: float | None) -> str | None:
        """Wait for one more worker; says what went wrong in it. `Empty` if none came."""
        worker, problem = self.finished.get(timeout=seconds)
        self.running.discard(worker)
        return None if problem is None else f"worker {worker} failed: {problem}"


@dataclass(frozen=True, slots=True)
class _Worker:
    """One worker, on whichever thread."""

    run: Run
    place: Place | None

    def serve(self, request: _Request) -> str | None:
        """Do this worker's part of a request; says what went wrong in it."""
        try:
            if not request.failed:
                if self.place is not None:
                    self.place.settle()
                self.run(request.port)
        except Aborted:
            pass
        except (Exception, SystemExit) as error:
            return describe(error)
        return None


class ThreadEngine(Engine):
    """An engine whose workers are daemon threads.

    Where nobody has to watch a deadline the caller does worker 0's part itself: that saves waking
    two threads, which for a small model is a good part of its latency.
    """

    def __init__(self, folder: Path, manifest: Manifest, start_timeout: float) -> None:
        super().__init__(manifest.wiring.in_flight)
        wiring = manifest.wiring
        self._wiring = wiring
        self._names = [spec.name for spec in manifest.computed]
        self._backend = find_backend(manifest.backend)
        self._tasks_of: list[SimpleQueue[_Request | None]] = [SimpleQueue() for _ in wiring.threads]
        self._free: SimpleQueue[ThreadPort] = SimpleQueue()
        for _ in range(wiring.in_flight):
            self._free.put(self._new_port())
        self._late: list[_Request] = []
        self._threads: list[threading.Thread] = []
        self._guest: _Worker | None = None
        ready: SimpleQueue[tuple[int, _Worker | str]] = SimpleQueue()
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
            started = dict(ready.get(timeout=start_timeout) for _ in self._tasks_of)
        except Empty:
            started = {0: "they took too long"}
        for problem in started.values():
            if isinstance(problem, str):
                self.close()
                raise ArtifactError(f"the workers cannot start: {problem}")
        if self._backend.leaves_no_trace and wiring.in_flight == 1:
            self._guest = started[0]

    def _admit(self, inputs: Sequence[Sample], deadline: float | None) -> _Request:
        try:
            port = self._free.get(timeout=remaining(deadline))
        except Empty:
            text = "the deadline passed before the workers were free"
            raise WorkerTimeout(text) from None
        try:
            if self._late:
                self._wait_for_late(deadline)
            port.inputs = [
                inbox.take(sample) for inbox, sample in zip(port.inboxes, inputs, strict=True)
            ]
            request = _Request(port, self._wiring.workers)
            request.guest = self._guest if deadline is None else None
            with self._door:
                self._check_open()  # it may have closed while this request waited for the port
                for tasks in self._tasks_of[request.guest is not None :]:
                    tasks.put(request)
        except BaseException:
            self._free.put(port)
            raise
        return request

    def _new_port(self) -> ThreadPort:
        return ThreadPort(len(self._wiring.messages), self._wiring.samples, self._backend)

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
        if request.guest is not None:
            problem: str | None = "it was interrupted"
            try:
                problem = request.guest.serve(request)
            finally:
                request.finished.put((0, problem))
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
        port = request.port
        if request.failed:
            port = self._new_port()  # the old one is aborted for good
            if request.running:
                self._late.append(request)
        port.clear()
        self._free.put(port)

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
    ready: SimpleQueue[tuple[int, Run | str]],
) -> None:
    """One worker: take requests in order until there is None."""
    try:
        backend.start(threads)
        with backend.guard():
            made = _Worker(backend.worker(folder, worker), place)
    except BaseException as error:
        ready.put((worker, f"worker {worker}: {describe(error)}"))
        return
    ready.put((worker, made))
    with backend.guard():
        while (request := tasks.get()) is not None:
            try:
                problem = made.serve(request)
            except BaseException as error:  # whatever it is, somebody waits to hear of it
                problem = describe(error)
            request.finished.put((worker, problem))
            if problem is not None:
                request.port.abort()  # worker 0 may wait for it on the caller's thread
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
