"""The text of model.py. Model text enters it as ascii() literals only, in calls of `port`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from ramiel_backends.ort.calls import Call, Stage
from ramiel_backends.ort.identifiers import Identifiers
from ramiel_ir.ir import Op, Value
from ramiel_ir.plan import Message

_WIDTH = 96
_NODES = (
    *(ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Pass, ast.If),
    *(ast.Compare, ast.Eq, ast.Import, ast.alias, ast.Expr, ast.Assign, ast.Call, ast.Attribute),
    *(ast.Name, ast.Load, ast.Store, ast.List, ast.Constant),
)


def model_source(summary: str, makers: Sequence[str], workers: int, portable: bool) -> str:
    """The whole of model.py: makers named worker_0, worker_1, …, and maybe `portable`."""
    names = ", ".join(f"worker_{number}" for number in range(workers))
    lines = [f'"""{summary}"""', *makers, "", "", f"WORKERS = [{names}]"]
    if portable:
        lines.append("PORTABLE = portable")
    lines += ["", 'if __name__ == "__main__":', "    import runtime", ""]
    lines += ["    runtime.main(__file__)", ""]
    text = "\n".join(lines)
    for node in ast.walk(ast.parse(text)):
        assert isinstance(node, _NODES), f"model.py must not hold a {type(node).__name__}"
    return text


def maker_source(
    name: str,
    doc: str,
    stages: Sequence[Stage],
    messages: Sequence[Message],
    session: Callable[[Call], str],
) -> str:
    """A maker: its sessions, then `run` with one line per receive, call and send.

    `session` gives the expression that makes the session of a call.
    """
    names = Identifiers(("weights", "port", "run"))
    calls = [call for stage in stages for call in stage.calls]
    places = [names.fresh(f"segment_{number}") for number in range(len(calls))]
    lines = ["", "", f"def {name}(weights):", f'    """{doc}"""']
    for place, call in zip(places, calls, strict=True):
        note = f"  # {count(call.ops)}" + (f", {micros(call.micros)} µs" if call.micros else "")
        lines.append(f"    {place} = {session(call)}{note}")
    body = list(_run(stages, messages, iter(places), names))
    lines += ["", "    def run(port):", *(body or ["        pass"]), "", "    return run"]
    return "\n".join(lines)


def _run(
    stages: Sequence[Stage], messages: Sequence[Message], places: Iterator[str], names: Identifiers
) -> Iterator[str]:
    local: dict[tuple[Value, int], str] = {}

    def name_of(value: Value, sample: int) -> str:
        if (value, sample) not in local:
            local[value, sample] = names.fresh(f"{value.name}_{sample}" if sample else value.name)
        return local[value, sample]

    for stage in stages:
        for number in stage.receives:
            message = messages[number]
            target = name_of(message.value, message.sample)
            yield f"        {target} = port.receive({number})  # from worker {message.source}"
        for call in stage.calls:
            sample = f", {call.sample}" if call.sample else ""
            for value in call.inputs:
                if value.op is None and (value, call.sample) not in local:
                    target = name_of(value, call.sample)
                    yield f"        {target} = port.input({value.name!a}{sample})"
            operands = [name_of(value, call.sample) for value in call.inputs]
            results = [name_of(value, call.sample) for value in call.outputs]
            yield from _call(results, next(places), operands)
            for value, result in zip(call.outputs, results, strict=True):
                if value.is_output:
                    yield f"        port.output({value.name!a}, {result}{sample})"
        for number in stage.sends:
            message = messages[number]
            given = name_of(message.value, message.sample)
            yield f"        port.send({number}, {given})  # to worker {message.target}"


def _call(results: Sequence[str], function: str, operands: Sequence[str]) -> Iterator[str]:
    """`[a, b] = function(x, y)`, over several lines where one is too short."""
    line = f"        [{', '.join(results)}] = {function}({', '.join(operands)})"
    if len(line) <= _WIDTH:
        yield line
        return
    yield "        ["
    yield from _list(results)
    yield f"        ] = {function}("
    yield from _list(operands)
    yield "        )"


def _list(names: Sequence[str]) -> Iterator[str]:
    line = " " * 11
    for name in names:
        if len(line) > 11 and len(line) + len(name) + 2 > _WIDTH:
            yield line
            line = " " * 11
        line += f" {name},"
    if names:
        yield line


def count(ops: Sequence[Op]) -> str:
    """`1 op`, `2 ops`, …"""
    return f"{len(ops)} op" + "s" * (len(ops) != 1)


def micros(time: float) -> str:
    """µs for people."""
    return f"{time:,.0f}"
