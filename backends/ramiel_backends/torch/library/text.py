"""Strings, which are numpy arrays of str objects."""

import re
from typing import Any

import numpy as np
import torch


def concat(x: Any, y: Any) -> Any:
    """Strings joined pairwise."""
    return np.asarray(x + y, dtype=object).reshape(np.broadcast_shapes(x.shape, y.shape))


def full_match(x: Any, pattern: str) -> torch.Tensor:
    """Where a whole string matches a regular expression."""
    wanted = re.compile(pattern, re.ASCII)  # as RE2 has it: \w, \d and the like are ASCII
    found = [wanted.fullmatch(text) is not None for text in x.reshape(-1)]
    return torch.tensor(found, dtype=torch.bool).reshape(x.shape)


def split(x: Any, delimiter: str = "", limit: int | None = None) -> tuple[Any, torch.Tensor]:
    """The parts of strings, padded with empty ones along a new last axis, and how many each has."""
    at_most = -1 if limit is None else limit
    rows = [text.split(delimiter or None, at_most) if text else [] for text in x.reshape(-1)]
    width = max((len(row) for row in rows), default=0)
    parts = np.full((len(rows), width), "", dtype=object)
    for place, row in enumerate(rows):
        parts[place, : len(row)] = row
    counts = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    return parts.reshape(*x.shape, width), counts.reshape(x.shape)


def normalize(
    x: Any, case: str = "NONE", case_sensitive: bool = False, stopwords: tuple[str, ...] = ()
) -> Any:
    """The strings that are no stopwords, in one case; one empty string where none is left."""
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(case, str)
    key = str if case_sensitive else str.lower
    stopped = {key(word) for word in stopwords}
    kept = [change(word) for word in x.reshape(-1) if key(word) not in stopped] or [""]
    result = np.empty(len(kept), dtype=object)
    result[:] = kept
    return result if x.ndim == 1 else result.reshape(1, -1)


def count_ngrams(
    x: Any,
    ngrams: tuple[tuple[Any, ...], ...],
    places: tuple[int, ...],
    shortest: int = 1,
    longest: int = 1,
    skips: int = 0,
    mode: str = "TF",
    weights: tuple[float, ...] | None = None,
) -> torch.Tensor:
    """How often each n-gram is found in each row, items between skipped evenly; or its weight."""
    number_of = {ngram: number for number, ngram in enumerate(ngrams)}
    rows = x.reshape(-1, x.shape[-1]).tolist()
    counts = np.zeros((len(rows), len(ngrams)), dtype=np.float32)
    for row, items in enumerate(rows):
        for length in range(shortest, longest + 1):
            for step in range(1, 2 + (skips if length > 1 else 0)):
                for start in range(len(items) - (length - 1) * step):
                    found = tuple(items[start : start + (length - 1) * step + 1 : step])
                    if found in number_of:
                        counts[row, number_of[found]] += 1
    if mode == "IDF":
        counts = np.minimum(counts, 1)
    if mode != "TF" and weights is not None:
        counts = counts * np.array(weights, dtype=np.float32)
    result = torch.zeros((len(rows), max(places) + 1))
    result[:, list(places)] = torch.from_numpy(counts)
    return result.reshape(*x.shape[:-1], -1)
