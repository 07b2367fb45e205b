"""The rows of the ai.onnx.ml domain against ONNX Runtime, on random models and operands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from ramiel_ir.onnx_reader import read_onnx
from tests.conformance.evaluate import Evaluator, to_numpy, to_torch

Array = np.ndarray[Any, Any]


class Example(NamedTuple):
    """One op: its operands in order, attributes, results, version of the op set."""

    name: str
    kind: str
    operands: dict[str, Array]
    attributes: dict[str, Any]
    results: int = 1
    version: int = 3


def _x(rows: int = 6, columns: int = 3) -> Array:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def _forest(
    leaf: str, classes: int, positive: bool = False, only: int | None = None
) -> dict[str, Any]:
    """Three trees of seven nodes each with random splits and a few weights per leaf."""
    numbers = np.random.default_rng(classes)
    found: dict[str, list[Any]] = {}

    def add(**fields: Any) -> None:
        for name, value in fields.items():
            found.setdefault(name, []).append(value)

    modes = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_NEQ"]
    for tree in range(3):
        for node in range(7):
            inner = node < 3
            add(
                nodes_treeids=tree,
                nodes_nodeids=node,
                nodes_featureids=int(numbers.integers(3)) if inner else 0,
                nodes_modes=modes[int(numbers.integers(5))] if inner else "LEAF",
                nodes_values=float(numbers.normal()) if inner else 0.0,
                nodes_truenodeids=2 * node + 1 if inner else 0,
                nodes_falsenodeids=2 * node + 2 if inner else 0,
                nodes_missing_value_tracks_true=int(numbers.integers(2)),
            )
            for target in range(classes) if not inner else ():
                if only is not None and target != only:
                    continue
                weight = float(numbers.uniform(0, 0.3) if positive else numbers.normal())
                add(
                    **{f"{leaf}_treeids": tree, f"{leaf}_nodeids": node, f"{leaf}_ids": target},
                    **{f"{leaf}_weights": weight},
                )
    return found


def _trees() -> list[Example]:
    x = _x()
    x[1, 2] = np.nan
    given = {"x": x}
    examples = [
        Example(
            f"regressor_{aggregate.lower()}",
            "TreeEnsembleRegressor",
            given,
            _forest("target", 2)
            | {"n_targets": 2, "aggregate_function": aggregate, "base_values": [0.5, -1.0]},
        )
        for aggregate in ("SUM", "AVERAGE", "MIN", "MAX")
    ]
    for post in ("NONE", "SOFTMAX", "LOGISTIC"):
        for classes, only in ((3, None), (2, 0), (2, 1)):
            for positive in (False, True):
                attributes = _forest("class", classes, positive, only)
                first = (
                    5 if only is None else 0
                )  # ONNX Runtime gives 0 and 1 where one class has weights
                attributes |= {"classlabels_int64s": list(range(first, first + classes))}
                name = f"classifier_{post.lower()}_{classes}_{only}_{positive}"
                attributes["post_transform"] = post
                examples.append(Example(name, "TreeEnsembleClassifier", given, attributes, 2))
    named = _forest("class", 3) | {"classlabels_strings": ["a", "b", "c"]}
    return [*examples, Example("classifier_text", "TreeEnsembleClassifier", given, named, 2)]


def _linear() -> list[Example]:
    numbers, given = np.random.default_rng(1).normal(size=9).tolist(), {"x": _x()}
    three = {"coefficients": numbers, "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [3, 4, 5]}
    one = {"coefficients": numbers[:3], "intercepts": [0.1], "classlabels_ints": [3, 4]}
    text = {
        "coefficients": numbers[:6],
        "intercepts": [0.1, 0.3],
        "classlabels_strings": ["a", "b"],
    }
    regressor = {"coefficients": numbers[:6], "intercepts": [0.1, 0.2], "targets": 2}
    return [
        Example("linear", "LinearRegressor", given, regressor),
        Example("linear_plain", "LinearRegressor", given, {"coefficients": numbers[:3]}),
        Example("linear_three", "LinearClassifier", given, three, 2),
        Example("linear_softmax", "LinearClassifier", given, three | _SOFTMAX, 2),
        Example("linear_one", "LinearClassifier", given, one | {"post_transform": "LOGISTIC"}, 2),
        Example("linear_text", "LinearClassifier", given, text | _SOFTMAX, 2),
    ]


_SOFTMAX = {"post_transform": "SOFTMAX"}


def _features() -> list[Example]:
    x = _x()
    holes = x.copy()
    holes[2, 1] = holes[0, 0] = np.nan
    whole = np.array([[1, 2], [3, 7]], np.int64)
    text = np.array([["a", "b"], ["c", "d"]], dtype=object)
    floats = np.array([0.1, np.nan, 2.5, 7.0], np.float32)
    nan = float("nan")
    names = {"keys_int64s": [1, 3], "values_strings": ["one", "three"], "default_string": "?"}
    return [
        Example(
            "scaler", "Scaler", {"x": x}, {"offset": [1.0, 2.0, 3.0], "scale": [0.5, 2.0, 1.0]}
        ),
        Example("scaler_one", "Scaler", {"x": x}, {"offset": [1.0], "scale": [0.5]}),
        *(
            Example(f"norm_{n}", "Normalizer", {"x": np.abs(x)}, {"norm": n})
            for n in ("MAX", "L1", "L2")
        ),
        Example("norm_signed", "Normalizer", {"x": x}, {"norm": "MAX"}),
        Example(
            "imputer",
            "Imputer",
            {"x": holes},
            {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": nan},
        ),
        Example(
            "imputer_whole",
            "Imputer",
            {"x": whole},
            {"imputed_value_int64s": [9], "replaced_value_int64": 3},
        ),
        Example("one_hot", "OneHotEncoder", {"x": whole}, {"cats_int64s": [1, 7, 3]}),
        Example("one_hot_text", "OneHotEncoder", {"x": text}, {"cats_strings": ["a", "d"]}),
        Example(
            "vectorizer", "FeatureVectorizer", {"a": x, "b": x[:, :2]}, {"inputdimensions": [3, 2]}
        ),
        *(
            Example(
                f"label_nan_{version}",
                "LabelEncoder",
                {"x": floats},
                {"keys_floats": [0.1, nan, nan], "values_strings": ["a", "b", "c"]},
                version=version,
            )
            for version in (2, 4)
        ),
        Example("label_text", "LabelEncoder", {"x": whole}, names),
        Example(
            "label_float",
            "LabelEncoder",
            {"x": floats},
            {
                "keys_floats": [nan, 0.1, 2.5],
                "values_floats": [1.5, 2.5, 0.1],
                "default_float": 9.0,
            },
        ),
        Example(
            "label_old", "LabelEncoder", {"x": text}, {"classes_strings": ["b", "a"]}, version=1
        ),
        Example("binarizer", "Binarizer", {"x": x}, {"threshold": 0.25}),
    ]


def _model(example: Example) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in example.operands.items()
    ]
    results = [f"result_{index}" for index in range(example.results)]
    node = helper.make_node(
        example.kind, list(example.operands), results, domain="ai.onnx.ml", **example.attributes
    )
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in results]
    graph = helper.make_graph([node], "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", example.version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize(
    "example", [*_trees(), *_linear(), *_features()], ids=lambda example: example.name
)
def test_row_agrees_with_onnxruntime(example: Example) -> None:
    model = _model(example)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    wanted = session.run(None, example.operands)
    for output, value in zip(model.graph.output, wanted, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, value.shape))
    graph = read_onnx(model)
    known = {value: to_torch(example.operands[value.name]) for value in graph.inputs}
    found = [to_numpy(value) for value in Evaluator().graph(graph, known)]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
        else:
            assert mine.tolist() == theirs.tolist()
