"""Entry points: ours and anybody's come through the same door."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from ramiel_ir import registry
from ramiel_ir.errors import UsageError
from ramiel_ir.registry import Registry

FIRST = {"one": int, "two": "fractions:Fraction"}
SECOND = {"two": str}


class Plugin(EntryPoint):
    """An entry point that loads a mapping of this file."""

    def load(self) -> Mapping[str, Any]:
        return {"first": FIRST, "second": SECOND}[self.name]


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> Registry:
    points = EntryPoints(Plugin(name, f"plugin_{name}:X", "test.group") for name in names)
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    return Registry("test.group")


def test_things_are_found_and_imported_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from fractions import Fraction

    found = install(monkeypatch, "first")
    assert found.names() == ["one", "two"]
    assert found.get("one", "thing") is int
    assert found.find("two") is Fraction
    assert found.provider("two") == "plugin_first:X"


def test_an_unknown_name_is_answered_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    found = install(monkeypatch, "first")
    with pytest.raises(UsageError, match="unknown thing 'three'; there are: one, two"):
        found.get("three", "thing")
    with pytest.raises(KeyError):
        found.find("three")


def test_an_empty_group_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown thing 'x'; there are: none"):
        install(monkeypatch).get("x", "thing")


def test_one_name_has_one_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    found = install(monkeypatch, "first", "second")
    with pytest.raises(UsageError, match="plugin_first:X and plugin_second:X both provide 'two'"):
        found.names()


def test_a_plugin_that_raises_key_error_is_not_taken_for_an_unknown_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FIRST, "bad", "os:no_such_thing")
    with pytest.raises(AttributeError, match="no_such_thing"):
        install(monkeypatch, "first").get("bad", "thing")


@pytest.mark.parametrize("name", ["cluster", "merge", "clone", "fold", "dce", "gate", "sequential"])
def test_our_passes_come_through_the_door(name: str) -> None:
    assert name in registry.PASSES.names()
    assert registry.PASSES.provider(name) == "ramiel-ir"


def test_our_backends_and_models_come_through_the_door() -> None:
    assert {"torch", "ort"} <= set(registry.BACKENDS.names())
    assert "squeezenet" in registry.MODELS.names()
