"""Runs tasks in a few long-lived processes, and survives the death or hanging of any of them.

The processes are forks of this one, so that they share the cases, which take a while to make. Fork
before this process has imported torch or onnxruntime: their threads would not survive it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_FORK = multiprocessing.get_context("fork")


class _Shard(Generic[Task, Result]):
    """One process; `task` is the index of what it works on."""

    def __init__(self, start: Callable[[], Callable[[Task], Result]]) -> None:
        self.connection, theirs = _FORK.Pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        self.process = _FORK.Process(target=_serve, args=(start, theirs, self.log.fileno()))
        self.process.start()
        theirs.close()
        self.task = -1
        self.deadline = 0.0

    def give(self, index: int, task: Task, seconds: float) -> None:
        self.task, self.deadline = index, time.monotonic() + seconds
        self.connection.send(task)

    def end(self) -> str:
        """End the process; how it ended and the last that it printed."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 2000))
        text = self.log.read().decode(errors="replace")
        self.log.close()
        return f"exit code {self.process.exitcode}; {' '.join(text.split())[-400:]}"


def run(
    tasks: Sequence[Task],
    start: Callable[[], Callable[[Task], Result]],
    lost: Callable[[Task, str], Result],
    *,
    processes: int,
    seconds: float,
) -> Iterator[tuple[Task, Result]]:
    """The result of every task, in the order they are ready.

    `start` is called once in each process and returns what runs a task there. A task that takes
    longer than `seconds`, or ends its process, gets the result `lost` makes of the reason.
    """
    gc.freeze()  # what there is now need not be looked at again, nor copied, by every fork
    queue = iter(enumerate(tasks))
    shards: dict[Connection, _Shard[Task, Result]] = {}

    def employ(shard: _Shard[Task, Result]) -> None:
        index, task = next(queue, (-1, None))
        if task is None:
            shard.end()
            shards.pop(shard.connection, None)
            return
        shards[shard.connection] = shard
        shard.give(index, task, seconds)

    for _ in range(min(processes, len(tasks))):
        employ(_Shard(start))
    while shards:
        first = min(shard.deadline for shard in shards.values())
        ready: list[Any] = wait(list(shards), max(0.0, first - time.monotonic()))
        for connection in ready:
            shard = shards[connection]
            task = tasks[shard.task]
            try:
                yield task, connection.recv()
            except (EOFError, OSError):
                del shards[connection]
                yield task, lost(task, f"the process died: {shard.end()}")
                shard = _Shard(start)
            employ(shard)
        now = time.monotonic()
        for connection, shard in list(shards.items()):
            if shard.deadline < now and not connection.poll():
                del shards[connection]
                shard.end()
                yield tasks[shard.task], lost(tasks[shard.task], f"no end after {seconds:.0f} s")
                employ(_Shard(start))


def _serve(start: Callable[[], Callable[[Task], Result]], connection: Connection, log: int) -> None:
    """A shard's life: whatever libraries print goes to the log."""
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    work = start()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(work(task))
