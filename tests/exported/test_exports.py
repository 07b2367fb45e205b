"""The exports are what they claim to be, before anything is compiled from them.

test_compiled.py compiles them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort

from tests.exported.cases import CASES, DYNAMO, OPSETS, PAIRS, SCRIPT, expected

RTOL, ATOL = 1e-3, 1e-5

CONTAINS = {
    ("unet", DYNAMO): {"Resize": 2, "ConvTranspose": 1},
    ("unet", SCRIPT): {"Resize": 2, "ConvTranspose": 1},
    ("lstm", DYNAMO): {"LSTM": 2},
    ("lstm", SCRIPT): {"LSTM": 2},
    ("gru", DYNAMO): {"GRU": 2},
    ("gru", SCRIPT): {"GRU": 2},
    ("detector", DYNAMO): {"TopK": 1, "GatherElements": 2},
    ("detector", SCRIPT): {"TopK": 1, "GatherElements": 2},
    ("conditional", DYNAMO): {"If": 1},
    ("scripted", SCRIPT): {"Loop": 1, "If": 1},
    ("quantized", DYNAMO): {"QuantizeLinear": 5, "DequantizeLinear": 5},
    ("quantized", SCRIPT): {"QuantizeLinear": 5, "DequantizeLinear": 5},
    ("ranker", DYNAMO): {"Loop": 3},
    ("ranker", SCRIPT): {"Loop": 3},
}
"""What a case is there for: if an exporter writes it another way, the case has lost its point."""


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph and of the graphs inside of it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


def test_model_is_valid_and_declares_its_interface(exported):
    onnx.checker.check_model(exported.model, full_check=True)
    opsets = {entry.domain: entry.version for entry in exported.model.opset_import}
    assert opsets[""] == OPSETS[exported.exporter]
    inputs, outputs = exported.model.graph.input, exported.model.graph.output
    assert tuple(value.name for value in inputs) == exported.case.input_names
    assert tuple(value.name for value in outputs) == exported.case.output_names
    axes = exported.case.axes(exported.exporter)
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        dynamic = {axis for axis, dim in enumerate(dims) if not dim.HasField("dim_value")}
        assert dynamic == axes.get(value.name, {}).keys()


def test_onnx_runtime_reproduces_the_module(exported):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        exported.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for inputs, reference in exported.samples:
        results = session.run(list(reference), inputs)
        for name, result in zip(reference, results, strict=True):
            wanted = reference[name]
            assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype), name
            if wanted.dtype == np.float32:
                error = np.abs(result - wanted).max()
                assert error <= RTOL * np.abs(wanted).max() + ATOL, name
            else:
                assert np.array_equal(result, wanted), name


def test_case_contains_what_it_is_there_for(exported):
    counts = Counter(node.op_type for node in nodes(exported.model.graph))
    wanted = CONTAINS.get((exported.case.name, exported.exporter), {})
    assert {kind: counts[kind] for kind in wanted} == wanted


def test_what_cases_contain_is_known_of_cases_that_exist():
    assert CONTAINS.keys() <= {(case.name, exporter) for case, exporter in PAIRS}


def test_detector_keeps_some_boxes_and_suppresses_others():
    (case,) = (case for case in CASES if case.name == "detector")
    for size in case.sizes(DYNAMO):
        labels = expected(case, **size)["labels"]
        assert 0 < (labels < 0).sum() < labels.size / 2
