"""Artifacts: writing the folder, its manifest, and loading it again. See docs/artifact.md."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, Self

from ramiel_ir._version import VERSION
from ramiel_ir.backend import Backend, Emission, Isolation
from ramiel_ir.errors import ArtifactError, UsageError
from ramiel_ir.files import refuse_unwritable
from ramiel_ir.ir import DType, Type, Value
from ramiel_ir.plan import Plan, Timeline, aliases

FORMAT_VERSION = 1
_MANIFEST = "manifest.json"


class Model(Protocol):
    """A loaded artifact. Close it, or use it as a context manager."""

    def run(self, inputs: Any, timeout: float | None = None) -> Any:
        """The outputs by name, arrays the caller owns; `timeout` in seconds.

        Where the plan has several samples, lists of one dict per sample go in and come out.

        Raises `UsageError`-like errors for wrong inputs, `WorkerError` when a worker raises or
        dies, `WorkerTimeout` after the deadline. The next call runs on healthy workers.
        """

    def submit(self, inputs: Any) -> Future[Any]:
        """The same, without waiting."""

    def close(self) -> None:
        """End the workers."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def write_artifact(
    plan: Plan,
    timeline: Timeline,
    backend: Backend,
    folder: str | os.PathLike[str],
    *,
    force: bool = False,
) -> Path:
    """Emit `plan` into `folder`, all of it or nothing, and return the folder.

    Raises `UsageError` when the folder holds something; with `force` an artifact is replaced.
    Raises `RamielError` where there can be no such folder.
    """
    target = Path(folder)
    refuse_existing(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent.resolve()))
    try:
        emission = backend.emit(plan, timeline, scratch)
        manifest = _manifest(plan, backend, emission, scratch)
        (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        scratch.chmod(0o755)
        old = None
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent.resolve()))
            target.rename(old / "old")
        scratch.rename(target)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def refuse_existing(folder: str | os.PathLike[str], force: bool) -> None:
    """Raise the error of `write_artifact` where it would refuse the folder."""
    target = Path(folder)
    here = Path.cwd()
    if target.resolve() in (here, *here.parents):
        raise UsageError(
            f"{str(target)!r} is the current folder or holds it; an artifact needs its own",
            hint="give the name of a new folder",
        )
    refuse_unwritable(next(parent for parent in target.absolute().parents if parent.exists()))
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{str(target)!r} is not a folder")
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError(f"{str(target)!r} is not empty", hint="--force replaces an artifact")
    if not (target / _MANIFEST).is_file():
        raise UsageError(f"{str(target)!r} holds something that is no artifact; it is left alone")


def _manifest(plan: Plan, backend: Backend, emission: Emission, folder: Path) -> dict[str, Any]:
    graph = plan.graph
    outputs = dict.fromkeys(graph.outputs)
    return {
        "format_version": FORMAT_VERSION,
        "producer": f"ramiel-ir {VERSION}",
        "backend": emission.runtime or backend.name,
        "graph": graph.name,
        "inputs": [_describe(value) for value in graph.inputs],
        "outputs": [_describe(value) for value in outputs],
        "aliases": {
            name: {"input": value.name}
            if value.weight is None
            else {"weight": emission.weight_keys[value]}
            for name, value in aliases(graph).items()
        },
        "wiring": {
            "workers": len(plan.workers) if graph.ops else 0,
            "threads": [plan.threads] * (len(plan.workers) if graph.ops else 0),
            "samples": plan.samples,
            "in_flight": 1,
            "messages": [
                {
                    "source": message.source,
                    "target": message.target,
                    "sample": message.sample,
                    "bytes": _static_bytes(message.value),
                }
                for message in plan.messages
            ],
        },
        "isolation": emission.isolation,
        "files": {name: f"sha256:{_digest(folder / name)}" for name in emission.checked},
    }


def _describe(value: Value) -> dict[str, Any]:
    return {"name": value.name, **_describe_type(value.type)}


def _describe_type(type: Type | None) -> dict[str, Any]:
    if type is None:
        return {"dtype": None, "shape": None}
    if type.kind in ("sequence", "optional"):
        assert not isinstance(type.element, DType)
        return {"kind": type.kind, "element": _describe_type(type.element)}
    dtype = type.element.text if isinstance(type.element, DType) else None
    return {"dtype": dtype, "shape": None if type.shape is None else list(type.shape)}


def _static_bytes(value: Value) -> int | None:
    """Bytes of the value in memory, where types of fewer than 8 bits take a byte per element."""
    type = value.type
    if type is None or not type.is_static or not isinstance(type.element, DType):
        return None
    return None if not type.element.bits else (type.count or 0) * type.element.numpy.itemsize


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_count = itertools.count()


def load(folder: str | os.PathLike[str], *, isolation: Isolation | None = None) -> Model:
    """Start the workers of an artifact, with the runtime that the artifact carries.

    An artifact is code: load only what you made. Raises `ArtifactError` for a folder that is none.
    """
    path = Path(folder).resolve()
    if not (path / _MANIFEST).is_file():
        raise ArtifactError(
            f"{str(folder)!r} is not an artifact: it has no {_MANIFEST}",
            hint="ramiel-ir compile MODEL -o FOLDER makes one",
        )
    runtime = path / "runtime" / "__init__.py"
    name = f"_ramiel_runtime_{next(_count)}"
    spec = importlib.util.spec_from_file_location(
        name, runtime, submodule_search_locations=[str(runtime.parent)]
    )
    if spec is None or spec.loader is None or not runtime.is_file():
        raise ArtifactError(f"{str(folder)!r} lacks its runtime folder")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    model: Model = module.load(path, isolation=isolation)
    return model
