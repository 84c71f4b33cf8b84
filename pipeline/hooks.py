"""The hooks of a stage, which are found by name, and their signatures. A misspelt hook would silently not be called.

    hook            takes             may be async
    process         packet, ctx       yes
    process_joined  set, ctx          yes
    run             ctx               must be
    open, finish    ctx               yes
    close                             yes
    on_signal       signal, ctx       no: called on the event loop, between two packets or at any moment
    wake            ctx               no
    snapshot                          no
    restore         state             no
    remembered                        no
    recall          state             no
    go_on           packet, sent,     yes
                    over, ctx
    crossing        packet            no
    configure       settings          no
    declare         settings          no
    choices                           no
    key             packet, static    no
    configures      arguments, static no

A source has `run`, and no `process`, `wake` or `finish`. A stage with inputs has `process`, or `process_joined` if it
declares a `join`, and no `run`.

A plain decorator may hide that a method is async. Then the worker notices at the call, and awaits the result or reports
that it cannot.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hook:
    """`takes`: its parameters, by name; an implementation must accept as many. None: their number varies."""

    takes: tuple[str, ...] | None
    may_be_async: bool = False


HOOKS: Mapping[str, Hook] = {
    "process": Hook(("packet", "ctx"), may_be_async=True),
    "process_joined": Hook(("joined", "ctx"), may_be_async=True),
    "run": Hook(("ctx",), may_be_async=True),
    "open": Hook(("ctx",), may_be_async=True),
    "close": Hook((), may_be_async=True),
    "finish": Hook(("ctx",), may_be_async=True),
    "on_signal": Hook(("signal", "ctx")),
    "wake": Hook(("ctx",)),
    "snapshot": Hook(()),
    "restore": Hook(("state",)),
    "remembered": Hook(()),
    "recall": Hook(("state",)),
    "go_on": Hook(("packet", "sent", "over", "ctx"), may_be_async=True),
    "crossing": Hook(("packet",)),
    "configure": Hook(("settings",)),
    "declare": Hook(("settings",)),
    "choices": Hook(()),
    "key": Hook(None),
    "configures": Hook(None),
    "may_become": Hook(None),
    "keeps_here": Hook(None),
}
_PAIRS = (("snapshot", "restore"), ("restore", "snapshot"), ("remembered", "recall"), ("recall", "remembered"))


def is_async(function: object) -> bool:
    """Whether it is a coroutine function, as far as can be seen, also behind decorators that use `wraps`."""
    if not callable(function):
        return False
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


def hook_problems(cls: type) -> list[str]:
    """Errors in the hooks of a class, and methods whose names are misspelt hooks."""
    found: list[str] = []
    for name, hook in HOOKS.items():
        method = getattr(cls, name, None)
        if method is not None:
            found += _wrong(name, hook, method, cls)
    for one, other in _PAIRS:
        if callable(getattr(cls, one, None)) and not callable(getattr(cls, other, None)):
            found.append(f"it has `{one}` but no `{other}`: its state would never be kept")
    if getattr(cls, "configurable", ()) and not callable(getattr(cls, "configure", None)):
        found.append("it names `configurable` parameters but has no method `configure` that takes them")
    for name in _never_called(cls):
        if callable(getattr(cls, name, None)):
            kind = "a stage with inputs" if getattr(cls, "inputs", ()) else "a source"
            found.append(f"it has `{name}`, which is never called of {kind}{' that joins' * hasattr(cls, 'join')}")
    for name, meant in _misspelt(cls):
        found.append(
            f"it has a method `{name}`, which nothing calls: did you mean `{meant}`? "
            "Let its name begin with _ if it is the stage's own"
        )
    return found


def _never_called(cls: type) -> tuple[str, ...]:
    if not getattr(cls, "inputs", ()):
        return "process", "process_joined", "wake", "finish"
    return ("run", "process") if hasattr(cls, "join") else ("run", "process_joined")


def _wrong(name: str, hook: Hook, method: Any, cls: type) -> Iterator[str]:  # Any: a class attribute of any type
    if not callable(method):
        yield f"`{name}` is {method!r}, expected a method"
        return
    plain = inspect.unwrap(method)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        yield f"`{name}` is a generator, and nothing would ever run it: emit with `ctx.emit` instead of `yield`"
    elif is_async(method) and not hook.may_be_async:
        yield f"`{name}` is async, but it is called on the event loop and must be plain"
    if hook.takes is not None and not _accepts(method, hook.takes, cls, name):
        wanted = ", ".join(hook.takes) or "no parameters"
        yield f"`{name}{_signature(method)}` is called with {wanted}"


def _accepts(method: Any, takes: tuple[str, ...], cls: type, name: str) -> bool:
    """Whether it accepts this number of positional arguments, not counting `self`."""
    static = inspect.getattr_static(cls, name, None)
    if not isinstance(static, staticmethod | classmethod) and not inspect.isfunction(static):
        return True  # made by something that knows best
    try:
        inspect.signature(method).bind(*([None] if inspect.isfunction(static) else []), *takes)
    except TypeError:
        return False
    except ValueError:  # it cannot be asked
        return True
    return True


def _signature(method: Callable[..., Any]) -> str:
    return str(inspect.signature(method))


def _misspelt(cls: type) -> Iterator[tuple[str, str]]:
    """Methods with the name of a hook except for one slip, and its parameters, where the class lacks that hook."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if name.startswith("_") or name in HOOKS:
            continue
        for meant, hook in HOOKS.items():
            slips = 2 if len(meant) > 7 else 1
            if hook.takes is None or not is_near(name.lower().replace("_", ""), meant.replace("_", ""), slips):
                continue
            inflected = name.startswith(meant) and hasattr(cls, meant)  # `restored` beside `restore` is a word
            if not inflected and _accepts(method, hook.takes, cls, name):
                yield name, meant
                break


def is_near(a: str, b: str, slips: int) -> bool:
    """Whether at most `slips` letters were omitted, doubled, changed or swapped with their neighbour."""
    if abs(len(a) - len(b)) > slips:
        return False
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        before, last = row, before
        row = [i]
        for j in range(1, len(b) + 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= slips
