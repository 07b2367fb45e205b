"""A child's side of process isolation: its workers, and what they do for each request."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .backend import Backend, Run, find_backend
from .channel import Reader, Writer
from .errors import Aborted
from .manifest import Manifest
from .memory import ABORT, Arena, Board, Channels
from .places import Place, may_move
from .ports import LocalQueue, Receiver, Sender, SharedPort, Waiter
from .semaphore import spins_for
from .source import describe

SPIN_SECONDS = 75e-6
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


def serve(task: Mapping[str, Any], host: int, status: int) -> None:
    """Run the workers of this host until the process ends."""
    report = reporter(status)
    try:
        child = Child(task, host, report)
    except BaseException as error:
        report({"unable": describe(error)})
        os._exit(1)
    first, *others = child.workers
    for worker in others:
        threading.Thread(target=child.work, args=(worker,), daemon=True).start()
    child.work(first)


class Child:
    """The workers of one child process, and the memory they share with all others."""

    def __init__(self, task: Mapping[str, Any], host: int, report: Report) -> None:
        manifest = Manifest.from_json(task["manifest"])
        self._wiring = manifest.wiring
        self._groups = manifest.groups
        self.workers = self._groups[host]
        self._folder = Path(task["folder"])
        self._backend: Backend = find_backend(manifest.backend)
        self._channels = Channels.of(manifest)
        self._board = Board(task["board"], self._wiring, self._channels.per_slot, create=False)
        self._arenas = [Arena(fd) for fd in task["arenas"]]
        self._own = 1 + host
        self._report = report
        self._local = self._local_queues()
        # Nobody posts this semaphore before a first request failed, so measuring on it is safe.
        idle = self._board.resume[self.workers[0]]
        self._spins = spins_for(SPIN_SECONDS, idle) if self._wiring.fits else 0

    def _local_queues(self) -> list[dict[int, LocalQueue]]:
        """Per slot, the messages between workers of this child."""
        here = set(self.workers)
        numbers = [
            number
            for number, message in enumerate(self._wiring.messages)
            if message.source in here and message.target in here
        ]
        flags = self._board.flags
        slots = range(self._wiring.in_flight)
        return [{number: LocalQueue(flags) for number in numbers} for _ in slots]

    def work(self, worker: int) -> None:
        """Make one worker on this thread, then let it take requests in order, forever."""
        backend = self._backend
        try:
            backend.start(self._wiring.threads[worker])
            with backend.guard():
                run = backend.worker(self._folder, worker)
                waiter = Waiter(self._spins)
                slots = range(self._wiring.in_flight)
                ports = [self._port(worker, slot, waiter) for slot in slots]
        except BaseException as error:
            self._report({"unable": f"worker {worker}: {describe(error)}"})
            os._exit(1)
        self._report({"ready": worker})
        with backend.guard():
            self._take_requests(worker, run, ports)

    def _take_requests(self, worker: int, run: Run, ports: list[SharedPort]) -> None:
        board = self._board
        start, resume, slots = board.start[worker], board.resume[worker], len(ports)
        place = Place(board.places, worker) if may_move(self._wiring) else None
        request = 0
        while True:
            start.wait()
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
                board.done[slot][worker].post()
                request += 1

    def _port(self, worker: int, slot: int, waiter: Waiter) -> SharedPort:
        """What a worker sees of one slot."""
        board, channels, samples = self._board, self._channels, range(self._wiring.samples)
        senders: dict[int, Any] = {}
        receivers: dict[int, Any] = {}
        for number, message in enumerate(self._wiring.messages):
            posted, index = board.posted[slot][number], channels.message(slot, number)
            if number in self._local[slot]:
                senders[number] = receivers[number] = self._local[slot][number]
            elif message.source == worker:
                senders[number] = Sender(self._writer(index, message.bytes or 0), posted)
            elif message.target == worker:
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
