"""A child's side of process isolation: its worker, and what it does for each request."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .backend import Run, find_backend
from .channel import Reader, Writer
from .errors import Aborted
from .manifest import Manifest
from .memory import ABORT, Arena, Board, Channels
from .places import Place, may_move
from .ports import Receiver, Sender, SharedPort
from .semaphore import spins_for
from .source import describe
from .waiting import SPIN_SECONDS, Idle, Waiter

Report = Callable[[Mapping[str, Any]], None]


def reporter(status: int) -> Report:
    """A function that sends the parent one message: its length in 4 bytes, then JSON."""
    lock = threading.Lock()

    def report(message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode()
        data = struct.pack("<I", len(data)) + data
        with lock:
            while data:
                data = data[os.write(status, data) :]

    return report


def serve(task: Mapping[str, Any], worker: int, status: int) -> None:
    """Run a worker until the process ends."""
    report = reporter(status)
    try:
        child = Child(task, worker, report)
    except BaseException as error:
        report({"unable": f"worker {worker}: {describe(error)}"})
        os._exit(1)
    report({"ready": worker})
    child.work()


class Child:
    """The worker of one child process, and the memory it shares with all others."""

    def __init__(self, task: Mapping[str, Any], worker: int, report: Report) -> None:
        manifest = Manifest.from_json(task["manifest"])
        wiring = self._wiring = manifest.wiring
        self._worker, self._report = worker, report
        backend = self._backend = find_backend(manifest.backend)
        self._channels = Channels.of(manifest)
        self._board = Board(task["board"], wiring, self._channels.per_slot, create=False)
        self._arenas = [Arena(fd) for fd in task["arenas"]]
        self._own = 1 + worker
        self._resident = backend.share(self._arenas[self._own])
        # Nobody posts this semaphore before a first request failed, so measuring on it is safe.
        unused = self._board.resume[worker]
        waiter = Waiter(spins_for(SPIN_SECONDS, unused) if wiring.fits else 0)
        backend.start(wiring.threads[worker])
        with backend.guard():
            self._run = backend.worker(Path(task["folder"]), worker)
        self._ports = [self._port(slot, waiter) for slot in range(wiring.in_flight)]

    def work(self) -> None:
        """Take requests in order, forever."""
        with self._backend.guard():
            self._take_requests(self._run, self._ports)

    def _take_requests(self, run: Run, ports: list[SharedPort]) -> None:
        board, worker = self._board, self._worker
        start, resume, slots = board.start[worker], board.resume[worker], len(ports)
        place = Place(board.places, worker) if may_move(self._wiring) else None
        idle, request = Idle(self._wiring.fits), 0
        while True:
            idle.wait(start)
            slot = request % slots
            port = ports[slot]
            port.request = request
            try:
                if board.flags[ABORT]:
                    raise Aborted
                if place is not None:
                    place.settle()
                run(port)
            except Aborted:
                self._report({"stopped": worker})
                resume.wait()
                request = 0
            except BaseException as error:
                self._report({"failed": worker, "request": request, "text": describe(error)})
                del error  # and the values its traceback holds
                resume.wait()
                request = 0
            else:
                if board.tickets[slot].try_acquire():  # all others have taken theirs
                    board.done[slot].post()
                request += 1

    def _port(self, slot: int, waiter: Waiter) -> SharedPort:
        """What the worker sees of one slot."""
        board, channels = self._board, self._channels
        worker, samples = self._worker, range(self._wiring.samples)
        senders: dict[int, Any] = {}
        receivers: dict[int, Any] = {}
        for number, message in enumerate(self._wiring.messages):
            posted, index = board.posted[slot][number], channels.message(slot, number)
            if message.source == worker:
                room = 0 if self._resident else message.bytes or 0
                senders[number] = Sender(self._writer(index, room), posted)
            if message.target == worker:
                reader = self._reader(index)
                receivers[number] = Receiver(reader, posted, board.flags, waiter)
        inputs = [
            {name: self._reader(i) for name, i in channels.input_numbers(slot, sample).items()}
            for sample in samples
        ]
        outputs = [
            {name: self._writer(i) for name, i in channels.output_numbers(slot, sample).items()}
            for sample in samples
        ]
        return SharedPort(senders, receivers, inputs, outputs)

    def _reader(self, index: int) -> Reader:
        return Reader(self._board.header(index), self._arenas, self._backend)

    def _writer(self, index: int, nbytes: int = 0) -> Writer:
        header, arena = self._board.header(index), self._arenas[self._own]
        return Writer(header, arena, self._own, self._backend, nbytes)
