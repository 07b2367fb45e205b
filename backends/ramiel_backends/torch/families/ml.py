"""Classical machine learning: encoders, linear models and ensembles of trees (ai.onnx.ml)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ramiel_backends.torch.families._calls import call, every, results
from ramiel_backends.torch.families._types import FLOATS, torch_type
from ramiel_backends.torch.table import Site, emits, literal, row
from ramiel_ir.ir import DType, Tensor
from ramiel_ir.pipeline import No

ML = "ai.onnx.ml"

row("ArrayFeatureExtractor", "ml.array_feature_extractor({0}, {1})", domain=ML)
row("Binarizer", "({0} > {threshold}).to({0}.dtype)", domain=ML, threshold=0.0)
row("Normalizer", "ml.normalize({0}, {norm})", domain=ML, norm="MAX")
row("Scaler", "ml.scale({0}, {offset}, {scale})", domain=ML, offset=(), scale=())

_MODES = (
    *("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"),
    *("BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"),
)
_POST = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def _doubles(values: Iterable[float]) -> str:
    """Numbers to their last bit."""
    texts = [repr(value) if math.isfinite(value) else literal(value) for value in values]
    return f"({', '.join(texts)},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _written(site: Site, values: list[float]) -> str:
    """Numbers that are compared or added in the type of the operand."""
    return literal(tuple(values)) if site.dtype(0) is DType.F32 else _doubles(values)


@emits("LabelEncoder", domain=ML)
def label_encoder_1(site: Site) -> str:
    classes = site.attribute("classes_strings", ())
    numbers = tuple(range(len(classes)))
    if site.dtype(0) is DType.STRING:
        default = site.attribute("default_int64", -1)
        return _encoded(site, literal(classes), literal(numbers), literal(default), "torch.int64")
    default = site.attribute("default_string", "_Unused")
    return _encoded(site, literal(numbers), literal(classes), literal(default), "None")


@emits("LabelEncoder", since=2, domain=ML)
def label_encoder(site: Site) -> str:
    keys, _ = _listed(site, "keys")
    values, dtype = _listed(site, "values")
    default: Any = site.attribute("default_tensor")
    if isinstance(default, Tensor):
        item = default.array.reshape(-1)[0]
        default = item if dtype == "None" else item.item()
        text = literal(str(default)) if dtype == "None" else _exact(default)
    elif dtype == "None":
        text = literal(site.attribute("default_string", "_Unused"))
    elif "float" in dtype:
        text = literal(site.attribute("default_float", -0.0))
    else:
        text = literal(site.attribute("default_int64", -1))
    return _encoded(site, keys, values, text, dtype)


def _exact(value: Any) -> str:
    return repr(value) if isinstance(value, float) and math.isfinite(value) else literal(value)


def _encoded(site: Site, keys: str, values: str, default: str, dtype: str) -> str:
    # from version 4 on the key NaN is found
    nan = (site.version >= 4 and site.dtype(0) in FLOATS, False)
    return call("ml.label_encoder", site[0], keys, values, default, dtype, finds_nan=nan)


def _listed(site: Site, name: str) -> tuple[str, str]:
    """The items of the attribute that is given, and the element type they have."""
    tensor = site.attribute(f"{name}_tensor")
    if isinstance(tensor, Tensor):
        if tensor.dtype is DType.STRING:
            items = tuple(_text(item) for item in tensor.array.reshape(-1))
            return literal(items), "None"
        found = tensor.array.reshape(-1).tolist()
        exact = _doubles(found) if tensor.dtype is DType.F64 else literal(tuple(found))
        return exact, torch_type(tensor.dtype)
    for kind, dtype in (("int64s", "torch.int64"), ("floats", "torch.float32")):
        if site.attribute(f"{name}_{kind}"):
            return literal(site.attribute(f"{name}_{kind}")), dtype
    return literal(site.attribute(f"{name}_strings", ())), "None"


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


@emits("OneHotEncoder", domain=ML)
def one_hot_encoder(site: Site) -> str:
    categories = site.attribute("cats_int64s") or site.attribute("cats_strings")
    return f"ml.one_hot({site[0]}, {literal(categories)})"


@emits("Imputer", domain=ML)
def imputer(site: Site) -> str:
    values = site.attribute("imputed_value_floats")
    replaced = site.attribute("replaced_value_float", 0.0)
    if not values:
        values = site.attribute("imputed_value_int64s")
        replaced = site.attribute("replaced_value_int64", 0)
    return f"ml.impute({site[0]}, {literal(values)}, {literal(replaced)})"


@emits("FeatureVectorizer", domain=ML)
def feature_vectorizer(site: Site) -> str:
    sizes = (site.attribute("inputdimensions"), None)
    return call("ml.feature_vectorizer", *every(site), sizes=sizes)


@emits("LinearRegressor", domain=ML)
def linear_regressor(site: Site) -> str:
    return call(
        "ml.linear",
        *(site[0], literal(site.attribute("coefficients"))),
        intercepts=(site.attribute("intercepts", ()), ()),
        targets=(site.attribute("targets", 1), 1),
        post=(site.attribute("post_transform", "NONE"), "NONE"),
    )


def _labels(site: Site, ints: str) -> Any:
    return site.attribute(ints) or site.attribute("classlabels_strings") or (0, 1)


@emits("LinearClassifier", domain=ML)
def linear_classifier(site: Site) -> str:
    expression = call(
        "ml.linear_classifier",
        *(site[0], literal(_labels(site, "classlabels_ints"))),
        literal(site.attribute("coefficients")),
        intercepts=(site.attribute("intercepts", ()), ()),
        post=(site.attribute("post_transform", "NONE"), "NONE"),
    )
    return results(site, expression, 2)


def _numbers(site: Site, name: str) -> list[float]:
    """An attribute of floats, or the tensor that newer models have for it."""
    tensor = site.attribute(f"{name}_as_tensor")
    if isinstance(tensor, Tensor):
        return [float(value) for value in tensor.array.reshape(-1)]
    return list(site.attribute(name, ()))


def _old_trees(site: Site, leaf: str) -> list[str] | No:
    """The fields of `ml.Trees` for the attributes of the regressor and the classifier."""
    tree_ids, node_ids = site.attribute("nodes_treeids"), site.attribute("nodes_nodeids")
    modes = site.attribute("nodes_modes")
    unknown = [mode for mode in modes if mode not in (*_MODES[:6], "LEAF")]
    if unknown:
        return No(f"the node mode {unknown[0]!a} is not one that ONNX defines")
    places: dict[tuple[int, int], int] = {}
    inner, leaves = 0, 0
    for tree, node, mode in zip(tree_ids, node_ids, modes, strict=True):
        if mode == "LEAF":
            leaves += 1
            places[tree, node] = -leaves
        else:
            places[tree, node] = inner
            inner += 1
    roots: dict[int, int] = {}
    for tree, node in zip(tree_ids, node_ids, strict=True):
        roots.setdefault(tree, places[tree, node])
    kept = [index for index, mode in enumerate(modes) if mode != "LEAF"]
    features, splits = site.attribute("nodes_featureids"), _numbers(site, "nodes_values")
    missing = site.attribute("nodes_missing_value_tracks_true") or (0,) * len(modes)
    sides = (site.attribute("nodes_truenodeids"), site.attribute("nodes_falsenodeids"))
    yes, no = (tuple(places[tree_ids[i], side[i]] for i in kept) for side in sides)
    owners = zip(site.attribute(f"{leaf}_treeids"), site.attribute(f"{leaf}_nodeids"), strict=True)
    return [
        literal(tuple(roots.values())),
        literal(tuple(features[i] for i in kept)),
        literal(tuple(_MODES.index(modes[i]) for i in kept)),
        _written(site, [splits[i] for i in kept]),
        "()",
        literal(tuple(missing[i] for i in kept)),
        *(literal(yes), literal(no)),
        literal(tuple(-1 - places[owner] for owner in owners)),
        literal(tuple(site.attribute(f"{leaf}_ids"))),
        _written(site, _numbers(site, f"{leaf}_weights")),
    ]


@emits("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(site: Site) -> str | No:
    trees = _old_trees(site, "target")
    if isinstance(trees, No):
        return trees
    return call(
        "ml.tree_ensemble",
        *(site[0], *trees),
        count=(site.attribute("n_targets", 1), 1),
        aggregate=(site.attribute("aggregate_function", "SUM"), "SUM"),
        base=(tuple(_numbers(site, "base_values")), ()),
        post=(site.attribute("post_transform", "NONE"), "NONE"),
    )


@emits("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(site: Site) -> str | No:
    trees = _old_trees(site, "class")
    if isinstance(trees, No):
        return trees
    expression = call(
        "ml.tree_classifier",
        *(site[0], literal(_labels(site, "classlabels_int64s")), *trees),
        base=(tuple(_numbers(site, "base_values")), ()),
        post=(site.attribute("post_transform", "NONE"), "NONE"),
    )
    return results(site, expression, 2)


@emits("TreeEnsemble", since=5, domain=ML)
def tree_ensemble(site: Site) -> str:
    def children(side: str) -> tuple[int, ...]:
        leafs = site.attribute(f"nodes_{side}leafs")
        nodes = zip(leafs, site.attribute(f"nodes_{side}nodeids"), strict=True)
        return tuple(-1 - node if leaf else node for leaf, node in nodes)

    modes = site.attribute("nodes_modes").array.reshape(-1).tolist()
    missing = site.attribute("nodes_missing_value_tracks_true") or (0,) * len(modes)
    leaf_targets = site.attribute("leaf_targetids")
    splits = site.attribute("nodes_splits").array.reshape(-1)
    weights = site.attribute("leaf_weights").array.reshape(-1)
    return call(
        "ml.tree_ensemble",
        site[0],
        literal(site.attribute("tree_roots")),
        literal(site.attribute("nodes_featureids")),
        literal(tuple(modes)),
        _written(site, [float(split) for split in splits]),
        _members(site, modes),
        literal(tuple(missing)),
        *(literal(children("true")), literal(children("false"))),
        literal(tuple(range(len(leaf_targets)))),
        literal(leaf_targets),
        _written(site, [float(weight) for weight in weights]),
        count=(site.attribute("n_targets", 1), 1),
        aggregate=(_AGGREGATES[site.attribute("aggregate_function", 1)], "SUM"),
        post=(_POST[site.attribute("post_transform", 0)], "NONE"),
    )


def _members(site: Site, modes: list[int]) -> str:
    """The set of each node that tests for members, `()` for the others."""
    tensor = site.attribute("membership_values")
    if not isinstance(tensor, Tensor):
        return "()"
    sets: list[list[float]] = [[]]
    for value in tensor.array.reshape(-1).tolist():
        if math.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    remaining = iter(sets)
    texts = [_doubles(next(remaining)) if mode == 6 else "()" for mode in modes]
    return f"({', '.join(texts)},)" if len(texts) == 1 else f"({', '.join(texts)})"
