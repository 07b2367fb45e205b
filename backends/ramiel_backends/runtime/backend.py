"""What the runtime needs to know of a backend: its values, its threads, its workers.

Each backend is one file, `backend_NAME.py`, which alone imports that backend's library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from mmap import mmap
from pathlib import Path
from typing import Any, Protocol

from .errors import ArtifactError
from .layout import Layout
from .memory import Arena

Memory = mmap
Run = Callable[["Port"], None]
"""One worker: called once per request, in submission order, never twice at the same time."""

# A closed table: a manifest can choose a backend, never name a module.
_BACKENDS = {"torch": "backend_torch", "ort": "backend_ort", "numpy": "backend_numpy"}


class Port(Protocol):
    """How a worker meets the rest of the world. What it returns is read-only while `run` runs."""

    def input(self, name: str, sample: int = 0) -> Any:
        """A model input."""

    def send(self, number: int, value: Any) -> None:
        """Send message `number`: once per request, by its source."""

    def receive(self, number: int) -> Any:
        """Wait for message `number`: once per request, by its target."""

    def output(self, name: str, value: Any, sample: int = 0) -> None:
        """Hand over a model output: once per request."""


class Backend(Protocol):
    """The values and workers of one backend."""

    leaves_no_trace: bool
    """Whether a worker may run on a caller's thread: `start` and `guard` change nothing there."""

    def key(self, value: Any) -> Hashable | None:
        """Type, dimensions and strides of a tensor in one cheap comparable; None for no tensor."""

    def layout(self, value: Any) -> Layout:
        """The layout that a copy of this tensor shall have; TypeError for what is no tensor."""

    def view(self, memory: Memory, offset: int, layout: Layout) -> Any:
        """A tensor that lies in `memory`, without a copy."""

    def copier(self, view: Any) -> Callable[[Any], Any]:
        """A function that copies a tensor of the same type and dimensions into `view`."""

    def from_numpy(self, array: Any) -> Any:
        """A value of the backend for a caller's array; it may share the array's memory."""

    def to_numpy(self, value: Any) -> Any:
        """A numpy array of a tensor; it may share the tensor's memory."""

    def start(self, threads: int) -> None:
        """Prepare the calling thread to be a worker with so many intra-op threads."""

    def stop(self) -> None:
        """Undo what `start` did to the process."""

    def guard(self) -> AbstractContextManager[Any]:
        """The context in which workers are made and run."""

    def share(self, arena: Arena) -> bool:
        """Called in a child, before `worker`: whether results will be made in this arena."""

    def place(self, value: Any) -> int | None:
        """Where in that arena the value lies; None for one that has to be copied into it."""

    def worker(self, folder: Path, number: int) -> Run:
        """Make worker `number` of the artifact; called on the thread that will run it."""


def find_backend(name: str) -> Backend:
    """A fresh backend of this name; importing its library may take seconds."""
    if name not in _BACKENDS:
        known = ", ".join(_BACKENDS)
        raise ArtifactError(f"unknown backend {name!r}; there are: {known}")
    try:
        module = importlib.import_module(f".{_BACKENDS[name]}", __package__)
    except ImportError as error:
        raise ArtifactError(f"backend {name!r} cannot be loaded: {error}") from error
    backend: Backend = module.make()
    return backend


def convert(value: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of every tensor in a value: sequences are lists, an empty optional is None."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return [convert(item, function) for item in value]
    return function(value)
