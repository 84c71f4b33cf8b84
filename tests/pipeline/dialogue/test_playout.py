"""Play-out: what is heard, sample by sample, and the account of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from thalweg.pipeline.dialogue.playout import TRANSITIONS, Finished, PlayEvent, Playout, PlayState, Started

RATE = 48_000
BLOCK = 960
BLOCK_NS = 20_000_000


class Ear:
    """Pulls by the clock and keeps everything."""

    def __init__(self) -> None:
        self.playout = Playout(RATE)
        self.now = 0
        self.heard: list[NDArray[np.float32]] = []
        self.events: list[PlayEvent] = []

    def speak(self, epoch: int, blocks: float, text: str = "", *, value: float = 0.5, last: bool = False) -> None:
        samples = np.full(round(blocks * BLOCK), value, np.float32)
        self.playout.push(epoch=epoch, samples=samples, text=text, last=last)

    def listen(self, blocks: int) -> NDArray[np.float32]:
        start = len(self.heard)
        for _ in range(blocks):
            samples, events = self.playout.pull(BLOCK, self.now)
            self.heard.append(samples)
            self.events += events
            self.now += BLOCK_NS
        return np.concatenate(self.heard[start:])


@pytest.fixture
def ear() -> Ear:
    return Ear()


def test_a_reply_is_played_once_and_its_begin_and_end_are_told(ear: Ear) -> None:
    ear.listen(2)
    ear.speak(1, 1.5, "Hello there.", last=True)
    heard = ear.listen(3)
    assert (heard == 0.5).sum() == round(1.5 * BLOCK)
    assert ear.events == [
        Started(epoch=1, time_ns=2 * BLOCK_NS),
        Finished(epoch=1, time_ns=2 * BLOCK_NS + 30_000_000, text="Hello there.", complete=True),
    ]


def test_sentences_join_without_a_missing_or_extra_sample(ear: Ear) -> None:
    ear.speak(1, 1.37, "One.", value=0.25)
    ear.speak(1, 0.91, "Two.", value=0.5, last=True)
    heard = ear.listen(4)
    sound = heard[: round(1.37 * BLOCK) + round(0.91 * BLOCK)]
    assert sound.min() == 0.25
    assert not heard[len(sound) :].any()
    assert ear.playout.gaps == 0


def test_a_late_sentence_is_a_gap_and_counted(ear: Ear) -> None:
    ear.speak(1, 1, "One.")
    ear.listen(3)
    ear.speak(1, 1, "Two.", last=True)
    ear.listen(2)
    assert (ear.playout.gaps, ear.playout.gap_ns) == (1, 2 * BLOCK_NS)


def test_silence_between_replies_is_no_gap(ear: Ear) -> None:
    ear.speak(1, 1, "One.", last=True)
    ear.listen(3)
    ear.speak(2, 1, "Two.", last=True)
    ear.listen(3)
    assert ear.playout.gaps == 0


def test_an_interrupt_ends_in_5_ms_with_the_words_that_were_played(ear: Ear) -> None:
    ear.speak(1, 10, "one two three four five six seven eight nine ten", last=True)
    ear.listen(5)
    events = ear.playout.interrupt(2)
    heard = ear.listen(2)
    assert np.count_nonzero(heard) <= RATE * 5 // 1000
    assert (np.diff(np.abs(heard[: RATE * 5 // 1000])) <= 1e-6).all()
    assert events == [Finished(epoch=1, time_ns=4 * BLOCK_NS, text="one two three four five", complete=False)]
    assert ear.playout.state is PlayState.IDLE
    assert ear.playout.stopped_ns - 5 * BLOCK_NS <= 5_000_000


def test_a_reply_that_is_held_and_then_interrupted_ended_when_it_was_heard_last(ear: Ear) -> None:
    told: list[Finished] = []
    ear.playout.on_cut = told.append
    ear.speak(1, 50, "A long answer.")
    ear.listen(5)
    ear.playout.hold()
    ear.listen(20)
    cut = ear.playout.interrupt(2)
    assert told == cut and len(told) == 1 and not told[0].complete
    assert 5 * BLOCK_NS <= told[0].time_ns <= 6 * BLOCK_NS


def test_an_interrupt_before_the_first_sample_says_that_nothing_was_heard(ear: Ear) -> None:
    ear.speak(1, 10, "never heard", last=True)
    events = ear.playout.interrupt(2)
    assert events == [Finished(epoch=1, time_ns=0, text="", complete=False)]
    assert not ear.listen(2).any()


def test_an_interrupt_at_the_last_sample_comes_too_late(ear: Ear) -> None:
    ear.speak(1, 1, "All of it.", last=True)
    ear.listen(1)
    assert ear.playout.interrupt(2) == []
    assert ear.events[-1] == Finished(epoch=1, time_ns=BLOCK_NS, text="All of it.", complete=True)


def test_speech_of_an_older_epoch_is_not_taken_any_more(ear: Ear) -> None:
    ear.playout.interrupt(2)
    ear.speak(1, 1, "late", last=True)
    assert not ear.listen(2).any()


def test_an_answer_that_was_held_goes_on_where_it_stopped(ear: Ear) -> None:
    ear.speak(1, 10, "one two three", last=True)
    ear.listen(2)
    ear.playout.hold()
    silent = ear.listen(3)
    ear.playout.resume()
    rest = ear.listen(9)
    assert not silent[RATE * 5 // 1000 :].any()
    assert np.count_nonzero(silent) + np.count_nonzero(rest) == pytest.approx(8 * BLOCK, abs=4)
    assert isinstance(ear.events[-1], Finished) and ear.events[-1].complete


def test_a_hold_before_the_first_sample_keeps_the_answer_back(ear: Ear) -> None:
    ear.playout.hold()
    ear.speak(1, 2, "patient", last=True)
    assert not ear.listen(4)[RATE * 5 // 1000 :].any()
    ear.playout.resume()
    ear.listen(4)
    assert isinstance(ear.events[-1], Finished) and ear.events[-1].complete


def test_a_reply_that_fails_ends_behind_what_was_made_of_it(ear: Ear) -> None:
    ear.speak(1, 2, "half an answer")
    assert ear.playout.fail(1) == []
    ear.listen(3)
    assert isinstance(ear.events[-1], Finished) and ear.events[-1].text == "half an answer"


def test_a_reply_that_fails_before_it_began_is_over_at_once(ear: Ear) -> None:
    assert ear.playout.fail(1) == [Finished(epoch=1, time_ns=0, text="", complete=False)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "last", "pull", "hold", "resume", "interrupt"]), st.integers(1, 2500)),
        max_size=80,
    )
)
@settings(max_examples=200, deadline=None)
def test_every_sample_is_heard_at_most_once_and_every_reply_ends_once(script: list[tuple[str, int]]) -> None:
    ear = Ear()
    epoch, pushed, begun, ended = 1, 0, set(), []
    for what, size in script:
        if what in ("push", "last"):
            ear.playout.push(epoch=epoch, samples=np.full(size, 1.0, np.float32), text="x", last=what == "last")
            begun.add(epoch)
            pushed += size
            epoch += what == "last"
        elif what == "pull":
            ear.listen(1)
        elif what == "interrupt":
            epoch += 1
            ended += ear.playout.interrupt(epoch)
        elif what == "hold":
            ear.playout.hold()
        else:
            ear.playout.resume()
    ear.playout.resume()
    ended += ear.playout.interrupt(epoch + 1)
    finished = [event.epoch for event in (*ear.events, *ended) if isinstance(event, Finished)]
    heard = sum(np.count_nonzero(block) for block in ear.heard)
    assert heard <= pushed
    assert sorted(finished) == sorted(begun)


def test_every_step_between_states_is_in_the_table_and_the_table_has_no_other() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        ear, epoch = Ear(), 1
        for _ in range(40):
            before = ear.playout.state
            step = int(rng.integers(6))
            if step == 0:
                ear.speak(epoch, float(rng.uniform(0.2, 3)), "one two", last=bool(rng.integers(2)))
            elif step == 1:
                ear.listen(1)
            elif step == 2:
                ear.playout.hold()
            elif step == 3:
                ear.playout.resume()
            elif step == 4:
                epoch += 1
                ear.playout.interrupt(epoch)
            else:
                ear.playout.fail(epoch)
            if ear.playout.state is not before:
                seen.add((before, ear.playout.state))
    assert seen == {(before, after) for before, following in TRANSITIONS.items() for after in following}
