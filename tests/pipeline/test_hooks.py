"""A hook that would never be called, or cannot be, is refused by name."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.hooks import is_near
from thalweg.pipeline.payload import Token
from thalweg.pipeline.stage import StageError, describe


def stage(**members: Any) -> type:
    """A stage that passes on, with more or other members."""

    def process(self: object, packet: Any, ctx: Any) -> None:
        ctx.emit(packet.payload)

    return type("Made", (), {"inputs": {"in": Token}, "outputs": {"out": Token}, "process": process, **members})


def source(**members: Any) -> type:
    async def run(self: object, ctx: Any) -> None:
        pass

    return type("Made", (), {"outputs": {"out": Token}, "run": run, **members})


async def asynchronous(self: object, *_: Any) -> None:
    pass


def generator(self: object, packet: Any, ctx: Any) -> Any:
    yield packet


async def async_generator(self: object, packet: Any, ctx: Any) -> Any:
    yield packet


def one(self: object, only: Any) -> None:
    pass


def two(self: object, first: Any, second: Any) -> None:
    pass


def none(self: object) -> None:
    pass


@pytest.mark.parametrize("hook", ["wake", "on_signal", "snapshot", "restore", "configure", "declare", "choices"])
def test_a_hook_that_is_called_on_the_loop_must_not_be_async(hook: str) -> None:
    with pytest.raises(StageError, match=f"`{hook}` is async"):
        describe(stage(**{hook: asynchronous}))


@pytest.mark.parametrize(
    ("name", "method", "meant"),
    [
        ("proces", two, "process"),
        ("on_singal", two, "on_signal"),
        ("on_signals", two, "on_signal"),
        ("onSignal", two, "on_signal"),
        ("snapshoot", none, "snapshot"),
        ("snap_shot", none, "snapshot"),
        ("finnish", one, "finish"),
        ("opne", one, "open"),
        ("clsoe", none, "close"),
        ("wakes", one, "wake"),
        ("Open", one, "open"),
        ("configur", one, "configure"),
    ],
)
def test_a_misspelt_hook_is_refused_and_told_its_name(name: str, method: Callable[..., Any], meant: str) -> None:
    with pytest.raises(StageError, match=f"a method `{name}`, which nothing calls: did you mean `{meant}`"):
        describe(stage(**{name: method}))


def test_a_stage_whose_only_method_is_misspelt_is_told_both() -> None:
    cls = type("Made", (), {"inputs": {"in": Token}, "proces": two})
    with pytest.raises(StageError, match=r"no method `process`; .* did you mean `process`"):
        describe(cls)


@pytest.mark.parametrize(
    "members",
    [
        {"_proces": two},
        {"processed": property(none)},
        {"keys": none},
        {"restored": one, "restore": one, "snapshot": none},
        {"opened_at": one},
        {"runs": none},
        {"counts": {"seen": 1}},
    ],
)
def test_what_is_the_stages_own_is_let_through(members: dict[str, Any]) -> None:
    describe(stage(**members))


@pytest.mark.parametrize(("hook", "method"), [("process", one), ("open", none), ("close", one), ("on_signal", one)])
def test_a_hook_that_cannot_take_what_it_is_given_is_refused(hook: str, method: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=f"`{hook}\\(.*` is called with"):
        describe(stage(**{hook: method}))


@pytest.mark.parametrize("method", [generator, async_generator])
def test_a_generator_which_nothing_would_run_is_refused(method: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match="`process` is a generator"):
        describe(stage(process=method))


@pytest.mark.parametrize(("hook", "missing"), [("snapshot", "restore"), ("restore", "snapshot")])
def test_half_of_a_pair_is_refused(hook: str, missing: str) -> None:
    with pytest.raises(StageError, match=f"has `{hook}` but no `{missing}`"):
        describe(stage(**{hook: none if hook == "snapshot" else one}))


@pytest.mark.parametrize("hook", ["wake", "finish"])
def test_a_source_with_a_hook_that_sources_are_not_called_by_is_refused(hook: str) -> None:
    with pytest.raises(StageError, match=f"`{hook}`, which is never called of a source"):
        describe(source(**{hook: one}))


def test_configurable_parameters_that_nothing_takes_are_refused() -> None:
    with pytest.raises(StageError, match="no method `configure`"):
        describe(stage(configurable=("gain",)))


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of async."""

    @functools.wraps(function)
    def inner(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return inner


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """One that does not even say what it decorates."""

    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


@pytest.mark.parametrize("decorate", [traced, hidden])
@pytest.mark.parametrize("blocking", [False, True])
def test_an_async_process_behind_a_plain_decorator_is_awaited(decorate: Any, blocking: bool) -> None:
    async def process(self: object, packet: Any, ctx: Any) -> None:
        await asyncio.sleep(0.001)
        ctx.emit(packet.payload)

    cls = stage(process=decorate(process), blocking=blocking)
    outcome = run_stage(cls(), [packet(Token(text=text), time=i * 10_000_000) for i, text in enumerate("abc")])
    assert ([token.text for token in outcome.payloads()], outcome.problems) == (["a", "b", "c"], [])


@pytest.mark.parametrize("decorate", [traced, hidden])
def test_open_finish_and_close_behind_a_plain_decorator_are_awaited(decorate: Any) -> None:
    called = []

    def hook(name: str) -> Any:
        async def method(self: object, *_: Any) -> None:
            await asyncio.sleep(0.001)
            called.append(name)

        return decorate(method)

    cls = stage(open=hook("open"), finish=hook("finish"), close=hook("close"))
    assert run_stage(cls(), [packet(Token(text="a"))]).problems == []
    assert called == ["open", "finish", "close"]


def test_a_hidden_async_hook_that_must_be_plain_is_a_problem_of_its_stage() -> None:
    def process(self: object, packet: Any, ctx: Any) -> None:
        ctx.wake_at(ctx.now_ns() + 1000)

    cls = stage(process=process, wake=hidden(asynchronous))
    outcome = run_stage(cls(), [packet(Token(text="a")), packet(Token(text="b"), time=10_000_000)])
    assert outcome.problems[0].startswith("stage: `wake` is async, but it is called on the event loop")


@pytest.mark.parametrize(
    ("a", "b", "slips", "near"),
    [("proces", "process", 1, True), ("singal", "signal", 1, True), ("run", "open", 1, False), ("a", "abc", 1, False)],
)
def test_slips_are_counted(a: str, b: str, slips: int, near: bool) -> None:
    assert is_near(a, b, slips) is near
