"""What ONNX Runtime makes of a case when it is used directly, with every optimisation off."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from ramiel_backends.runtime.backend import convert
from ramiel_backends.runtime.backend_ort import OrtBackend
from tests.conformance.cases import Case
from tests.conformance.engines import Mismatch, compare, describe

NOT_LOADED = "does not load it"


def complaint(case: Case) -> str:
    """Why ONNX Runtime itself fails the case, nothing where it passes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        model = case.model.SerializeToString() if case.path is None else str(case.path)
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"{NOT_LOADED}: {describe(error)}"
    names = [value.name for value in session.get_outputs()]
    try:
        for data in case.data:
            given = dict(zip(case.input_names, data.inputs, strict=True))
            compare(data, names, dict(zip(names, _run(session, given), strict=True)))
    except Mismatch as error:
        return f"computes something else: {error}"
    except Exception as error:
        return f"does not run it: {describe(error)}"
    return ""


def _run(session: Any, given: dict[str, Any]) -> list[Any]:
    values = [*session.get_inputs(), *session.get_outputs()]
    if not all(value.type.startswith("tensor(") and "string" not in value.type for value in values):
        return list(session.run(None, given))
    backend = OrtBackend()  # for the types that numpy lacks
    feeds = {name: convert(value, backend.from_numpy) for name, value in given.items()}
    names = [value.name for value in session.get_outputs()]
    found = session.run_with_ort_values(names, feeds)
    return [backend.to_numpy(value) for value in found]
