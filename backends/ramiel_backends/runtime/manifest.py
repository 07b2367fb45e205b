"""manifest.json: what an artifact takes, gives and holds. Written by ramiel-ir, read here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .dtypes import CODES, STRING
from .errors import ArtifactError
from .wiring import Wiring

FORMAT_VERSION = 1
NAME = "manifest.json"

Isolation = Literal["process", "thread"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of one model input or output.

    A tensor has `dtype` (a name of dtypes.TABLE, "str", or None) and `shape` (numbers, symbols and
    None; itself None for unknown rank). A sequence or optional has an `element` instead.
    """

    name: str
    dtype: str | None = None
    shape: tuple[int | str | None, ...] | None = None
    kind: Literal["tensor", "sequence", "optional"] = "tensor"
    element: Spec | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of `inputs` or `outputs`."""
        entry: dict[str, Any] = {"name": self.name} if self.name else {}
        if self.kind == "tensor":
            shape = None if self.shape is None else list(self.shape)
            return {**entry, "dtype": self.dtype, "shape": shape}
        return {**entry, "kind": self.kind, "element": self.element and self.element.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """Read what `to_json` wrote."""
        element, shape = data.get("element"), data.get("shape")
        spec = cls(
            name=data.get("name", ""),
            dtype=data.get("dtype"),
            shape=None if shape is None else tuple(shape),
            kind=data.get("kind", "tensor"),
            element=None if element is None else cls.from_json(element),
        )
        if spec.dtype is not None and spec.dtype != STRING and spec.dtype not in CODES:
            raise ArtifactError(f"manifest.json: {spec.name!r} has unknown type {spec.dtype!r}")
        return spec


@dataclass(frozen=True, slots=True)
class Manifest:
    """An artifact's description; the fields are those of manifest.json, see docs/artifact.md."""

    backend: str
    graph: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    wiring: Wiring
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Outputs that are an input (`{"input": name}`) or a weight (`{"weight": key}`)."""
    isolation: Isolation = "process"
    files: Mapping[str, str] = field(default_factory=dict)
    """`sha256:` digests by path inside the folder."""
    producer: str = ""

    def __post_init__(self) -> None:
        inputs = {spec.name for spec in self.inputs}
        outputs = {spec.name for spec in self.outputs}
        for name, target in self.aliases.items():
            if name not in outputs or len(target) != 1 or not {*target} <= {"input", "weight"}:
                raise ArtifactError(f"manifest.json: alias {name!r} is damaged")
            if target.get("input", None) not in {None, *inputs}:
                raise ArtifactError(f"manifest.json: alias {name!r} names an unknown input")
        if self.isolation not in ("process", "thread"):
            raise ArtifactError(f"manifest.json: unknown isolation {self.isolation!r}")
        if self.wiring.workers == 0 and len(self.aliases) < len(self.outputs):
            raise ArtifactError("manifest.json: no worker computes the outputs")

    @property
    def computed(self) -> tuple[Spec, ...]:
        """The outputs that workers compute."""
        return tuple(spec for spec in self.outputs if spec.name not in self.aliases)

    def to_json(self) -> dict[str, Any]:
        """The whole of manifest.json, in the order people read it."""
        return {
            "format_version": FORMAT_VERSION,
            "producer": self.producer,
            "backend": self.backend,
            "graph": self.graph,
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "aliases": {name: dict(target) for name, target in self.aliases.items()},
            "wiring": self.wiring.to_json(),
            "isolation": self.isolation,
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, data: Any) -> Manifest:
        """Read what `to_json` wrote; ArtifactError where it is damaged or of another version."""
        if not isinstance(data, dict) or "format_version" not in data:
            raise ArtifactError("manifest.json: not a manifest")
        if data["format_version"] != FORMAT_VERSION:
            raise ArtifactError(
                f"manifest.json: format version {data['format_version']!r}, but this runtime reads "
                f"{FORMAT_VERSION}: compile the model again"
            )
        try:
            return cls(
                backend=data["backend"],
                graph=data.get("graph", ""),
                inputs=tuple(Spec.from_json(entry) for entry in data["inputs"]),
                outputs=tuple(Spec.from_json(entry) for entry in data["outputs"]),
                wiring=Wiring.from_json(data["wiring"]),
                aliases=data.get("aliases", {}),
                isolation=data.get("isolation", "process"),
                files=data.get("files", {}),
                producer=data.get("producer", ""),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"manifest.json is damaged: {error!r}") from error

    def save(self, folder: Path) -> None:
        """Write manifest.json into `folder`."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=True)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, verify: bool = True) -> Manifest:
        """Read manifest.json from `folder`, and verify the digests of the files it lists."""
        try:
            data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except OSError as error:
            raise ArtifactError(f"{folder} is not an artifact: {error.strerror}: {NAME}") from error
        except ValueError as error:
            raise ArtifactError(f"{folder / NAME} is damaged: {error}") from error
        manifest = cls.from_json(data)
        if verify:
            manifest.verify_files(folder)
        return manifest

    def verify_files(self, folder: Path) -> None:
        """Raise ArtifactError unless every listed file is there and has its digest."""
        for name, expected in self.files.items():
            path = inside(folder, name)
            try:
                actual = digest(path)
            except OSError as error:
                raise ArtifactError(f"{folder}: cannot read {name}: {error.strerror}") from error
            if actual != expected:
                raise ArtifactError(f"{folder}: {name} was changed or damaged: compile again")


def inside(folder: Path, name: str) -> Path:
    """The path of file `name` of the artifact; ArtifactError if it would lie outside of it."""
    parts = PurePosixPath(name)
    path = folder / parts
    if parts.is_absolute() or ".." in parts.parts:
        raise ArtifactError(f"{folder}: {name!r} lies outside the artifact")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ArtifactError(f"{folder}: {name!r} leads outside the artifact")
    return path


def digest(path: Path) -> str:
    """The digest of a file as the manifest spells it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
