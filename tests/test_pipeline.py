"""Pipeline strings, pass options, and the manager."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from ramiel_ir.errors import PipelineError, RamielError
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context, No, Option, Pass, PassManager, PlanPass, parse_pipeline
from ramiel_ir.plan import Plan, make_plan
from tests.test_plan import diamond


@dataclass(frozen=True)
class Rename(Pass):
    """Give the graph another name."""

    name = "rename"
    to: str = "renamed"
    times: int | None = 1
    ratio: float = 0.5
    loud: bool = False
    mode: Literal["fast", "slow"] = "fast"
    maybe: Literal["yes", "no"] | None = "yes"
    level: Literal[1, 2, "all the way", False] = 1

    def run(self, graph: Graph, context: Context) -> bool | No:
        if graph.name == self.to:
            return No("it has that name")
        graph.name = self.to
        return True


@dataclass(frozen=True)
class Break(Pass):
    """Leave a graph that does not verify."""

    name = "break"

    def run(self, graph: Graph, context: Context) -> bool:
        graph.ops[0].cluster = -1
        return True


@dataclass(frozen=True)
class Threads(PlanPass):
    """Give each worker other threads, or none at all."""

    name = "threads"
    count: int = 2

    def run(self, plan: Plan, context: Context) -> Plan | No:
        if plan.threads == self.count:
            return No("it has that many")
        return replace(plan, threads=self.count, samples=2 if self.count == 0 else 1)


PASSES: dict[str, type[Option]] = {"rename": Rename, "break": Break, "threads": Threads}


def parse(source: str) -> list[Option]:
    return parse_pipeline(source, PASSES.__getitem__, lambda: sorted(PASSES))


@pytest.mark.parametrize(
    ("step", "spec"),
    [
        (Rename(), "rename"),
        (Rename(times=3), "rename{times=3}"),
        (Rename(times=None), "rename{times=none}"),
        (Rename(ratio=1e-7, loud=True), "rename{ratio=1e-07,loud=true}"),
        (Rename(ratio=float("inf")), "rename{ratio=inf}"),
        (Rename(ratio=-2.0), "rename{ratio=-2.0}"),
        (Rename(to="a-b.c"), "rename{to=a-b.c}"),
        (Rename(to='a "b", {c}'), 'rename{to="a \\"b\\", {c}"}'),
        (Rename(to=""), 'rename{to=""}'),
        (Rename(mode="slow", maybe=None), "rename{mode=slow,maybe=none}"),
        (Rename(maybe="no"), "rename{maybe=no}"),
        (Rename(level=2), "rename{level=2}"),
        (Rename(level="all the way"), 'rename{level="all the way"}'),
        (Rename(level=False), "rename{level=false}"),
        (Threads(count=4), "threads{count=4}"),
    ],
)
def test_a_pass_prints_back_as_its_own_spec(step: Option, spec: str) -> None:
    assert str(step) == spec
    assert parse(spec) == [step]


def test_pipelines_may_have_spaces_comments_and_nothing() -> None:
    assert parse("") == []
    assert parse(" rename {\n times = 2 } , // first\n break") == [Rename(times=2), Break()]


@pytest.mark.parametrize(
    ("source", "message", "caret"),
    [
        ("renam", "unknown pass 'renam'; there are: break, rename, threads", 0),
        ("rename,", "expected a pass", 7),
        ("rename break", "expected ','", 7),
        ("rename{", "expected an option", 7),
        ("rename{}", "expected an option", 7),
        ("rename{times}", "expected '='", 12),
        ("rename{times=}", "expected a value", 13),
        ("rename{times=2", "expected ','", 14),
        ("rename{times=2,}", "expected an option", 15),
        ("rename{tims=2}", "rename has no option 'tims'; there are: to, times, ratio", 7),
        ("break{x=2}", "break has no option 'x'; there are: none", 6),
        ("rename{times=2.5}", "expected a whole number", 13),
        ("rename{times=many}", "expected a whole number", 13),
        ("rename{ratio=x}", "expected a number", 13),
        ("rename{loud=yes}", "expected true or false", 12),
        ("rename{mode=medium}", "expected one of fast, slow", 12),
        ("rename{maybe=perhaps}", "expected one of yes, no", 13),
        ("rename{level=3}", "expected one of 1, 2, all the way, false", 13),
        ("rename{times=2,times=3}", "the option 'times' is given twice", 15),
        ("threads,rename", "rename works on graphs and must come before all plan passes", 8),
        ("rename;", "expected ','", 6),
    ],
)
def test_mistakes_have_a_caret(source: str, message: str, caret: int) -> None:
    with pytest.raises(PipelineError) as caught:
        parse(source)
    first, line, pointer = str(caught.value).split("\n")
    assert first.startswith(f"pipeline:1:{caret + 1}: {message}")
    assert (line, pointer) == (f"  {source}", "  " + " " * caret + "^")


def test_the_manager_says_what_each_pass_did() -> None:
    seen: list[tuple[str, str, bool]] = []
    manager = PassManager(
        [Rename(), Rename(), Threads()],
        after=lambda step, graph, changed: seen.append((str(step), graph.name, changed)),
    )
    assert manager.run(diamond()) is True
    assert seen == [("rename", "renamed", True), ("rename", "renamed", False)]
    assert [(step.spec, step.changed, step.reason) for step in manager.steps] == [
        ("rename", True, ""),
        ("rename", False, "it has that name"),
    ]
    assert all(step.seconds >= 0 for step in manager.steps)
    assert manager.plan_passes == [Threads()]


def test_a_second_run_reports_its_own_changes() -> None:
    manager, graph = PassManager([Rename()]), diamond()
    assert manager.run(graph) is True
    assert manager.run(graph) is False


def test_plan_passes_run_on_plans_and_are_verified() -> None:
    plan = make_plan(diamond())
    assert PassManager([Threads(3), Threads(3)]).run_plan(plan).threads == 3
    assert PassManager([Threads(1)]).run_plan(plan) is plan
    with pytest.raises(PipelineError, match=re.escape("threads{count=0} failed: no worker")):
        PassManager([Threads(0)]).run_plan(plan)


def test_a_pass_that_breaks_the_graph_is_named_with_those_before_it() -> None:
    manager = PassManager([Rename(), Rename("b"), Break()])
    message = "break failed: %a = Relu has the cluster -1; clusters count from 0, after "
    with pytest.raises(RamielError, match=re.escape(message + "[rename, rename{to=b}]")):
        manager.run(diamond())
    again = PassManager([Rename(), Break(), Break()], verify_each=False)
    assert again.run(diamond()) is True


def test_a_broken_graph_is_refused_before_the_first_pass() -> None:
    graph = diamond()
    graph.ops[0].cluster = -5
    with pytest.raises(RamielError, match="%a = Relu has the cluster -5"):
        PassManager([Rename()]).run(graph)


def test_registered_passes_are_found() -> None:
    manager = PassManager.parse("fold,dce,cluster,merge{max-clusters=2},clone,gate")
    assert ",".join(map(str, manager.passes)) == "fold,dce,cluster,merge{max-clusters=2},clone,gate"
    graph: Any = diamond()
    manager.run(graph)


@pytest.mark.parametrize(
    ("pipeline", "complaint"),
    [
        ("clone{growth=nan}", "clone's growth is a share of the ops, such as 0.2, not nan"),
        ("clone{growth=inf}", "clone's growth is a share of the ops, such as 0.2, not inf"),
        ("refine{budget=-1}", "refine's budget is a number of ops, not -1"),
        ("refine{seconds=nan}", "refine's seconds are 0 or more, not nan"),
        ("refine{seconds=-1}", "refine's seconds are 0 or more, not -1.0"),
        ("gate{margin=nan}", "gate's margin is a share, such as 0.03, not nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(pipeline: str, complaint: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(complaint)):
        PassManager.parse(pipeline)


def test_every_registered_pass_has_a_help_text_and_prints_back() -> None:
    from ramiel_ir.registry import PASSES as REGISTERED

    for name in REGISTERED.names():
        cls = REGISTERED.find(name)
        assert cls.name == name
        assert cls.__doc__
        assert parse_pipeline(str(cls()), REGISTERED.find, REGISTERED.names) == [cls()]
