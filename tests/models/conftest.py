"""Zoo models, each built once per test session."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import onnx
import pytest

import ramiel_models


@cache
def build(name: str) -> tuple[onnx.ModelProto, float]:
    start = time.process_time()
    return ramiel_models.build(name), time.process_time() - start


@pytest.fixture
def default_model() -> Callable[[str], onnx.ModelProto]:
    """Look up the model of a name as built without options."""
    return lambda name: build(name)[0]


@pytest.fixture
def build_seconds() -> Callable[[str], float]:
    """Look up the processor time that building the model of a name took."""
    return lambda name: build(name)[1]
