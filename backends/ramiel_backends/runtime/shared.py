"""The shared memory of one artifact's children, as the parent holds it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .backend import convert
from .backend_numpy import NumpyBackend
from .channel import STAMP, Reader, Writer
from .errors import WorkerError
from .manifest import Manifest
from .memory import Arena, Board, Channels, create


class Shared:
    """The board, the arenas, and the parent's ends of the channels of every slot.

    Arena 0 is the parent's, arena 1 + w that of worker w. `fds` are what children inherit.
    """

    def __init__(self, manifest: Manifest) -> None:
        wiring, channels = manifest.wiring, Channels.of(manifest)
        self.fds: list[int] = []
        try:
            self.fds.append(create("ramiel-board", Board.size(wiring, channels.per_slot)))
            for _ in range(1 + wiring.workers):
                self.fds.append(create("ramiel-arena", 0))
        except OSError as error:
            self._close_fds()
            raise WorkerError(f"no shared memory: {error.strerror}") from error
        self.board = Board(self.fds[0], wiring, channels.per_slot, create=True)
        self._arenas = [Arena(fd) for fd in self.fds[1:]]
        backend, board = NumpyBackend(), self.board
        own, samples = self._arenas[0], range(wiring.samples)
        slots = range(wiring.in_flight)
        self._inputs = [
            {
                name: Writer(board.header(index), own, 0, backend)
                for name, index in channels.input_numbers(slot, sample).items()
            }
            for slot in slots
            for sample in samples
        ]
        self._outputs = [
            {
                name: Reader(board.header(index), self._arenas, backend)
                for name, index in channels.output_numbers(slot, sample).items()
            }
            for slot in slots
            for sample in samples
        ]
        self._samples = wiring.samples

    def task(self, folder: Path, manifest: Manifest) -> int:
        """A file descriptor of what the children have to know."""
        board, *arenas = self.fds
        data = json.dumps(
            {
                "folder": str(folder.resolve()),
                "manifest": manifest.to_json(),
                "board": board,
                "arenas": arenas,
                "sys_path": sys.path,
            }
        ).encode()
        fd = create("ramiel-task", len(data))
        os.pwrite(fd, data, 0)
        return fd

    def write(self, slot: int, inputs: Sequence[Any]) -> None:
        """Put the inputs of a request into its slot, and mark its outputs as missing."""
        first = slot * self._samples
        try:
            for sample, values in enumerate(inputs):
                for name, writer in self._inputs[first + sample].items():
                    writer.write(values[name])
        except OSError as error:
            raise WorkerError(f"no shared memory for the inputs: {error.strerror}") from error
        for readers in self._outputs[first : first + self._samples]:
            for reader in readers.values():
                reader.header[STAMP] = 0

    def read(self, slot: int, number: int) -> list[dict[str, Any]]:
        """Copies of the outputs of request `number`, by sample."""
        first = slot * self._samples
        outputs: list[dict[str, Any]] = []
        for readers in self._outputs[first : first + self._samples]:
            outputs.append({})
            for name, reader in readers.items():
                if reader.header[STAMP] != number + 1:
                    raise WorkerError(f"no worker computed output {name!r}")
                outputs[-1][name] = convert(reader.read(), _own)
        return outputs

    def close(self) -> None:
        """Unmap and close everything. Nobody may use it any more."""
        for writers in self._inputs:
            for writer in writers.values():
                writer.close()
        for readers in self._outputs:
            for reader in readers.values():
                reader.close()
        self.board.close()
        for arena in self._arenas:
            arena.close()
        self._close_fds()

    def _close_fds(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def _own(array: Any) -> Any:
    return np.array(array, order="C", copy=True)
