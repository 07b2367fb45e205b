"""Strings, which are numpy arrays of str objects."""

from __future__ import annotations

from itertools import pairwise

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.table import Site, emits, literal, row
from ramiel_ir.pipeline import No

row("RegexFullMatch", "text.full_match({0}, {pattern})", pattern="")
row("StringConcat", "text.concat({0}, {1})")


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
