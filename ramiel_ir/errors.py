"""Every error a caller can meet. Subclasses exist where a caller would act differently."""

from __future__ import annotations


class RamielError(Exception):
    """The base of every error of ours: one line for a person, and a hint where one helps."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ModelError(RamielError):
    """The model itself is broken, incomplete, or not a model."""


class UnsupportedOpError(RamielError):
    """The model is fine, but holds an op or a type that the chosen way cannot carry."""

    exit_code = 3


class PipelineError(RamielError):
    """A pipeline string is misspelt."""

    exit_code = 2


class PassError(PipelineError):
    """A pass failed, or left a graph that does not verify; names pass and op."""

    exit_code = 1


class UsageError(RamielError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class PlanError(RamielError):
    """A plan breaks one of its laws; the message names the step."""


class ArtifactError(RamielError):
    """An artifact folder is missing, damaged, or does not fit this machine."""


class WorkerError(RamielError):
    """A worker raised or died while it computed; the next request starts on healthy workers."""


class WorkerTimeout(WorkerError):
    """A request did not finish before its deadline."""
