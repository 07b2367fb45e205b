"""numpy values: what callers hand in and get back, and the base of the other backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .backend import Memory, Run
from .dtypes import SIZES, code_of, numpy_dtype
from .layout import Layout, contiguous_strides, dense_layout
from .memory import Arena
from .source import load_model
from .weights import Weights


class NumpyBackend:
    """Values are numpy arrays; workers are the makers in model.py."""

    leaves_no_trace = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: ModuleType | None = None
        self._weights: Weights | None = None

    def key(self, value: Any) -> Hashable | None:
        """Type, dimensions and strides of a tensor; None for strings and what is no array."""
        if isinstance(value, np.ndarray) and value.dtype.kind not in "OUST":
            return (value.dtype, value.shape, value.strides)
        return None

    def layout(self, value: Any) -> Layout:
        """The layout of a copy of this array."""
        code = code_of(value.dtype) if isinstance(value, (np.ndarray, np.generic)) else None
        if code is None:
            kind = getattr(value, "dtype", type(value).__name__)
            raise TypeError(f"a value of type {kind} cannot be sent")
        size = SIZES[code]
        if any(stride % size or stride < 0 for stride in value.strides):
            return Layout(code, value.shape, contiguous_strides(value.shape))
        return dense_layout(code, value.shape, [stride // size for stride in value.strides])

    def view(self, memory: Memory, offset: int, layout: Layout) -> Any:
        """An array that lies in `memory`."""
        size = SIZES[layout.dtype]
        strides = tuple(stride * size for stride in layout.strides)
        dtype = numpy_dtype(layout.dtype)
        return np.ndarray(layout.shape, dtype, memory, offset, strides)

    def copier(self, view: Any) -> Callable[[Any], Any]:
        """A function that copies an array into `view`."""
        # np.copyto does the same for equal types and dimensions, and takes twice as long.
        return partial(view.__setitem__, ...)

    def from_numpy(self, array: Any) -> Any:
        """The array itself."""
        return array

    def to_numpy(self, value: Any) -> Any:
        """The array itself."""
        return np.asarray(value)

    def start(self, threads: int) -> None:
        """Numpy has no threads of its own to set."""

    def stop(self) -> None:
        """There is nothing to undo."""

    def guard(self) -> AbstractContextManager[Any]:
        """Numpy needs no context."""
        return nullcontext()

    def share(self, arena: Arena) -> bool:
        """Arrays are made wherever numpy makes them."""
        return False

    def place(self, value: Any) -> int | None:
        """Nowhere: every array is copied."""
        return None

    def worker(self, folder: Path, number: int) -> Run:
        """What maker `number` of model.py makes of the weights; model.py is loaded once."""
        with self._lock:
            if self._model is None or self._weights is None:
                self._model, self._weights = load_model(folder), Weights(folder, self.weight)
        run: Run = self._model.WORKERS[number](self._weights)
        return run

    def weight(self, array: Any) -> Any:
        """The backend's value for a mapped weight."""
        return array


def make() -> NumpyBackend:
    """A backend for artifacts whose values are numpy arrays."""
    return NumpyBackend()
