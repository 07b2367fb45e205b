"""The tables of the conformance report, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.conformance.cases import CATEGORIES, Case
from tests.conformance.engines import Outcome, refused
from tests.conformance.exclusions import Exclusion, reason_for

TEMPLATE = Path(__file__).parents[2] / "docs" / "conformance.md.in"
_PACKAGES = ("onnx", "torch", "onnxruntime", "numpy")
_ITSELF = "ONNX Runtime itself"

_CLASSES = {
    r"uses opset (\d+)": "its opset is newer than ONNX Runtime knows, and the converter does not "
    "lower its ops",
    r"cannot carry": "ONNX Runtime's Python API cannot carry the type of an input or output",
    r"Could not find an implementation": "no kernel for an op, its version or its element type",
    r"not a registered function/op|Unrecognized attribute|is not a registered": "an op or an "
    "attribute that this version does not know",
}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def summary(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    """Cases passed by engine: by category, by kind of value, and without the training ops."""
    engines = list(dict.fromkeys(outcome.engine for outcome in outcomes))
    found = {(outcome.engine, outcome.case): outcome for outcome in outcomes}
    groups: list[tuple[str, Callable[[Case], bool]]] = [
        *((category, lambda case, c=category: case.category == c) for category in CATEGORIES),  # type: ignore[misc]
        ("plain tensors only", lambda case: case.is_plain),
        ("other values", lambda case: not case.is_plain),
        ("training ops", lambda case: case.is_training),
        ("**all less training**", lambda case: not case.is_training),
        ("**all**", lambda case: True),
    ]
    header = ["", "cases", *engines]
    if "ort" in engines:
        header.insert(header.index("ort") + 1, _ITSELF)
    rows = []
    for name, belongs in groups:
        group = [case for case in cases if belongs(case)]
        if not group:
            continue
        row = [name, f"{len(group):,}"]
        for engine in engines:
            mine = [found[engine, case.name] for case in group]
            row.append(_share(sum(outcome.passed for outcome in mine), len(mine)))
            if engine == "ort":
                row.append(_share(sum(not outcome.excuse for outcome in mine), len(mine)))
        rows.append(row)
    return table(header, rows)


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.1f} %)"


def effort(outcomes: Sequence[Outcome]) -> str:
    """How many plans and messages each engine was run with."""
    rows = []
    for engine in dict.fromkeys(outcome.engine for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.engine == engine]
        plans, messages = sum(o.plans for o in mine), sum(o.messages for o in mine)
        rows.append([engine, f"{plans:,}", f"{messages:,}"])
    return table(["engine", "plans run", "messages in them"], rows)


def failures(outcomes: Sequence[Outcome], exclusions: Sequence[Exclusion]) -> str:
    """Every reason for which cases fail, with their number and, where they are few, their names."""
    rows = []
    for engine in dict.fromkeys(outcome.engine for outcome in outcomes):
        reasons: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.engine == engine and not outcome.passed:
                reason = reason_for(outcome, exclusions) or _class(outcome)
                reasons.setdefault(reason, []).append(outcome.case)
        for reason, names in sorted(reasons.items(), key=lambda item: -len(item[1])):
            rows.append([engine, reason, _named(names), str(len(names))])
    lines = ["| engine | reason | cases | |", "| --- | --- | --- | ---: |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _named(names: Sequence[str]) -> str:
    short = [f"`{name.removeprefix('test_')}`" for name in names]
    return ", ".join(short) if len(short) <= 12 else f"{', '.join(short[:6])}, …"


def _class(outcome: Outcome) -> str:
    """A failure that the list need not give a reason for: ONNX Runtime's own."""
    if not outcome.excuse:
        return f"unexpected: {outcome.reason}".replace("|", "\\|")
    if refused(outcome):
        for pattern, text in _CLASSES.items():
            if re.search(pattern, outcome.reason):
                return f"refused: {text}"
        return "refused: ONNX Runtime does not load it for another reason"
    return f"ONNX Runtime itself {outcome.excuse.partition(':')[0]}"


def document(
    cases: Sequence[Case],
    outcomes: Sequence[Outcome],
    exclusions: Sequence[Exclusion],
    sampled: str,
) -> str:
    """docs/conformance.md: its template with the numbers put in; `sampled` tells of the sample."""
    parts = {
        "environment": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "cases": f"{len(cases):,}",
        "summary": summary(cases, outcomes),
        "effort": effort(outcomes),
        "sample": sampled,
        "failures": failures(outcomes, exclusions),
    }
    text = TEMPLATE.read_text()
    for name, part in parts.items():
        text = text.replace(f"{{{{{name}}}}}", part)
    assert "{{" not in text, "the template asks for something that was not given"
    return text
