"""Runs an artifact: a folder that holds manifest.json, model.py, weights and this package.

import runtime

with runtime.load("out/") as model:
    outputs = model.run({"x": array}, timeout=5.0)

session                          what callers see
engine: processes, threads       the two ways to run workers
crew, children, shared           the parent's side of process isolation
child, serving                   the child's side
ports                            what a worker sees
places                           which core a worker runs on
channel, layout, memory, semaphore   how values travel between processes
backend: backend_*               the values and workers of one library each
manifest, wiring, weights, source    what lies in the folder
inputs, command                  checks of what comes in; the command line
"""

from __future__ import annotations

from .command import main
from .errors import ArtifactError, InputError, WorkerError, WorkerTimeout
from .manifest import Manifest, Spec
from .session import Model, load
from .wiring import Message, Wiring

__all__ = [
    "ArtifactError",
    "InputError",
    "Manifest",
    "Message",
    "Model",
    "Spec",
    "Wiring",
    "WorkerError",
    "WorkerTimeout",
    "load",
    "main",
]
