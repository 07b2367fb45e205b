"""How a worker waits for its next request."""

from __future__ import annotations

import time

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


def test_a_request_that_comes_soon_is_taken_without_blocking() -> None:
    door = Door(comes=3)
    Idle(True).wait(door)
    assert (door.looks, door.waits) == (3, 0)


def test_a_worker_blocks_after_a_while() -> None:
    door, start = Door(), time.perf_counter()
    Idle(True).wait(door)
    assert door.looks > 1 and door.waits == 1
    assert time.perf_counter() - start >= IDLE_SECONDS


def test_a_worker_without_a_core_of_its_own_blocks_at_once() -> None:
    door = Door()
    Idle(False).wait(door)
    assert (door.looks, door.waits) == (0, 1)


def test_a_worker_whose_core_was_taken_blocks_at_once_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = []

    def taken() -> None:
        offers.append(time.sleep(2 * TAKEN_SECONDS))

    monkeypatch.setattr(waiting.os, "sched_yield", taken)
    door, idle = Door(), Idle(True)
    idle.wait(door)
    assert (door.looks, door.waits, len(offers)) == (1, 1, 1)
    for _ in range(Idle.REST):
        idle.wait(door)
    assert (door.looks, door.waits) == (1, 1 + Idle.REST)
    idle.wait(door)
    assert (door.looks, len(offers)) == (2, 2)
