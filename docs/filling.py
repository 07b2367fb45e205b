"""What the scripts that write documents share: templates, tables, and what the machine is."""

from __future__ import annotations

import datetime
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ramiel_ir.machine import describe_machine

_VERSIONS = ("ramiel-ir", "torch", "onnxruntime", "openvino", "onnx", "numpy")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def environment() -> str:
    """The machine, the versions of what was measured, and the day."""
    found = []
    for name in _VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{describe_machine()}; {', '.join(found)}; {datetime.date.today().isoformat()}"


def fill(script: str, parts: Mapping[str, str]) -> None:
    """Write X.md from the template X.md.in beside `script`; every `{{name}}` must be given."""
    template = Path(script).with_suffix(".md.in")
    text = template.read_text()
    for name, part in {"environment": environment(), **parts}.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    if "{{" in text:
        sys.exit(f"{template.name} asks for something that was not given")
    template.with_suffix("").write_text(text)
