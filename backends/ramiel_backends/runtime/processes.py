"""Process isolation: workers in child processes that are supervised, stopped and replaced."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .crew import Crew, Request
from .engine import Engine, Sample
from .errors import ArtifactError, WorkerError, WorkerTimeout
from .manifest import Manifest
from .semaphore import SLICE, Semaphore
from .turns import remaining


class ProcessEngine(Engine):
    """An engine whose workers live in child processes.

    Promises: a worker that raises, and a request that outlasts its deadline, leave the others
    usable; a child that dies is noticed at once and replaced at the next request; after `close`,
    after the death of a worker or of the parent, no process, file descriptor or memory is left.
    """

    def __init__(self, folder: Path, manifest: Manifest, start_timeout: float) -> None:
        if sys.platform != "linux":
            raise ArtifactError('process isolation needs Linux; use isolation="thread"')
        super().__init__(manifest.wiring.in_flight)
        self._folder, self._manifest, self._start_timeout = folder, manifest, start_timeout
        self._crews: list[Crew] = []
        self._finalizer = weakref.finalize(self, _close, self._crews, self._pid)
        self._replace()

    @property
    def pids(self) -> list[int]:
        """The children's process numbers."""
        return [child.pid for crew in self._crews for child in crew.children]

    def _replace(self) -> Crew:
        """Start a new crew in the place of the one there was."""
        while self._crews:
            self._crews.pop().close()
        crew = Crew(self._folder, self._manifest, self._start_timeout)
        self._crews.append(crew)
        if self.closed:  # by another thread, meanwhile
            _close(self._crews, self._pid)
            self._check_open()
        return crew

    def _admit(self, inputs: Sequence[Sample], deadline: float | None) -> Request:
        while True:
            self._check_open()
            crew = self._crews[0] if self._crews else self._replace()
            request = crew.reserve(deadline)
            if request is None:
                self._replace()
                continue
            try:
                crew.shared.write(request.slot, inputs)
                if crew.launch(request):
                    return request
            except BaseException:
                crew.leave(request)
                raise
            crew.leave(request)

    def _collect(self, request: Request, deadline: float | None) -> list[dict[str, Any]]:
        _wait(request.crew.shared.board.done[request.slot], request, deadline)
        return request.crew.shared.read(request.slot, request.number)

    def _abandon(self, request: Request) -> None:
        request.crew.fail(WorkerError("the request was given up"), request)

    def _leave(self, request: Request) -> None:
        request.crew.leave(request)

    def close(self) -> None:
        """Stop the children; requests in flight fail."""
        super().close()
        self._finalizer()


def _wait(done: Semaphore, request: Request, deadline: float | None) -> None:
    """Wait until the last worker has finished the request; a failure posts the semaphore too.

    The caller is not woken before: it would take a core from those that still compute.
    """
    finished = False
    while not finished:
        left = remaining(deadline)
        if left is None:
            done.wait()  # without a timer, see Waiter
            finished = True
        else:
            finished = done.acquire(min(left, SLICE))
        if request.failure is not None:
            failure = request.failure
            # Several callers may fail for one reason: each gets an error of its own.
            raise type(failure)(*failure.args) if isinstance(failure, WorkerError) else failure
        if not finished and left == 0:
            raise WorkerTimeout("the deadline passed while the workers computed")


def _close(crews: list[Crew], pid: int) -> None:
    """Close what is left, unless this process is a fork of the one that it belongs to."""
    if os.getpid() == pid:
        while crews:
            crews.pop().close()
