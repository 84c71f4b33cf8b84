"""What the person is told where a turn fails."""

from __future__ import annotations

from tests.stages.dialogue.test_live import FakeLine
from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.dialogue.call import using
from thalweg.pipeline.dialogue.events import Answered, Event, Trouble
from thalweg.pipeline.payload import Routed
from thalweg.pipeline.signal import Failure
from thalweg.stages.dialogue.live import LiveCaptions

INSIDE = "the language model at http://10.0.0.7:8000/v1 refused: Bearer sk-SECRET123"


def told(failure: Failure) -> Trouble:
    line = FakeLine(VirtualClock())
    with using(line):
        run_stage(LiveCaptions(), {"transcript": [(0, failure)]})
    ((_, event),) = line.told
    assert isinstance(event, Trouble)
    return event


def test_a_failure_is_told_without_what_it_says_of_the_inside() -> None:
    event = told(Failure(origin="chat", epoch=3, message=INSIDE))
    assert event.message == "This question could not be answered. Ask again."
    assert (event.code, event.turn) == ("turn-failed", 3)


def test_a_failure_with_a_sentence_for_the_person_is_told_in_that() -> None:
    event = told(
        Failure(origin="chat", epoch=3, message=INSIDE, public="The language model is too busy at the moment.")
    )
    assert event.message == "The language model is too busy at the moment. Ask again."


def test_who_of_several_answered_is_told_by_name_and_no_more() -> None:
    def tells(backend: str) -> list[Event]:
        line = FakeLine(VirtualClock())
        route = Routed(
            backend=backend,
            chosen="house",
            reason="best",
            expected_ms=1,
            first_ms=2,
            cost=3,
            confidence=1,
            out={"x": "y"},
        )
        with using(line):
            run_stage(LiveCaptions(), {"route": [packet(route, epoch=4)]})
        return [event for _, event in line.told]

    (event,) = tells("house")
    assert event == Answered(turn=4, by="house")
    assert tells("") == []
