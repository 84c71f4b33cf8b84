from __future__ import annotations

import asyncio
import threading

import pytest

from thalweg.deploy.testing import DeadlockError, run_virtual
from thalweg.pipeline.clock import SystemClock, VirtualClock
from thalweg.pipeline.errors import ThalwegError


def test_system_clock_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now_ns() <= clock.now_ns()


def test_virtual_clock_refuses_to_go_back() -> None:
    with pytest.raises(ThalwegError, match="back to 4 ns"):
        VirtualClock(5).advance_to(4)


def test_sleep_of_an_hour_is_exact_and_takes_no_time() -> None:
    clock = VirtualClock()
    run_virtual(asyncio.sleep(3600), clock)
    assert clock.now_ns() == 3600 * 10**9


def test_timeout_fires_at_its_time() -> None:
    clock = VirtualClock()

    async def wait_too_long() -> None:
        async with asyncio.timeout(0.25):
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        run_virtual(wait_too_long(), clock)
    assert clock.now_ns() == 250_000_000


def test_time_stands_still_while_a_thread_computes() -> None:
    clock = VirtualClock()

    async def compute_beside_a_timer() -> int:
        release = threading.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(10, release.set)
        loop.call_soon(release.set)
        await loop.run_in_executor(None, release.wait)
        return clock.now_ns()

    assert run_virtual(compute_beside_a_timer(), clock) == 0


def test_tasks_that_wait_for_each_other_are_reported_instead_of_hanging() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="all tasks wait"):
        run_virtual(wait_for_nobody())
