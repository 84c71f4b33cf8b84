"""Tables of transitions: what the docstring says, what the data says, and that the watch over them sees."""

from __future__ import annotations

import re
from enum import Enum
from importlib import import_module

import pytest

from tests import transitions
from tests.transitions import MACHINES
from thalweg.deploy.door.doorkeeper import TRANSITIONS, ConnectionPlace, PlaceState

HEADER = re.compile(r"^ *state +event +.*?next", re.MULTILINE)
ANY = "any"
NAMES = [
    pytest.param(name, marks=[pytest.mark.real] if "server" in name or "webrtc" in name else []) for name in MACHINES
]  # it loads aiortc


def rows(docstring: str) -> set[tuple[str, str]]:
    """(state, next) of each row of the table in a docstring, up to the first empty line."""
    header = HEADER.search(docstring)
    assert header is not None
    column = len(header[0].lstrip("\n")) - len("next")
    table = docstring[header.end() :].split("\n\n")[0].splitlines()[1:]
    found = ((re.match(r" *([A-Z_]{2,}|any)\b", line), re.match(r"[A-Z_]{2,}\b", line[column:])) for line in table)
    return {(state[1], after[0]) for state, after in found if state and after}


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_and_its_data_say_the_same(name: str) -> None:
    module = import_module(f"thalweg.{name}")
    told = rows(module.__doc__)
    data = {(state.name, after.name) for state, following in module.TRANSITIONS.items() for after in following}
    from_any = {after for state, after in told if state == ANY}
    explicit = {(state, after) for state, after in told if state != ANY and state != after}
    assert explicit <= data
    assert {(state, after) for state, after in data if after not in from_any} <= explicit


@pytest.mark.parametrize("name", NAMES)
def test_every_state_has_its_row(name: str) -> None:
    table = import_module(f"thalweg.{name}").TRANSITIONS
    assert set(table) == set(type(next(iter(table))))
    assert all(isinstance(state, Enum) for state in table)


def test_a_step_that_no_table_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSITIONS, PlaceState.WAITING, frozenset())
    place = ConnectionPlace("10.0.0.1", 0.0)
    place.state = PlaceState.ANSWERED
    assert [one.split(",")[0] for one in transitions.found] == ["ConnectionPlace went from WAITING to ANSWERED"]
    transitions.found.clear()
