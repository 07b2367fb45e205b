"""What can go wrong with an artifact, as one line for a person.

Inside ramiel-ir the same errors derive from those of `ramiel_ir.errors`, so that one `except`
serves; an artifact on its own must not need ramiel-ir, so there they derive from `Exception`. Which
of the two holds is settled once, by whether ramiel-ir was already imported when this file is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any


def _base(name: str) -> Any:
    return getattr(sys.modules.get("ramiel_ir.errors"), name, Exception)


if TYPE_CHECKING:

    class ArtifactError(Exception):
        """An artifact folder is missing, damaged, or does not fit this machine."""

    class WorkerError(Exception):
        """A worker raised or died while it computed; the next request starts on healthy workers."""

    class InputError(Exception):
        """The caller's inputs do not fit the model."""

else:

    class ArtifactError(_base("ArtifactError")):
        """An artifact folder is missing, damaged, or does not fit this machine."""

    class WorkerError(_base("WorkerError")):
        """A worker raised or died while it computed; the next request starts on healthy workers."""

    class InputError(_base("UsageError")):
        """The caller's inputs do not fit the model."""


if TYPE_CHECKING or _base("WorkerTimeout") is Exception:

    class WorkerTimeout(WorkerError):
        """A request did not finish before its deadline."""

else:

    class WorkerTimeout(WorkerError, _base("WorkerTimeout")):
        """A request did not finish before its deadline."""


class Aborted(BaseException):
    """Unwinds a worker whose request is over; never leaves the runtime."""
