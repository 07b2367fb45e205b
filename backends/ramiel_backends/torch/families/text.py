"""Strings, which are numpy arrays of str objects."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.table import Site, emits, row

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
