"""When Whisper decodes, what is shown of it and what is settled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from thalweg.pipeline.duration import MS
from thalweg.pipeline.speech import streaming
from thalweg.pipeline.speech.hypothesis import Spoken, text_of
from thalweg.pipeline.speech.streaming import (
    TRANSITIONS,
    Action,
    Decode,
    Drop,
    Final,
    Forget,
    Hearing,
    HearingEvent,
    Rules,
    Show,
    State,
    Wait,
    Withdraw,
)
from thalweg.pipeline.speech.window import Cuts

S = 1000 * MS


def words(text: str, start_ms: int = 0, each_ms: int = 300, confidence: float = 0.9) -> list[Spoken]:
    """One after another; each has one token, which follows from its letters."""
    found = []
    for at, word in enumerate(text.split()):
        begin = (start_ms + at * each_ms) * MS
        found.append(Spoken(f" {word}", (hash_of(word),), begin, begin + (each_ms - 50) * MS, confidence))
    return found


def hash_of(word: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate(word)) % 50_000


def one(actions: Sequence[Action], kind: type) -> Action:
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def begun(hearing: Hearing, seconds: float = 1.0) -> Decode:
    """A turn in which a guess was ordered."""
    (decode,) = hearing.heard(round(seconds * S))
    assert isinstance(decode, Decode)
    return decode


def test_what_two_decodes_agree_on_is_shown_and_the_end_of_it_never_as_an_end() -> None:
    hearing = Hearing()
    first = begun(hearing, 1.0)
    assert hearing.decoded(first.number, words("I went two.", confidence=0.2)) == []
    second = begun(hearing, 1.4)
    (shown,) = hearing.decoded(second.number, words("i went to.", confidence=0.2))
    assert shown == Show("i went", 0)


def test_what_the_decoder_is_sure_of_is_shown_at_once_but_not_in_the_last_frames() -> None:
    hearing = Hearing()
    decode = begun(hearing, 1.0)
    (shown,) = hearing.decoded(decode.number, words("I went to the"))
    assert shown == Show("I went to", 0)


def test_words_that_are_settled_begin_every_later_decode_and_never_change() -> None:
    hearing = Hearing()
    hearing.decoded(begun(hearing, 1.5).number, words("I went to the"))
    (shown,) = hearing.decoded(begun(hearing, 2.0).number, words("I went to the bank"))
    assert shown == Show("I went to the bank", len("I went to"))
    decode = begun(hearing, 2.5)
    assert decode.prefix == tuple(hash_of(word) for word in ("I", "went", "to"))


def test_nothing_is_taken_back_because_less_of_the_same_is_certain() -> None:
    hearing = Hearing()
    hearing.decoded(begun(hearing, 1.5).number, words("I went to the"))
    assert hearing.decoded(begun(hearing, 2.0).number, words("I went", confidence=0.1)) == []


def test_a_decode_that_went_round_in_circles_shows_nothing() -> None:
    hearing = Hearing()
    assert hearing.decoded(begun(hearing).number, words("five five five"), sure=False) == []
    assert hearing.state is State.HEARING


def test_the_final_text_is_prepared_in_the_pause_and_costs_no_waiting() -> None:
    hearing = Hearing()
    hearing.heard(400 * MS)
    decode = one(hearing.heard(1500 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(decode, Decode) and decode.whole
    (shown,) = hearing.decoded(decode.number, words("How are you?"))
    assert shown == Show("How are you?", 0, trial=True)
    assert hearing.heard(1600 * MS, silence_ns=200 * MS) == []
    assert hearing.ended(1700 * MS) == [Final(tuple(words("How are you?")))]
    assert hearing.state is State.QUIET


def test_a_turn_that_ends_while_its_final_text_is_prepared_waits_for_that_and_for_no_other() -> None:
    hearing = Hearing()
    hearing.heard(400 * MS)
    decode = one(hearing.heard(1500 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(decode, Decode)
    assert hearing.ended(1700 * MS) == []
    assert hearing.decoded(decode.number, words("How are you?")) == [Final(tuple(words("How are you?")))]


def test_more_speech_throws_away_what_was_prepared() -> None:
    hearing = Hearing()
    hearing.heard(400 * MS)
    prepared = one(hearing.heard(1500 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(prepared, Decode)
    hearing.decoded(prepared.number, words("How are you?"))
    decode = one(hearing.heard(1900 * MS), Decode)
    assert isinstance(decode, Decode)
    final = one(hearing.ended(2000 * MS), Decode)
    assert isinstance(final, Decode) and final.number != decode.number
    assert hearing.decoded(decode.number, words("How are you too?")) == []
    assert hearing.decoded(final.number, words("How are you two?")) == [Final(tuple(words("How are you two?")))]


def test_a_guess_under_way_is_dropped_for_the_final_text() -> None:
    hearing = Hearing()
    guess = begun(hearing)
    dropped, final = hearing.ended(1100 * MS)
    assert dropped == Drop(guess.number)
    assert isinstance(final, Decode) and final.whole


def test_guesses_wait_for_the_interval_and_leave_the_machine_its_share() -> None:
    hearing = Hearing(Rules(interval_ns=300 * MS, share=0.5))
    assert hearing.heard(400 * MS) == []
    decode = begun(hearing, 0.6)
    assert hearing.heard(1000 * MS) == []
    hearing.decoded(decode.number, [], took_ns=400 * MS)
    assert hearing.heard(1300 * MS) == []
    assert isinstance(one(hearing.heard(1400 * MS), Decode), Decode)


def test_nothing_is_guessed_while_input_waits_nor_without_an_interval() -> None:
    assert Hearing().heard(2 * S, behind=True) == []
    assert Hearing(Rules(interval_ns=0)).heard(2 * S) == []


def test_a_full_window_is_decoded_even_so_and_nothing_is_heard_before_it_is_shorter() -> None:
    hearing = Hearing(Rules(interval_ns=0))
    (decode,) = hearing.heard(25 * S, behind=True)
    assert isinstance(decode, Decode) and decode.wait
    forget = one(hearing.decoded(decode.number, words(" ".join(f"w{n}" for n in range(80)))), Forget)
    assert isinstance(forget, Forget) and 20 * S < forget.before_ns < 22 * S
    hearing = Hearing()
    guess = begun(hearing)
    assert hearing.heard(27 * S) == [Wait(guess.number)]


def test_settled_sentences_leave_the_window_with_their_audio() -> None:
    hearing = Hearing()
    said = "It was late. We went home and then"
    hearing.decoded(begun(hearing, 5.0).number, words(said))
    actions = hearing.decoded(begun(hearing, 5.5).number, words(said))
    assert one(actions, Forget) == Forget(875 * MS)  # in the middle of the pause behind “late.”
    decode = begun(hearing, 6.0)
    assert decode.window_ns == 875 * MS
    assert decode.prefix == tuple(hash_of(word) for word in ("We", "went", "home", "and"))
    assert text_of(decode.before) == "It was late."
    (shown,) = hearing.decoded(decode.number, words("We went home and then slept", start_ms=900))
    assert shown == Show("It was late. We went home and then slept", len("It was late. We went home and"))


def test_a_guess_that_fails_is_made_again_and_without_a_final_text_the_turn_is_over() -> None:
    hearing = Hearing()
    hearing.failed(begun(hearing).number)
    assert hearing.state is State.HEARING
    trial = one(hearing.heard(1500 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(trial, Decode)
    hearing.failed(trial.number)
    final = one(hearing.ended(1700 * MS), Decode)
    assert isinstance(final, Decode) and final.number != trial.number
    hearing.failed(final.number)
    assert hearing.state is State.QUIET


def test_a_turn_that_ends_behind_a_failed_trial_is_told_no_guess_any_more() -> None:
    hearing = Hearing()
    guess = begun(hearing, 1.4)
    trial = one(hearing.heard(1550 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(trial, Decode)
    hearing.failed(trial.number)
    dropped, final = hearing.ended(1700 * MS)
    assert dropped == Drop(guess.number) and isinstance(final, Decode)
    assert hearing.decoded(guess.number, words("How are")) == []


def test_a_voice_that_goes_on_behind_a_failed_trial_drops_the_guess_for_the_next_one() -> None:
    hearing = Hearing()
    guess = begun(hearing, 1.4)
    trial = one(hearing.heard(1550 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(trial, Decode)
    hearing.failed(trial.number)
    dropped, newer = hearing.heard(2000 * MS)
    assert dropped == Drop(guess.number) and isinstance(newer, Decode)


def test_a_guess_that_heard_nearly_all_of_the_voice_is_a_trial_as_soon_as_it_pauses() -> None:
    hearing = Hearing()
    guess = begun(hearing, 1.4)
    hearing.decoded(guess.number, words("How are you", confidence=0.2))
    trial, shown = hearing.heard(1650 * MS, silence_ns=96 * MS)
    assert isinstance(trial, Decode) and trial.whole
    assert shown == Show("How are you", 0, trial=True)
    (again,) = hearing.decoded(trial.number, words("How are you?"))
    assert again == Show("How are you?", len("How are"), trial=True, again=True)
    assert hearing.ended(1900 * MS) == [Final(tuple(words("How are you?")))]


def test_a_guess_that_missed_the_end_of_the_voice_is_no_trial() -> None:
    hearing = Hearing()
    guess = begun(hearing, 1.0)
    hearing.decoded(guess.number, words("How are", confidence=0.2))
    (trial,) = hearing.heard(1350 * MS, silence_ns=96 * MS)
    assert isinstance(trial, Decode)
    (shown,) = hearing.decoded(trial.number, words("How are you?"))
    assert shown == Show("How are you?", len("How"), trial=True)


def test_a_guess_under_way_in_the_pause_is_a_trial_when_it_comes_back_and_settles_nothing() -> None:
    hearing = Hearing()
    hearing.decoded(begun(hearing, 1.5).number, words("I went to the"))
    guess = begun(hearing, 2.0)
    withdrawn, trial = hearing.heard(2100 * MS, silence_ns=96 * MS)
    assert withdrawn == Withdraw(guess.number)
    assert isinstance(trial, Decode)
    assert hearing.decoded(guess.number, words("I went to the banks"), heard_ns=2000 * MS) == [
        Show("I went to the banks", 0, trial=True)
    ]
    assert hearing.state is State.TRYING
    (shown,) = hearing.decoded(trial.number, words("I went to the bank."))
    assert shown == Show("I went to the bank.", len("I went to"), trial=True)


@pytest.mark.parametrize("ends", ["voice", "trial", "turn"])
def test_a_guess_that_comes_back_too_late_is_dropped(ends: str) -> None:
    hearing = Hearing()
    guess = begun(hearing, 1.4)
    trial = one(hearing.heard(1550 * MS, silence_ns=96 * MS), Decode)
    assert isinstance(trial, Decode)
    if ends == "voice":
        actions = hearing.heard(1600 * MS)
    elif ends == "trial":
        actions = hearing.decoded(trial.number, words("How are you?"))
    else:
        actions = hearing.ended(1600 * MS)
    assert one(actions, Drop) == Drop(guess.number)
    assert hearing.decoded(guess.number, words("How are")) == []


@dataclass
class Speaker:
    """Says words from a list for ever, one every 300 ms, and hears them as a recogniser would: wrong at the end."""

    rng: random.Random
    said: list[Spoken] = field(default_factory=list)

    def until(self, end_ns: int) -> list[Spoken]:
        while len(self.said) * 300 * MS < end_ns:
            at = len(self.said)
            word = self.rng.choice(["alpha", "bravo", "charlie.", "delta", "echo", "foxtrot"])
            begin = at * 300 * MS
            self.said.append(Spoken(f" {word}", (hash_of(word),), begin, begin + 250 * MS, 0.9))
        return self.said

    def heard(self, decode: Decode, end_ns: int) -> list[Spoken]:
        recent = self.until(end_ns)[max(0, decode.window_ns // (300 * MS) - 1) :]
        inside = [w for w in recent if w.end_ns <= end_ns and w.start_ns >= decode.window_ns - 100 * MS]
        if inside and self.rng.random() < 0.5:
            wrong = self.rng.choice(["alfa", "beta", "golf"])
            inside[-1] = Spoken(f" {wrong}", (hash_of(wrong),), inside[-1].start_ns, inside[-1].end_ns, 0.4)
        forced = inside[: len(decode.prefix)]
        assert tuple(token for word in forced for token in word.tokens) == decode.prefix
        return inside


def test_half_an_hour_without_a_pause_keeps_window_and_cost_small_and_loses_no_word() -> None:
    rng = random.Random(0)
    hearing, speaker = Hearing(), Speaker(rng)
    stable, longest, pending = "", 0, None
    for at in range(1, 30 * 60 * 1000 // 32):
        end_ns = at * 32 * MS
        actions = hearing.heard(end_ns)
        if pending is not None and end_ns >= pending[1]:
            decode = pending[0]
            pending = None
            actions = [*hearing.decoded(decode.number, speaker.heard(decode, end_ns), took_ns=100 * MS), *actions]
        for action in actions:
            if isinstance(action, Decode):
                pending = (action, end_ns + 100 * MS)
                longest = max(longest, end_ns - action.window_ns)
            elif isinstance(action, Show):
                assert action.text.startswith(stable)
                stable = action.text[: action.stable_chars]
    decode = one(hearing.ended(end_ns), Decode)
    assert isinstance(decode, Decode)
    (final,) = hearing.decoded(decode.number, [w for w in speaker.said if w.start_ns >= decode.window_ns])
    assert isinstance(final, Final)
    assert [word.text for word in final.words] == [word.text for word in speaker.said]
    assert longest < 12.5 * S


@pytest.mark.parametrize("seed", range(40))
def test_every_step_is_one_of_the_table_whatever_comes_when(seed: int) -> None:
    rng = random.Random(seed)
    hearing = Hearing(Rules(interval_ns=rng.choice([0, 200 * MS]), cuts=Cuts(limit_ns=6 * S)))
    end_ns, number, stable = 0, 0, ""
    for _ in range(400):
        before = hearing.state
        kind = rng.choice(list(HearingEvent) if before is not State.CLOSING else [HearingEvent.DECODED])
        if kind in (HearingEvent.VOICE, HearingEvent.PAUSE):
            end_ns += 32 * MS * rng.randint(1, 10)
            actions = hearing.heard(end_ns, 200 * MS if kind is HearingEvent.PAUSE else 0, behind=rng.random() < 0.3)
        elif kind is HearingEvent.END:
            actions = hearing.ended(end_ns)
        elif before in (State.GUESSING, State.TRYING, State.CLOSING):
            actions = hearing.decoded(number, words("one two three four", end_ns // MS - 1500), rng.random() < 0.9)
        else:
            assert hearing.decoded(number, words("stale")) == []
            continue
        assert hearing.state in TRANSITIONS[before, kind]
        for action in actions:
            if isinstance(action, Decode):
                number = action.number
            if isinstance(action, Show):
                assert action.text.startswith(stable)
                stable = action.text[: action.stable_chars]
            if isinstance(action, Final):
                assert text_of(action.words).startswith(stable)
                end_ns, stable = 0, ""


def test_every_state_can_be_left_and_reached() -> None:
    reached = set().union(*TRANSITIONS.values())
    assert reached | {State.QUIET} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_a_snapshot_goes_on_as_if_nothing_had_been() -> None:
    hearing = Hearing()
    hearing.decoded(begun(hearing, 1.5).number, words("I went to the"))
    hearing.decoded(begun(hearing, 2.0).number, words("I went to the bank"))
    begun(hearing, 2.5)
    other = Hearing()
    other.restore(hearing.snapshot())
    for each in (hearing, other):
        final = one(each.ended(3 * S), Decode)
        assert isinstance(final, Decode) and len(final.prefix) == 3
        assert each.decoded(final.number, words("I went to the bank.")) == [Final(tuple(words("I went to the bank.")))]


def test_the_page_that_explains_it_names_every_state() -> None:
    assert all(state.name in (streaming.__doc__ or "") for state in State)
