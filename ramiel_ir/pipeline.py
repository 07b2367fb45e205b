"""Passes, the context they run with, pipeline strings, and the manager that runs them.

A pass is a frozen dataclass; its fields are its options, its docstring is its help, and it prints
back as its own spec: `str(Merge(max_clusters=4)) == "merge{max-clusters=4}"`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ramiel_ir.costs import Costs, StaticCosts
from ramiel_ir.errors import PassError, PipelineError, RamielError
from ramiel_ir.ir import Graph
from ramiel_ir.laws import verify
from ramiel_ir.lexer import Lexer

if TYPE_CHECKING:
    from ramiel_ir.plan import Plan


_PLAIN_OPTION = re.compile(r"[\w.+-]+", re.ASCII)


@dataclass(frozen=True)
class No:
    """A pass's or a rule's way to decline: false, with the reason."""

    reason: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Yes:
    """A pass's way to say why it changed something: true, with the reason."""

    reason: str

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True)
class Context:
    """What passes may know beyond the graph.

    `workers` is how many workers the plan may use, `threads` the intra-op threads of each; `alone`
    are the numbers of threads of which a worker that is the only one gets the best, all cores
    first. `costs` are in µs.
    """

    costs: Costs = field(default_factory=StaticCosts)
    workers: int = 2
    threads: int = 1
    alone: tuple[int, ...] = (2, 1)
    backend: str = ""


class Option(ABC):  # the part of a pass that graph and plan passes share
    """A named step of a pipeline with options."""

    name: ClassVar[str]

    @classmethod
    def parse_options(cls, given: Mapping[str, tuple[str, Callable[[str], RamielError]]]) -> Self:
        """The pass with these options, texts with a way to complain about each."""
        fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, (text, fail) in given.items():
            if name not in fields:
                known = ", ".join(fields) or "none"
                raise fail(f"{cls.name} has no option {name!r}; there are: {known}")
            values[fields[name].name] = _convert(text, hints[fields[name].name], fail)
        return cls(**values)

    @classmethod
    def summary(cls) -> str:
        """What it does, in one sentence: the first line of its docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def describe_options(cls) -> list[str]:
        """Its options as `name=default`, one line each."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        return [f"{f.name.replace('_', '-')}={_spell(f.default)}" for f in fields]

    def __str__(self) -> str:
        given = {
            f.name.replace("_", "-"): getattr(self, f.name)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) != f.default
        }
        options = ",".join(f"{name}={_spell(value)}" for name, value in given.items())
        return f"{self.name}{{{options}}}" if options else self.name


class Pass(Option):
    """Graph → Graph, in place. `run` returns whether it changed anything.

    `No` and `Yes` do so with a reason, which people get to see.
    """

    @abstractmethod
    def run(self, graph: Graph, context: Context) -> bool | No | Yes:
        """Transform `graph`."""


class PlanPass(Option):
    """Plan → Plan. Plan passes come after all graph passes."""

    @abstractmethod
    def run(self, plan: Plan, context: Context) -> Plan | No:
        """The better plan; the same plan or `No` where there is none."""


def _text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _spell(value: Any) -> str:
    text = _text(value)
    return text if _PLAIN_OPTION.fullmatch(text) else json.dumps(text)


def _convert(text: str, hint: Any, fail: Callable[[str], RamielError]) -> Any:
    kind = hint
    if types.NoneType in typing.get_args(hint):
        if text == "none":
            return None
        kind = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
    if typing.get_origin(kind) is typing.Literal:
        choices = {_text(choice): choice for choice in typing.get_args(kind)}
        if text in choices:
            return choices[text]
        raise fail(f"expected one of {', '.join(choices)}")
    if kind is bool:
        if text in ("true", "false"):
            return text == "true"
        raise fail("expected true or false")
    try:
        return kind(text)
    except ValueError:
        noun = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise fail(f"expected {noun}") from None


def parse_pipeline(
    source: str, find: Callable[[str], type[Option]], names: Callable[[], list[str]]
) -> list[Option]:
    """The passes a pipeline string names: `cluster,merge{max-clusters=4}`.

    `find` gives the class for a name (KeyError when unknown), `names` lists the known ones for the
    error. Raises `PipelineError` with a caret under the offending column.
    """
    lexer = Lexer(source, "pipeline", PipelineError)
    steps: list[Option] = []
    while lexer.token.kind != "end":
        if steps:
            lexer.expect(",")
        offset = lexer.token.offset
        name = lexer.take("name", "a pass")
        try:
            cls = find(name)
        except KeyError:
            known = ", ".join(names())
            raise lexer.fail(f"unknown pass {name!r}; there are: {known}", offset) from None
        options: dict[str, tuple[str, Callable[[str], RamielError]]] = {}
        for option, given, at in _options(lexer):
            if option in options:
                raise lexer.fail(f"the option {option!r} is given twice", at)
            options[option] = given
        steps.append(cls.parse_options(options))
        if isinstance(steps[-1], Pass) and any(isinstance(step, PlanPass) for step in steps):
            raise lexer.fail(f"{name} works on graphs and must come before all plan passes", offset)
    return steps


def _options(lexer: Lexer) -> Iterator[tuple[str, tuple[str, Callable[[str], RamielError]], int]]:
    if not lexer.accept("{"):
        return
    while True:
        offset = lexer.token.offset
        name = lexer.take("name", "an option")
        lexer.expect("=")
        value = lexer.token.offset
        if lexer.token.kind not in ("name", "number", "string"):
            raise lexer.fail("expected a value")
        text = lexer.string() if lexer.token.kind == "string" else lexer.next().text

        def fail(message: str, at: int = offset, value: int = value) -> RamielError:
            return lexer.fail(message, at if "no option" in message else value)

        yield name, (text, fail), offset
        if lexer.accept("}"):
            return
        lexer.expect(",")


@dataclass(frozen=True)
class Step:
    """What one pass did: its spec, whether it changed anything, why or why not, its seconds."""

    spec: str
    changed: bool
    reason: str
    seconds: float


@dataclass
class PassManager:
    """Runs passes in order and verifies after each.

    `after` is called with each graph pass, the graph and whether it changed.
    """

    passes: Sequence[Option]
    context: Context = field(default_factory=Context)
    verify_each: bool = True
    after: Callable[[Option, Graph, bool], None] | None = None
    steps: list[Step] = field(default_factory=list)

    @staticmethod
    def parse(pipeline: str, context: Context | None = None, **options: Any) -> PassManager:
        """A manager for a pipeline string; passes are found through the registry."""
        from ramiel_ir import registry

        passes = parse_pipeline(pipeline, registry.PASSES.find, registry.PASSES.names)
        return PassManager(passes, context or Context(), **options)

    @property
    def plan_passes(self) -> list[PlanPass]:
        """The plan passes of the pipeline."""
        return [step for step in self.passes if isinstance(step, PlanPass)]

    def run(self, graph: Graph) -> bool:
        """Run the graph passes in place; whether any changed the graph.

        Raises `PassError` naming pass, op and the passes that ran before it.
        """
        if self.verify_each:
            verify(graph)
        done = len(self.steps)
        for step in self.passes:
            if isinstance(step, Pass):
                start = time.perf_counter()
                outcome = self._guard(step, partial(step.run, graph, self.context))
                seconds = time.perf_counter() - start
                if self.verify_each:
                    self._guard(step, partial(verify, graph))
                self._record(step, bool(outcome), outcome, seconds)
                if self.after is not None:
                    self.after(step, graph, bool(outcome))
        return any(step.changed for step in self.steps[done:])

    def run_plan(self, plan: Plan) -> Plan:
        """Run the plan passes; the last plan."""
        for step in self.plan_passes:
            start = time.perf_counter()
            outcome = self._guard(step, partial(step.run, plan, self.context))
            changed = not isinstance(outcome, No) and outcome is not plan
            seconds = time.perf_counter() - start
            if changed:
                plan = outcome
                if self.verify_each:
                    self._guard(step, plan.verify)
            self._record(step, changed, outcome, seconds)
        return plan

    def _record(self, step: Option, changed: bool, outcome: object, seconds: float) -> None:
        reason = outcome.reason if isinstance(outcome, (No, Yes)) else ""
        self.steps.append(Step(str(step), changed, reason, seconds))

    def _guard(self, step: Option, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except RamielError as error:
            before = [done.spec for done in self.steps]
            raise PassError(
                f"{step} failed: {error}, after [{', '.join(before)}]", hint=error.hint
            ) from error
