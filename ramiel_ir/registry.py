"""Finds passes, backends, models and peers through entry points; ours come through the same door.

An entry point of group `ramiel_ir.passes` (or `.backends`, `.models`, `.peers`) loads a mapping
from names to objects, or to `"module:object"` strings that are imported when first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from ramiel_ir.errors import UsageError


@dataclass
class Registry:
    """The named things of one entry-point group."""

    group: str
    _entries: dict[str, tuple[Any, str]] | None = field(default=None, init=False, repr=False)

    def _load(self) -> dict[str, tuple[Any, str]]:
        if self._entries is None:
            found: dict[str, tuple[Any, str]] = {}
            for entry_point in entry_points(group=self.group):
                provider = entry_point.dist.name if entry_point.dist else entry_point.value
                mapping: Mapping[str, Any] = entry_point.load()
                for name, item in mapping.items():
                    if name in found:
                        raise UsageError(
                            f"{found[name][1]} and {provider} both provide {name!r} ({self.group})",
                            hint="uninstall one of the two",
                        )
                    found[name] = (item, provider)
            self._entries = found
        return self._entries

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._load())

    def provider(self, name: str) -> str:
        """The distribution that provides `name`."""
        return self._load()[name][1]

    def find(self, name: str) -> Any:
        """The thing called `name`; KeyError when there is none."""
        item, _ = self._load()[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            return getattr(importlib.import_module(module), attribute)
        return item

    def check(self, name: str, what: str) -> None:
        """Raise `UsageError` with the known names when nothing is called `name`."""
        if name not in self._load():
            known = ", ".join(self.names()) or "none"
            raise UsageError(f"unknown {what} {name!r}; there are: {known}")

    def get(self, name: str, what: str) -> Any:
        """The thing called `name`; `UsageError` with the known names when there is none."""
        self.check(name, what)
        return self.find(name)


PASSES = Registry("ramiel_ir.passes")
BACKENDS = Registry("ramiel_ir.backends")
MODELS = Registry("ramiel_ir.models")
PEERS = Registry("ramiel_ir.peers")
