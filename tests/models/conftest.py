"""Zoo models, each built once per test session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx
import pytest

import ramiel_models


@cache
def build(name: str) -> onnx.ModelProto:
    return ramiel_models.build(name)


@pytest.fixture
def default_model() -> Callable[[str], onnx.ModelProto]:
    """Look up the model of a name as built without options."""
    return build
