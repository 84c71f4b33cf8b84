"""A terminal that takes nothing holds up nobody; what it takes comes in order."""

from __future__ import annotations

import io
import threading

import pytest

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.errors import ReaderGone
from thalweg.pipeline.payload import Token
from thalweg.stages.io.aside import PIECES, Aside
from thalweg.stages.io.sink import Console


class Paused(io.StringIO):
    """A terminal that is paused until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        assert self.go.wait(20)
        return super().write(text)


class Gone(io.StringIO):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_paused_terminal_gets_everything_in_order_once_it_goes_on() -> None:
    aside, terminal = Aside(), Paused()
    for i in range(100):
        aside.put(f"{i} ", terminal)
    terminal.go.set()
    aside.close(20)
    assert terminal.getvalue() == "".join(f"{i} " for i in range(100))


def test_what_a_paused_terminal_has_no_room_for_is_counted() -> None:
    aside, terminal = Aside(), Paused()
    for _ in range(PIECES + 7):
        aside.put("x", terminal)
    terminal.go.set()
    aside.close(20)
    assert (aside.lost, len(terminal.getvalue())) == (7, PIECES)


def test_a_console_whose_terminal_is_paused_lets_its_pipeline_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Paused()
    monkeypatch.setattr("sys.stdout", terminal)

    class Watched(Console):
        """Lets the terminal go on when all was taken."""

        def finish(self, ctx: object) -> None:
            assert terminal.getvalue() == ""
            terminal.go.set()

    packets = [packet(Token(text=f"{i} ", last=i == 99), time=i) for i in range(100)]
    assert run_stage(Watched(), {"token": packets}).problems == []
    assert terminal.getvalue() == "thalweg   " + "".join(f"{i} " for i in range(100)) + "\n"


def test_a_reader_that_is_gone_is_said_at_the_next_text_or_at_the_end() -> None:
    aside = Aside()
    aside.put("x", Gone())
    with pytest.raises(ReaderGone):
        aside.close(20)


def test_its_thread_ends_with_it() -> None:
    aside, terminal = Aside(), io.StringIO()
    aside.put("x", terminal)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "terminal")
    aside.close(20)
    thread.join(20)
    assert not thread.is_alive()
