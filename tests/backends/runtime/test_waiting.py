"""How a worker waits for its next request."""

from __future__ import annotations

import pytest

from ramiel_backends.runtime import waiting
from ramiel_backends.runtime.waiting import IDLE_SECONDS, TAKEN_SECONDS, Idle


class Door:
    """Stands in for a semaphore: a token comes at the n-th look; waiting always gets one."""

    def __init__(self, comes: int = 1 << 60) -> None:
        self.comes, self.looks, self.waits = comes, 0, 0

    def try_acquire(self) -> int:
        self.looks += 1
        return 0 if self.looks >= self.comes else -1

    def wait(self) -> None:
        self.waits += 1


class Core:
    """Stands in for clock and scheduler: whoever is offered the core keeps it for `keeps` s."""

    def __init__(self) -> None:
        self.now, self.keeps, self.offers = 0.0, 1e-6, 0

    def offer(self) -> None:
        self.offers += 1
        self.now += self.keeps


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    core = Core()
    monkeypatch.setattr(waiting, "perf_counter", lambda: core.now)
    monkeypatch.setattr(waiting.os, "sched_yield", core.offer)
    return core


def test_a_request_that_comes_soon_is_taken_without_blocking(core: Core) -> None:
    door = Door(comes=3)
    Idle(True).wait(door)
    assert (door.looks, door.waits, core.offers) == (3, 0, 2)


def test_a_worker_blocks_after_a_while(core: Core) -> None:
    door, idle = Door(), Idle(True)
    idle.wait(door)
    assert door.looks == pytest.approx(IDLE_SECONDS / core.keeps, abs=1) and door.waits == 1
    idle.wait(door)
    assert door.looks == pytest.approx(2 * IDLE_SECONDS / core.keeps, abs=2) and door.waits == 2


def test_a_caller_may_have_the_core_for_a_short_time(core: Core) -> None:
    core.keeps = 0.5 * TAKEN_SECONDS
    door, idle = Door(), Idle(True)
    idle.wait(door)
    idle.wait(door)
    assert (door.looks, door.waits) == (2, 2)


def test_a_worker_without_a_core_of_its_own_blocks_at_once(core: Core) -> None:
    door = Door()
    Idle(False).wait(door)
    assert (door.looks, door.waits, core.offers) == (0, 1, 0)


def test_a_worker_whose_core_was_taken_blocks_at_once_for_a_while(core: Core) -> None:
    core.keeps = 2 * TAKEN_SECONDS
    door, idle = Door(), Idle(True)
    idle.wait(door)
    assert (door.looks, door.waits) == (1, 1)
    for _ in range(Idle.REST):
        idle.wait(door)
    assert (door.looks, door.waits) == (1, 1 + Idle.REST)
    idle.wait(door)
    assert (door.looks, core.offers) == (2, 2)
