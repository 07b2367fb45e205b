"""One child process, as its parent holds it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import ArtifactError

PROGRAM = Path(__file__).with_name("child.py")
_TAIL = 4000
_KEEP_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30))
"""For glibc: memory of tensors that are freed stays with the process. The next inference needs it
again, and getting it from the system anew, page by page, took 5 % of NASNet-A mobile's time."""


class Child:
    """A child process, the pipe that ends when we do, and the two that say what it does.

    It is started as a program of its own and not through `multiprocessing`, whose spawn imports the
    parent's `__main__` again: a script without a main guard would start itself, and a notebook or
    `python -` has no `__main__` to import. `subprocess` closes everything but what it is told to
    pass on, and a fork of a process with torch's threads in it is never made to run Python.
    """

    def __init__(self, worker: int, threads: int, fds: Sequence[int]) -> None:
        if not sys.executable:
            raise ArtifactError('no Python to start workers with; use isolation="thread"')
        self.worker = worker
        self._tail = b""
        self._received = b""
        self._quiet = True
        environment = {
            **_KEEP_MEMORY,
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        control, self._control = os.pipe()
        self.status, status = os.pipe()
        os.set_blocking(self.status, False)
        numbers = [str(number) for number in (control, status, fds[0], worker)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *numbers],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(control, status, *fds),
                env=environment,
            )
        except BaseException:
            os.close(self._control)
            os.close(self.status)
            raise
        finally:
            os.close(control)
            os.close(status)
        assert self._process.stdout is not None
        self.printed = self._process.stdout.fileno()
        os.set_blocking(self.printed, False)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def messages(self) -> Iterator[dict[str, Any] | None]:
        """The messages that have arrived; None when the child is gone."""
        data = _read(self.status)
        self._received += data or b""
        while len(self._received) >= 4:
            (size,) = struct.unpack_from("<I", self._received)
            if len(self._received) < 4 + size:
                break
            message = json.loads(self._received[4 : 4 + size])
            self._received = self._received[4 + size :]
            yield message
        if data == b"":
            yield None

    def read_printed(self) -> bool:
        """Take in what it printed; false when there will be no more."""
        data = _read(self.printed)
        self._tail = (self._tail + (data or b""))[-_TAIL:]
        if not self._quiet:
            _pass_on(data or b"")
        return data != b""

    def speak(self) -> None:
        """Pass on what it prints, and what it has printed: it is ready, no error will show that."""
        self._quiet = False
        _pass_on(self._tail)

    def tail(self) -> str:
        """The end of what it printed."""
        while select.select([self.printed], [], [], 0)[0] and self.read_printed():
            pass
        return self._tail.decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """End the process now. It holds nothing that would have to be put in order."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def ending(self) -> str:
        """How it ended, in words; call only once it has."""
        self.kill()  # its pipe has ended, so this changes nothing unless it closed that itself
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
            return f"was ended by signal {-code}"
        return f"exited with code {code}"

    def close(self) -> None:
        """End the process, wait for it, and close the pipes."""
        self.kill()
        self._process.wait()
        self._close_pipes()

    def forget(self) -> None:
        """In a forked copy of the parent: the process is not ours, only close the pipes."""
        self._process.returncode = 0
        self._close_pipes()

    def _close_pipes(self) -> None:
        os.close(self._control)
        os.close(self.status)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _pass_on(printed: bytes) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(printed.decode("utf-8", "replace"))


def _read(fd: int) -> bytes | None:
    """What can be read now: None for nothing yet, empty for the end."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None
