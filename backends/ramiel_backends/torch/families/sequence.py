"""Sequences, which are lists, and optionals, which are the value itself or None."""

from __future__ import annotations

from ramiel_backends.torch.families._calls import call
from ramiel_backends.torch.families._types import constant_numbers, one_number
from ramiel_backends.torch.table import Site, emits, literal, row
from ramiel_ir.ir import DType, Type

row("Optional", "{0}")
row("OptionalGetElement", "{0}")
row("SequenceEmpty", "[]")
row("SequenceLength", "torch.tensor(len({0}))")


@emits("OptionalHasElement")
def has_element(site: Site) -> str:
    return f"torch.tensor({site[0]} is not None)" if site.has(0) else "torch.tensor(False)"


@emits("SequenceConstruct")
def construct(site: Site) -> str:
    return f"[{', '.join(site.given)}]"


@emits("SequenceAt")
def at(site: Site) -> str:
    place = one_number(site.constant(1))
    return f"{site[0]}[{f'int({site[1]})' if place is None else literal(place)}]"


@emits("SequenceInsert")
def insert(site: Site) -> str:
    if not site.has(2):
        return f"[*{site[0]}, {site[1]}]"
    return f"sequence.insert({site[0]}, {site[1]}, {site[2]})"


@emits("SequenceErase")
def erase(site: Site) -> str:
    return f"sequence.erase({site[0]}, {site[1]})" if site.has(1) else f"{site[0]}[:-1]"


@emits("SplitToSequence")
def split_to_sequence(site: Site) -> str:
    axis = site.attribute("axis", 0)
    if site.has(1):
        split = site.constant(1)
        extents = site[1] if split is None or not split.ndim else constant_numbers(site, 1)
        return f"sequence.split({site[0]}, {extents}, {axis})"
    keep = (bool(site.attribute("keepdims", 1)), True)
    return call("sequence.split_ones", site[0], str(axis), keepdims=keep)


@emits("ConcatFromSequence")
def concat_from_sequence(site: Site) -> str:
    axis, fresh = site.attribute("axis"), bool(site.attribute("new_axis", 0))
    kind = site.type(0)
    inner = kind.element if kind is not None else None
    if isinstance(inner, Type) and inner.element is DType.STRING:
        return call("sequence.join_strings", site[0], str(axis), new_axis=(fresh, False))
    return f"torch.{'stack' if fresh else 'cat'}({site[0]}, {axis})"
