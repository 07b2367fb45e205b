"""`load`, and the `Model` it returns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .backend import convert
from .dtypes import CODES, numpy_dtype
from .engine import Engine
from .errors import ArtifactError, InputError
from .inputs import Inputs, needs_ml_dtypes
from .manifest import Isolation, Manifest
from .source import NAME
from .weights import Weights

START_TIMEOUT = 120.0


def load(
    folder: str | Path,
    isolation: Isolation | None = None,
    *,
    start_timeout: float = START_TIMEOUT,
) -> Model:
    """Start the workers of the artifact in `folder`; close the Model when done with it.

    `isolation` is "process" (workers in supervised child processes) or "thread" (in this process);
    by default what the artifact's manifest says. ArtifactError where the folder is no intact
    artifact or the workers do not start within `start_timeout` seconds.
    """
    return Model(Path(folder), isolation, start_timeout)


class Model:
    """A loaded artifact. May be used from several threads; requests run in the order they come."""

    def __init__(self, folder: Path, isolation: Isolation | None, start_timeout: float) -> None:
        self.folder = folder
        self.manifest = Manifest.load(folder)
        self._weights = self._aliased_weights()
        self._inputs = Inputs(self.manifest.inputs)
        if name := needs_ml_dtypes([*self.manifest.inputs, *self.manifest.outputs]):
            numpy_dtype(CODES[name])
        self._engine = self._start(isolation or self.manifest.isolation, start_timeout)

    def _aliased_weights(self) -> dict[str, Any]:
        """Copies of the weights that are outputs: nothing of the file stays open."""
        keys = [target["weight"] for target in self.manifest.aliases.values() if "weight" in target]
        weights: Mapping[str, Any] = Weights(self.folder) if keys else {}
        for key in keys:
            if key not in weights:
                raise ArtifactError(f"{self.folder}: weight {key!r} is missing")
        return {key: np.array(weights[key]) for key in keys}

    def _start(self, isolation: str, start_timeout: float) -> Engine | None:
        kind: Callable[[Path, Manifest, float], Engine]
        if isolation == "process":
            from .processes import ProcessEngine as kind
        elif isolation == "thread":
            from .threads import ThreadEngine as kind
        else:
            raise ArtifactError(f"unknown isolation {isolation!r}; there are: process, thread")
        if not self.manifest.wiring.workers:
            return None
        if not (self.folder / NAME).is_file():
            raise ArtifactError(f"{self.folder}: there is no {NAME}")
        return kind(self.folder, self.manifest, start_timeout)

    def run(self, inputs: Any, timeout: float | None = None) -> Any:
        """The outputs for these inputs: a dict of numpy arrays by name, which the caller owns.

        Where the artifact was compiled for several samples, `inputs` is a list of that many dicts,
        and so is the result. InputError where the inputs or the timeout do not fit; WorkerTimeout
        where it takes longer than `timeout` seconds; WorkerError where a worker raises or dies.
        """
        seconds = _seconds(timeout)
        samples = self._samples(inputs)
        return self._results(samples, self._computed(samples, seconds))

    def submit(self, inputs: Any) -> Future[Any]:
        """Like `run`, later: requests run in the order they were submitted.

        The arrays must not change before the future is done.
        """
        samples = self._samples(inputs)
        result: Future[Any] = Future()
        if self._engine is None:
            result.set_result(self._results(samples, self._computed(samples, None)))
            return result

        def finish(computed: list[dict[str, Any]]) -> Any:
            return self._results(samples, computed)

        return self._engine.submit(samples, finish)

    def _computed(
        self, samples: Sequence[Mapping[str, Any]], timeout: float | None
    ) -> list[dict[str, Any]]:
        if self._engine is None:
            return [{} for _ in samples]
        return self._engine.run(samples, timeout)

    def _samples(self, inputs: Any) -> list[dict[str, Any]]:
        """The inputs of each sample, checked."""
        count = self.manifest.wiring.samples
        if count == 1:
            inputs = [inputs]
        elif not isinstance(inputs, (list, tuple)) or len(inputs) != count:
            raise InputError(f"this artifact takes a list of {count} dicts, one per sample")
        return [self._inputs.check(sample) for sample in inputs]

    def _results(
        self, samples: Sequence[Mapping[str, Any]], computed: Sequence[Mapping[str, Any]]
    ) -> Any:
        """All outputs in the model's order, those that nobody computes included."""
        results = [
            {
                spec.name: outputs[spec.name]
                if spec.name in outputs
                else convert(self._alias(spec.name, inputs), np.array)
                for spec in self.manifest.outputs
            }
            for inputs, outputs in zip(samples, computed, strict=True)
        ]
        return results[0] if self.manifest.wiring.samples == 1 else results

    def _alias(self, name: str, inputs: Mapping[str, Any]) -> Any:
        target = self.manifest.aliases[name]
        return inputs[target["input"]] if "input" in target else self._weights[target["weight"]]

    def close(self) -> None:
        """Stop the workers. Requests in flight or submitted fail; closing twice is harmless."""
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _seconds(timeout: Any) -> float | None:
    """A timeout as seconds that threads can wait for; InputError where it is none."""
    if timeout is None:
        return None
    if not isinstance(timeout, Real) or not timeout >= 0:  # NaN is not, either
        raise InputError(f"timeout: expected None or seconds, at least 0, got {timeout!r}")
    return float(min(timeout, threading.TIMEOUT_MAX))
