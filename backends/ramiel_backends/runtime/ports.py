"""How a worker in a child process meets the rest of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .channel import STAMP, Reader, Writer
from .errors import Aborted
from .memory import ABORT
from .semaphore import Semaphore
from .waiting import Waiter


class Sender:
    """The sending end of a message to another process."""

    __slots__ = ("_post", "_write")

    def __init__(self, writer: Writer, posted: Semaphore) -> None:
        self._write, self._post = writer.write, posted.post

    def send(self, value: Any) -> None:
        """Copy `value` into the message's slot, then say so."""
        self._write(value)
        self._post()


class Receiver:
    """The receiving end of a message from another process."""

    __slots__ = ("_flags", "_posted", "_read", "_try", "_wait")

    def __init__(
        self, reader: Reader, posted: Semaphore, flags: memoryview, waiter: Waiter
    ) -> None:
        self._read, self._try = reader.read, posted.try_acquire
        self._posted, self._flags, self._wait = posted, flags, waiter.wait

    def receive(self) -> Any:
        """Wait for the message; its value lies in the slot until the request is finished."""
        if self._try():
            self._wait(self._posted)
        if self._flags[ABORT]:
            raise Aborted
        return self._read()


class SharedPort:
    """One slot of a worker in a child process. Methods are looked up once, when it is built."""

    def __init__(
        self,
        senders: Mapping[int, Any],
        receivers: Mapping[int, Any],
        inputs: Sequence[Mapping[str, Reader]],
        outputs: Sequence[Mapping[str, Writer]],
    ) -> None:
        self._send = {number: sender.send for number, sender in senders.items()}
        self._receive = {number: receiver.receive for number, receiver in receivers.items()}
        self._inputs = inputs
        self._outputs = outputs
        self.request = 0

    def input(self, name: str, sample: int = 0) -> Any:
        """A model input."""
        return self._inputs[sample][name].read()

    def send(self, number: int, value: Any) -> None:
        """Send message `number`."""
        self._send[number](value)

    def receive(self, number: int) -> Any:
        """Wait for message `number`."""
        return self._receive[number]()

    def output(self, name: str, value: Any, sample: int = 0) -> None:
        """Hand over a model output, stamped with the request it belongs to."""
        writer = self._outputs[sample][name]
        writer.write(value)
        writer.header[STAMP] = self.request + 1
