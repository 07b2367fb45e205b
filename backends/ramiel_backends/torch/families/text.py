"""Strings, which are numpy arrays of str objects."""

from __future__ import annotations

import re
from itertools import pairwise

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.table import Site, emits, literal, row
from ramiel_ir.pipeline import No

row("StringConcat", "text.concat({0}, {1})")

_NOT_PYTHON = re.compile(r"\[\[:|\\[pPzCQ]")
"""What RE2, the language of the patterns, has and Python's `re` has not, or reads differently."""


@emits("RegexFullMatch")
def full_match(site: Site) -> str | No:
    pattern = site.attribute("pattern", "")
    if _NOT_PYTHON.search(pattern.replace(r"\\", "")):
        return No("Python's re has neither POSIX and Unicode classes nor \\z, \\C and \\Q")
    if re.search(r"\(\?\w*i", pattern) and not pattern.isascii():
        return No("its pattern ignores the case of letters beyond ASCII")
    try:
        re.compile(pattern, re.ASCII)
    except re.error as error:
        return No(f"Python's re refuses its pattern: {error}")
    return f"text.full_match({site[0]}, {literal(pattern)})"


@emits("StringSplit")
def split(site: Site) -> str:
    limit = (site.attribute("maxsplit"), None)
    return call("text.split", site[0], delimiter=(site.attribute("delimiter", ""), ""), limit=limit)


@emits("StringNormalizer")
def normalize(site: Site) -> str:
    words = site.attribute("stopwords", ())
    return call(
        "text.normalize",
        site[0],
        case=(site.attribute("case_change_action", "NONE"), "NONE"),
        case_sensitive=(bool(site.attribute("is_case_sensitive", 0)), False),
        stopwords=(tuple(words), ()),
    )


@emits("TfIdfVectorizer")
def count_ngrams(site: Site) -> str | No:
    pool = site.attribute("pool_strings") or site.attribute("pool_int64s")
    if not pool:
        return No("TfIdfVectorizer has an empty pool")
    starts = (*site.attribute("ngram_counts"), len(pool))
    ngrams: list[tuple[int | str, ...]] = []
    for length, (start, end) in enumerate(pairwise(starts), 1):
        ngrams += [pool[place : place + length] for place in range(start, end, length)]
    return call(
        "text.count_ngrams",
        site[0],
        literal(tuple(ngrams)),
        literal(tuple(site.attribute("ngram_indexes"))),
        shortest=(site.attribute("min_gram_length"), 1),
        longest=(site.attribute("max_gram_length"), 1),
        skips=(site.attribute("max_skip_count"), 0),
        mode=(site.attribute("mode"), "TF"),
        weights=(site.attribute("weights"), None),
    )
