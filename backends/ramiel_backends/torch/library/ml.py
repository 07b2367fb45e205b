"""Classical machine learning: encoders, linear models and ensembles of trees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

Labels = Sequence[int] | Sequence[str]


def array_feature_extractor(x: Any, indices: torch.Tensor) -> Any:
    """The elements of the last axis at `indices`; a vector counts as a matrix of one row."""
    rows = x.reshape(1, -1) if x.ndim == 1 else x
    places = indices.reshape(-1)
    return rows[..., places if isinstance(x, torch.Tensor) else places.numpy()]


def label_encoder(
    x: Any,
    keys: Sequence[Any],
    values: Sequence[Any],
    default: Any,
    dtype: torch.dtype | None = None,
    *,
    finds_nan: bool = False,
) -> Any:
    """The value of each key; text where there is no `dtype`. The key NaN counts if `finds_nan`."""
    given = x.reshape(-1).tolist()
    single = isinstance(x, torch.Tensor) and x.dtype == torch.float32
    pairs = reversed(list(zip(keys, values, strict=True)))  # the first of equal keys counts
    table = {float(np.float32(key)) if single else key: value for key, value in pairs}
    of_nan = [value for key, value in zip(keys, values, strict=True) if finds_nan and key != key]
    other = of_nan[0] if of_nan else default
    found = [table.get(item, default if item == item else other) for item in given]
    if dtype is not None:
        return torch.tensor(found, dtype=dtype).reshape(tuple(x.shape))
    text = np.empty(len(found), dtype=object)
    text[:] = found
    return text.reshape(tuple(x.shape))


def one_hot(x: Any, categories: Labels) -> torch.Tensor:
    """A new last axis of zeros with a one at the category of each element."""
    given = np.asarray(x if isinstance(x, np.ndarray) else x.to(torch.float64).numpy())
    known = np.array(categories, dtype=object if isinstance(categories[0], str) else np.float64)
    return torch.from_numpy(np.asarray(given[..., None] == known)).to(torch.float32)


def impute(x: torch.Tensor, values: Sequence[float], replaced: float) -> torch.Tensor:
    """`values`, one for all or one per column, where `x` is `replaced`."""
    missing = x.isnan() if math.isnan(replaced) else x == replaced
    return torch.where(missing, torch.tensor(values, dtype=x.dtype), x)


def scale(x: torch.Tensor, offset: Sequence[float], factor: Sequence[float]) -> torch.Tensor:
    """`(x - offset) * factor`, one for all or one per column."""
    wide = x.to(torch.float32)
    return (wide - torch.tensor(offset or (0.0,))) * torch.tensor(factor or (1.0,))


def normalize(x: torch.Tensor, norm: str) -> torch.Tensor:
    """Rows divided by their largest element, the sum of magnitudes, or their length."""
    wide = x.to(torch.float32)
    if norm == "MAX":
        length = wide.amax(-1, keepdim=True)
    else:
        length = torch.linalg.vector_norm(wide, {"L1": 1, "L2": 2}[norm], -1, keepdim=True)
    return torch.where(length == 0, wide, wide / length)


def feature_vectorizer(*parts: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Columns side by side, each part cut or filled up to its size."""
    columns = []
    for part, size in zip(parts, sizes, strict=True):
        rows = part.reshape(part.shape[0], -1).to(torch.float32)[:, :size]
        columns.append(torch.nn.functional.pad(rows, (0, size - rows.shape[1])))
    return torch.cat(columns, 1)


def linear(
    x: torch.Tensor,
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    *,
    targets: int = 1,
    post: str = "NONE",
) -> torch.Tensor:
    """Scores of linear models, one column each."""
    rows = x.reshape(-1, x.shape[-1]).to(torch.promote_types(torch.float32, x.dtype))
    if not x.is_floating_point():
        rows = x.reshape(-1, x.shape[-1]).to(torch.float32)
    scores = rows @ torch.tensor(coefficients, dtype=rows.dtype).reshape(targets, -1).t()
    if intercepts:
        scores = scores + torch.tensor(intercepts, dtype=rows.dtype)
    return transformed(scores, post)


def transformed(scores: torch.Tensor, post: str) -> torch.Tensor:
    """Scores after the transform that ends a model."""
    if post == "LOGISTIC":
        return torch.sigmoid(scores)
    if post == "SOFTMAX":
        return torch.softmax(scores, -1)
    if post == "SOFTMAX_ZERO":
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        powers = torch.where(scores.abs() > 1e-7, powers, 0)
        total = powers.sum(-1, keepdim=True)
        return torch.where(total == 0, 0.5, powers / total)
    if post == "PROBIT":
        return math.sqrt(2) * torch.erfinv(2 * scores - 1)
    return scores


def linear_classifier(
    x: torch.Tensor,
    labels: Labels,
    coefficients: Sequence[float],
    intercepts: Sequence[float] = (),
    *,
    post: str = "NONE",
) -> tuple[Any, torch.Tensor]:
    """The label of the best class of each row, and the scores."""
    count = max(len(coefficients) // x.shape[-1], 1)
    scores = linear(x, coefficients, intercepts, targets=count).to(torch.float32)
    if count > 1:
        return _labelled(scores.argmax(-1), labels), transformed(scores, post)
    chosen = (scores[:, 0] > 0).to(torch.int64)
    if len(labels) == 2:
        pair = torch.cat((-scores, scores), 1)
        return _labelled(chosen, labels), transformed(pair, post)
    return _labelled(chosen, ("", labels[0]) if isinstance(labels[0], str) else (0, labels[0])), (
        transformed(scores, post)
    )


def _labelled(index: torch.Tensor, labels: Labels) -> Any:
    if not isinstance(labels[0], str):
        return torch.tensor(labels, dtype=torch.int64)[index]
    return np.array(labels, dtype=object)[index.numpy()]


class Trees(NamedTuple):
    """Nodes of all trees; a child below zero is leaf `-1 - child`."""

    roots: Sequence[int]
    features: Sequence[int]
    modes: Sequence[int]
    splits: Sequence[float]
    members: Sequence[Sequence[float]]
    missing: Sequence[int]
    yes: Sequence[int]
    no: Sequence[int]
    leaves: Sequence[int]
    targets: Sequence[int]
    weights: Sequence[float]


def tree_ensemble(
    x: torch.Tensor,
    *trees: Any,
    count: int = 1,
    aggregate: str = "SUM",
    base: Sequence[float] = (),
    post: str = "NONE",
) -> torch.Tensor:
    """The sums of the leaves that each row reaches, per target; `trees` are fields of `Trees`."""
    return transformed(_scores(x, Trees(*trees), count, aggregate, base), post)


def _scores(
    x: torch.Tensor, trees: Trees, count: int, aggregate: str, base: Sequence[float]
) -> torch.Tensor:
    rows = (x if x.is_floating_point() else x.to(torch.float32)).reshape(-1, x.shape[-1])
    reached = _leaves(rows, trees)
    places = torch.tensor(trees.leaves, dtype=torch.int64) * count
    places = places + torch.tensor(trees.targets, dtype=torch.int64)
    weights = torch.tensor(trees.weights, dtype=rows.dtype)
    size = (max(trees.leaves, default=-1) + 1) * count
    if aggregate in ("MIN", "MAX"):
        limits = torch.finfo(rows.dtype)
        empty = torch.full((size,), limits.max if aggregate == "MIN" else limits.min)
        held = empty.to(rows.dtype).scatter_reduce(0, places, weights, f"a{aggregate.lower()}")
        chosen = held.reshape(-1, count)[reached]
        scores = chosen.amin(1) if aggregate == "MIN" else chosen.amax(1)
    else:
        held = torch.zeros(size, dtype=rows.dtype).index_add(0, places, weights)
        scores = held.reshape(-1, count)[reached].sum(1)
        if aggregate == "AVERAGE":
            scores = scores / len(trees.roots)
    return scores + torch.tensor(base, dtype=rows.dtype) if base else scores


def _leaves(x: torch.Tensor, trees: Trees) -> torch.Tensor:
    """The leaf that each row reaches in each tree."""
    features = torch.tensor(trees.features, dtype=torch.int64)
    modes = torch.tensor(trees.modes, dtype=torch.int64)
    splits = torch.tensor(trees.splits, dtype=x.dtype)
    missing = torch.tensor(trees.missing, dtype=torch.bool)
    children = torch.tensor((trees.no, trees.yes), dtype=torch.int64)
    state = torch.tensor(trees.roots, dtype=torch.int64).expand(x.shape[0], -1)
    while bool((state >= 0).any()):
        node = state.clamp(min=0)
        value, split = torch.gather(x, 1, features[node]), splits[node]
        tests = [value <= split, value < split, value >= split, value > split]
        tests += [value == split, value != split, _member(value, node, trees)]
        holds = torch.gather(torch.stack(tests, -1), -1, modes[node][..., None])[..., 0]
        holds = holds | (value.isnan() & missing[node])
        state = torch.where(state >= 0, children[holds.to(torch.int64), node], state)
    return -1 - state


def _member(value: torch.Tensor, node: torch.Tensor, trees: Trees) -> torch.Tensor:
    """Whether the value is in the set of its node."""
    held = torch.zeros_like(value, dtype=torch.bool)
    for index, members in enumerate(trees.members):
        if members:
            inside = torch.isin(value, torch.tensor(members, dtype=value.dtype))
            held = held | ((node == index) & inside)
    return held


def tree_classifier(
    x: torch.Tensor,
    labels: Labels,
    *trees: Any,
    base: Sequence[float] = (),
    post: str = "NONE",
) -> tuple[Any, torch.Tensor]:
    """The label of the best class of each row, and the scores."""
    fields = Trees(*trees)
    scores = _scores(x, fields, max(len(labels), 1), "SUM", ()).to(torch.float32)
    weighted = set(fields.targets)
    if len(labels) != 2 or len(weighted) != 1:
        scores = scores + torch.tensor(base, dtype=scores.dtype) if base else scores
        return _labelled(scores.argmax(-1), labels), transformed(scores, post)
    # two classes, and weights for one of them only: it is the second one
    score = scores[:, fields.targets[0], None] + (base[-1] if base else 0)
    shares = min(fields.weights) >= 0
    chosen = (score[:, 0] > (0.5 if shares else 0)).to(torch.int64)
    if weighted == {1}:
        pair = transformed(torch.cat((torch.zeros_like(score), score), 1), post)
    elif post == "PROBIT":
        pair = transformed(score, post)
    elif post == "LOGISTIC":
        pair = torch.sigmoid(torch.cat((-score, score), 1))
    else:
        pair = torch.cat((1 - score if shares else -score, score), 1)
    return _labelled(chosen, labels), pair
