"""A set of child processes with the memory they share, from start to end.

A crew is `starting`, then `ready`. When a request fails (a worker raised, a deadline passed, the
caller gave up) it is `stopping`: the abort flag is set and every semaphore posted, so that each
worker leaves what it does and says so. When all have, the crew is `ready` again. When one does not
within the grace period, or a child ends by itself, all are killed and the crew is `dead`; its owner
starts a new one. One thread, the watcher, reads what the children say.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from .children import Child
from .engine import GRACE, Again
from .errors import ArtifactError, WorkerError, WorkerTimeout
from .manifest import Manifest
from .memory import ABORT
from .places import wake_order
from .shared import Shared
from .turns import remaining

STARTING, READY, STOPPING, DEAD = "starting", "ready", "stopping", "dead"


class Request:
    """A request in a slot; `failure` is set, once, when it cannot succeed any more."""

    __slots__ = ("crew", "failure", "number", "slot")

    def __init__(self, crew: Crew, number: int, slot: int) -> None:
        self.crew, self.number, self.slot = crew, number, slot
        self.failure: BaseException | None = None


class Crew:
    """The children of one artifact. Every attribute that changes does so under `changed`."""

    def __init__(self, folder: Path, manifest: Manifest, start_timeout: float) -> None:
        self._wiring = manifest.wiring
        self.changed = threading.Condition()
        self.state = STARTING
        self.error: BaseException | None = None
        self.busy: dict[int, Request] = {}
        self._next = 0  # the next request's number, here and in the workers; 0 after a stop
        self._waited_for = set(range(self._wiring.workers))
        self._limit = time.monotonic() + start_timeout
        self.children: list[Child] = []
        self._closing = False
        self.shared = Shared(manifest)
        self._board = self.shared.board
        self._wake = os.eventfd(0)
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="ramiel-watcher")
        try:
            self._start_children(folder, manifest)
            _crews.add(self)
            self._watcher.start()
            with self.changed:
                self.changed.wait_for(lambda: self.state in (READY, DEAD))
            if self.error is not None:
                raise self.error
        except BaseException:
            self.close()
            raise

    def _start_children(self, folder: Path, manifest: Manifest) -> None:
        task = self.shared.task(folder, manifest)
        try:
            for worker, threads in enumerate(self._wiring.threads):
                self.children.append(Child(worker, threads, (task, *self.shared.fds)))
        finally:
            os.close(task)

    # What the engine asks for.

    def reserve(self, deadline: float | None) -> Request | None:
        """Wait for the slot of the next request; None when the crew is dead."""
        with self.changed:
            while self.state != DEAD:
                slot = self._next % self._wiring.in_flight
                if self.state == READY and slot not in self.busy:
                    # A failed request may have left tokens; nobody waits now.
                    self._board.done[slot].drain()
                    self._deal(slot)
                    request = self.busy[slot] = Request(self, self._next, slot)
                    return request
                if not self.changed.wait(remaining(deadline)):
                    raise WorkerTimeout("the deadline passed before the workers were free")
            return None

    def _deal(self, slot: int) -> None:
        """A ticket for each worker but one: who finds none when it is done is the last."""
        tickets = self._board.tickets[slot]
        tickets.drain()
        for _ in range(self._wiring.workers - 1):
            tickets.post()

    def launch(self, request: Request) -> bool:
        """Let every worker take the request, whose inputs are written; false if it is lost."""
        with self.changed:
            if request.failure is not None:
                return False
            for worker in wake_order(self._board.places):
                self._board.start[worker].post()
            self._next += 1
            return True

    def leave(self, request: Request) -> None:
        """The request is over; its slot is free."""
        with self.changed:
            del self.busy[request.slot]
            self.changed.notify_all()

    def fail(self, error: BaseException, guilty: Request | None) -> None:
        """Stop all workers. `guilty` fails with `error`; all others in flight have to run again."""
        with self.changed:
            if self.state != READY or (guilty is not None and guilty.failure is not None):
                return
            self.state = STOPPING
            for request in self.busy.values():
                if request.failure is None:
                    request.failure = error if guilty in (None, request) else Again()
            self._waited_for = set(range(self._wiring.workers))
            self._limit = time.monotonic() + GRACE
            self._board.flags[ABORT] = 1
            self._wake_all()
            self._nudge()

    def _wake_all(self) -> None:
        """Wake whoever waits, workers and callers."""
        for group in (self._board.start, self._board.done, *self._board.posted):
            for semaphore in group:
                semaphore.post()

    # The watcher.

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ, None)
            for child in self.children:
                selector.register(child.status, selectors.EVENT_READ, (child, True))
                selector.register(child.printed, selectors.EVENT_READ, (child, False))
            while not self._closing:
                for key, _ in selector.select(self._patience()):
                    if key.data is None:
                        os.eventfd_read(self._wake)
                    elif not self._read(*key.data):
                        selector.unregister(key.fileobj)
                with self.changed:
                    if self._patience() == 0.0:
                        self._give_up()

    def _patience(self) -> float | None:
        if self.state in (READY, DEAD):
            return None
        return max(self._limit - time.monotonic(), 0.0)

    def _read(self, child: Child, is_status: bool) -> bool:
        """Take in what a child says or prints; false when that has ended."""
        if not is_status:
            return child.read_printed()
        for message in child.messages():
            with self.changed:
                if message is None:
                    self._mourn(child)
                    return False
                self._hear(child, message)
        return True

    def _hear(self, child: Child, message: dict[str, Any]) -> None:
        if "unable" in message:
            self.error = ArtifactError(f"the workers cannot start: {message['unable']}")
            self._die(self.error)
        elif "ready" in message:
            self._strike_off(message["ready"])
        elif "stopped" in message:
            self._strike_off(message["stopped"])
        elif "failed" in message:
            worker, number = message["failed"], message["request"]
            error = WorkerError(f"worker {worker} failed: {message['text']}")
            guilty = [request for request in self.busy.values() if request.number == number]
            self.fail(error, guilty[0] if guilty else None)
            self._strike_off(worker)

    def _strike_off(self, worker: int) -> None:
        """This worker has done what all are waited for."""
        self._waited_for.discard(worker)
        if self._waited_for or self.state not in (STARTING, STOPPING):
            return
        if self.state == STOPPING:
            for group in (self._board.start, *self._board.posted):
                for semaphore in group:
                    semaphore.drain()
            self._board.flags[ABORT] = 0
            self._next = 0
            for resume in self._board.resume:
                resume.post()
        if self.state == STARTING:
            for child in self.children:
                child.speak()
        self.state = READY
        self.changed.notify_all()

    def _mourn(self, child: Child) -> None:
        """A child has ended that should not have."""
        if self.state == DEAD:
            return
        text = f"worker {child.worker} (process {child.pid}) {child.ending()}"
        if self.state == STARTING:
            tail = child.tail()
            self.error = ArtifactError(f"{text} while it started" + (f":\n{tail}" if tail else ""))
            self._die(self.error)
        else:
            self._die(WorkerError(text))

    def _give_up(self) -> None:
        """The time is over in which all workers should have started or stopped."""
        names = ", ".join(str(worker) for worker in sorted(self._waited_for))
        text = f"worker {names} did not {'start' if self.state == STARTING else 'stop'} in time"
        if self.state == STARTING:
            late = (child for child in self.children if child.worker in self._waited_for)
            tails = "\n".join(filter(None, (child.tail() for child in late)))
            self.error = ArtifactError(text + (f":\n{tails}" if tails else ""))
        self._die(self.error or WorkerError(text))

    def _die(self, error: BaseException) -> None:
        self.state = DEAD
        for child in self.children:
            child.kill()
        for request in self.busy.values():
            if request.failure is None:
                request.failure = error
        self._wake_all()
        self.changed.notify_all()

    # The end.

    def _nudge(self) -> None:
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Kill the children and give everything back. Requests in flight fail."""
        with self.changed:
            if self._closing:
                return
            self._closing = True
            self._die(WorkerError("the model was closed while the request ran"))
            self._nudge()
        if self._watcher.is_alive() and self._watcher is not threading.current_thread():
            self._watcher.join()
        for child in self.children:
            child.close()
        os.close(self._wake)
        with self.changed:  # callers still look at the memory until they have left
            left = self.changed.wait_for(lambda: not self.busy, timeout=GRACE)
        if left:
            self.shared.close()
        _crews.discard(self)

    def forget(self) -> None:
        """In a forked copy of the parent: let go of the pipes, whose end tells children to go."""
        self.state = DEAD
        self._closing = True
        for child in self.children:
            child.forget()
        os.close(self._wake)


_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _forget_all() -> None:
    for crew in list(_crews):
        crew.forget()


os.register_at_fork(after_in_child=_forget_all)
