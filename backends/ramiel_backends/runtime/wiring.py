"""How many workers there are, and which message goes from whom to whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Message:
    """One value that worker `source` sends to worker `target`, once per request.

    `bytes` is its size where that never changes, None where it may; `sample` is for people.
    """

    source: int
    target: int
    bytes: int | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Wiring:
    """The workers of an artifact and the messages between them; message n is `messages[n]`.

    `threads` has one entry per worker. A request has `samples` independent samples. `in_flight` is
    K, the requests that may be in flight; each message owns K slots.
    """

    threads: tuple[int, ...]
    messages: tuple[Message, ...] = ()
    samples: int = 1
    in_flight: int = 1

    def __post_init__(self) -> None:
        if any(threads < 1 for threads in self.threads):
            raise ArtifactError("a worker needs at least one thread")
        if self.samples < 1 or self.in_flight < 1:
            raise ArtifactError("samples and in_flight must be at least 1")
        for number, message in enumerate(self.messages):
            if not (0 <= message.source < self.workers and 0 <= message.target < self.workers):
                raise ArtifactError(f"message {number} names a worker that does not exist")

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self.threads)

    @property
    def fits(self) -> bool:
        """Whether all workers can run at the same time on the cores this process may use."""
        return sum(self.threads) <= cores()

    def to_json(self) -> dict[str, Any]:
        """The `wiring` field of manifest.json."""
        messages = []
        for message in self.messages:
            entry: dict[str, Any] = {"source": message.source, "target": message.target}
            if message.sample:
                entry["sample"] = message.sample
            messages.append({**entry, "bytes": message.bytes})
        return {
            "workers": self.workers,
            "threads": list(self.threads),
            "samples": self.samples,
            "in_flight": self.in_flight,
            "messages": messages,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wiring:
        """Read what `to_json` wrote; ArtifactError where it does not fit together."""
        try:
            messages = tuple(Message(**entry) for entry in data["messages"])
            threads = tuple(data["threads"])
            workers = data["workers"]
            wiring = cls(threads, messages, data.get("samples", 1), data.get("in_flight", 1))
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"manifest.json: the wiring is damaged: {error}") from error
        if workers != wiring.workers:
            raise ArtifactError(f"manifest.json: {workers} workers, but {wiring.workers} threads")
        return wiring


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
