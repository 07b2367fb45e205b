"""What both kinds of engine share: order, deadlines, and requests that nobody waits for."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from .errors import ArtifactError, WorkerError
from .turns import Turns

Sample = Mapping[str, Any]
Outputs = list[dict[str, Any]]
GRACE = 1.0
"""Seconds that workers have to stop after a request was aborted."""


class Again(Exception):
    """A request has to run again: another one, in flight at the same time, failed."""


class Engine(ABC):
    """Runs requests, at most K at a time, in the order in which they were made."""

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight
        self._pid = os.getpid()
        self._turns = Turns()
        self._tasks: SimpleQueue[Callable[[], None] | None] | None = None
        self._door = threading.RLock()
        """Held while a request enters and while the engine closes: none enters after that."""
        self.closed = False

    @abstractmethod
    def _admit(self, inputs: Sequence[Sample], deadline: float | None) -> Any:
        """Start a request as soon as fewer than K are in flight; called in order, one at a time."""

    @abstractmethod
    def _collect(self, request: Any, deadline: float | None) -> Outputs:
        """Wait for a request and return copies of its outputs; called once per request."""

    @abstractmethod
    def _abandon(self, request: Any) -> None:
        """Nobody wants the request any more: its workers shall stop."""

    @abstractmethod
    def _leave(self, request: Any) -> None:
        """The request is over, however it went."""

    def run(self, inputs: Sequence[Sample], timeout: float | None) -> Outputs:
        """The outputs of each sample. On an idle engine no other thread of ours takes part."""
        self._check_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._run(self._turns.draw(), inputs, deadline)

    def _run(self, ticket: int, inputs: Sequence[Sample], deadline: float | None) -> Outputs:
        while True:
            request = None
            try:
                self._turns.take(ticket, deadline)
                try:
                    self._check_open()
                    request = self._admit(inputs, deadline)
                finally:
                    self._turns.give()
                return self._collect(request, deadline)
            except Again:
                pass
            except BaseException:  # a deadline, a failure, Ctrl-C
                self._turns.drop(ticket)
                if request is not None:
                    self._abandon(request)
                raise
            finally:
                if request is not None:
                    self._leave(request)

    def submit(self, inputs: Sequence[Sample], finish: Callable[[Outputs], Any]) -> Future[Any]:
        """Run later, in order, and resolve to `finish(outputs)`."""
        future: Future[Any] = Future()
        with self._door:
            self._check_open()
            if self._tasks is None:
                tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
                for _ in range(self._in_flight):
                    threading.Thread(target=_pump, args=(tasks,), daemon=True).start()
                self._tasks = tasks
            ticket = self._turns.draw()
            self._turns.line_up(ticket)  # now that nothing can fail: others wait for it
            self._tasks.put(lambda: self._fulfil(future, ticket, inputs, finish))
        return future

    def _fulfil(
        self,
        future: Future[Any],
        ticket: int,
        inputs: Sequence[Sample],
        finish: Callable[[Outputs], Any],
    ) -> None:
        if not future.set_running_or_notify_cancel():
            self._turns.drop(ticket)
            return
        try:
            result = finish(self._run(ticket, inputs, None))
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise ArtifactError("the model was loaded before a fork: load it again in this process")
        if self.closed:
            raise WorkerError("the model is closed")

    def close(self) -> None:
        """Stop; submitted requests fail. Closing twice is harmless.

        Processes are ended, so that requests in flight fail too; threads finish theirs.
        """
        with self._door:
            self.closed = True
            if self._tasks is not None:
                for _ in range(self._in_flight):
                    self._tasks.put(None)


def _pump(tasks: SimpleQueue[Callable[[], None] | None]) -> None:
    """Run tasks; holds on to no engine while it waits, so that a forgotten one can go."""
    while (task := tasks.get()) is not None:
        task()
        del task
