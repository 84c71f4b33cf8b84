"""A reply over several backends: each race by its name, and what holds whatever comes when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.pipeline.handoff.answering import (
    PACE,
    ROUNDS,
    Action,
    Answering,
    AskBackend,
    Cancel,
    End,
    GiveUp,
    ReplyLimits,
    ReplyState,
    Say,
)


def begun(order: tuple[str, ...] = ("edge", "cloud"), **limits: float) -> Answering:
    reply = Answering(order, ReplyLimits(**limits), needs_ms=lambda backend: 800.0)
    assert reply.begin(0) == [AskBackend(order[0])]
    return reply


def spoken(actions: list[Action]) -> str:
    return "".join(action.text for action in actions if isinstance(action, Say))


def test_words_go_out_whole_as_they_come() -> None:
    reply = begun()
    assert spoken(reply.text("edge", "It is Par", 100)) == "It is "
    assert spoken(reply.text("edge", "is. ", 200)) == "Paris. "
    assert reply.finished("edge", 300) == [End()]


def test_a_backend_that_dies_in_mid_word_is_followed_by_another_that_is_told_what_was_said() -> None:
    reply = begun()
    reply.text("edge", "It is in Par", 100)
    assert reply.failed("edge", "connection reset", 200) == [AskBackend("cloud", "It is in ")]
    assert spoken(reply.text("cloud", "Paris, ", 900)) == "Paris, "
    assert spoken(reply.finished("cloud", 1000)) == ""
    assert reply.said == "It is in Paris, "
    assert reply.switches == 1


def test_a_late_token_of_the_loser_goes_nowhere() -> None:
    reply = begun()
    reply.text("edge", "It is in ", 100)
    reply.failed("edge", "reset", 200)
    reply.text("cloud", "Paris. ", 900)
    assert reply.text("edge", "Lyon. ", 901) == []
    assert reply.finished("edge", 902) == []


def test_a_silent_backend_is_left_alone_as_long_as_there_is_sound_to_play() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in ", 100)
    assert reply.buffered(3000, 700) == []
    assert reply.passed(2500) == []  # 1,200 ms are left, the other needs 800
    assert reply.passed(2950) == [AskBackend("cloud", "It is in ")]


def test_where_the_sound_is_about_to_end_a_short_silence_is_too_long() -> None:
    reply = begun(stall_ms=1500)
    reply.text("edge", "It is in ", 100)
    assert reply.buffered(600, 200) == []
    assert reply.due_ms(200) == 350
    assert reply.passed(349) == []
    assert reply.passed(350) == [AskBackend("cloud", "It is in ")]


def test_one_that_has_paused_and_gone_on_is_given_twice_that_pause() -> None:
    reply = begun(stall_ms=1500)
    reply.text("edge", "It is ", 100)
    reply.buffered(700, 200)
    reply.text("edge", "in ", 300)
    reply.text("edge", "Paris ", 500)
    assert reply.passed(899) == []
    assert reply.passed(900) == [AskBackend("cloud", "It is in Paris ")]


def test_of_one_whose_pace_is_known_a_shorter_silence_is_too_long() -> None:
    reply = begun(stall_ms=1500)
    for n in range(PACE + 1):
        reply.text("edge", "word ", 100 + 40 * n)
    last = 100 + 40 * PACE
    assert reply.buffered(600, last + 99) == []
    assert reply.due_ms(last + 99) == last + 100
    (asked,) = reply.passed(last + 100)
    assert asked == AskBackend("cloud", "word " * (PACE + 1))
    for known_ms, too_long_ms in ((20.0, 100), (80.0, 160)):
        reply = Answering(("edge", "cloud"), ReplyLimits(stall_ms=1500), paused_ms={"edge": known_ms}.__getitem__)
        reply.begin(0)
        reply.text("edge", "It is in ", 100)
        assert reply.buffered(0, 100 + too_long_ms - 1) == []
        assert reply.passed(100 + too_long_ms) == [AskBackend("cloud", "It is in ")]


def test_tokens_that_come_in_one_packet_tell_no_pace() -> None:
    for known_ms in (0.0, 0.2):
        reply = Answering(
            ("edge", "cloud"), ReplyLimits(stall_ms=1500), paused_ms=lambda _, known_ms=known_ms: known_ms
        )
        reply.begin(0)
        for n in range(PACE + 1):
            reply.text("edge", "word ", 100 + 0.1 * n)
        assert reply.buffered(0, 340) == []
        assert reply.passed(352) == [AskBackend("cloud", "word " * (PACE + 1))]


def test_pauses_of_earlier_answers_count_and_never_for_more_than_a_stall() -> None:
    reply = Answering(("edge", "cloud"), ReplyLimits(stall_ms=1500), paused_ms=lambda backend: 2000.0)
    reply.begin(0)
    reply.text("edge", "It is in ", 100)
    assert reply.buffered(0, 1599) == []
    assert reply.passed(1600) == [AskBackend("cloud", "It is in ")]


def test_where_nobody_tells_how_much_there_is_to_hear_only_a_stall_is_too_long() -> None:
    reply = begun(stall_ms=1500)
    reply.text("edge", "It is in ", 100)
    assert reply.passed(1599) == []
    assert reply.passed(1600) == [AskBackend("cloud", "It is in ")]


def test_beside_one_that_is_never_asked_beside_another_only_a_stall_is_too_long() -> None:
    reply = Answering(("edge", "cloud"), ReplyLimits(stall_ms=1500), alone=("cloud",))
    reply.begin(0)
    reply.text("edge", "It is in ", 100)
    assert reply.buffered(0, 1599) == []
    assert reply.passed(1600) == [AskBackend("cloud", "It is in ")]


def test_one_that_was_only_slow_goes_on_and_the_other_is_cancelled() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in Par", 100)
    assert reply.passed(700) == [AskBackend("cloud", "It is in ")]
    assert reply.text("edge", "is. ", 800) == [Cancel("cloud"), Say("Paris. ")]
    assert reply.text("cloud", "Paris. ", 900) == []
    assert reply.switches == 0


def test_pings_do_not_keep_a_backend_alive_that_gives_no_word() -> None:
    reply = begun(first_ms=1000)
    for now in range(0, 1000, 100):
        reply.alive("edge", now)
        assert reply.passed(now) == []
    reason = "it gave no word within 1000 ms, only signs of life"
    assert reply.passed(1000) == [Cancel("edge", reason), AskBackend("cloud")]


def test_white_space_for_ever_is_no_word() -> None:
    reply = begun(first_ms=1000)
    for now in range(0, 1000, 100):
        assert reply.text("edge", " ", now) == []
    assert reply.passed(1000)[-1] == AskBackend("cloud")


def test_one_that_falls_silent_and_has_nobody_behind_it_is_given_up_once_nothing_is_left_to_hear() -> None:
    reply = begun(("edge",), stall_ms=500, first_ms=1000)
    reply.text("edge", "It is in ", 100)
    assert reply.buffered(3000, 700) == []
    assert reply.passed(3699) == []
    reason = "it fell silent in mid-answer, for 500 ms and longer"
    assert reply.passed(3700) == [Cancel("edge", reason), GiveUp(f"edge: {reason}")]


def test_where_the_one_that_was_to_take_over_is_dead_too_the_next_is_asked() -> None:
    reply = begun(("cloud", "fog", "edge"), stall_ms=500, first_ms=1000)
    reply.text("cloud", "It is in ", 100)
    assert reply.passed(600) == [AskBackend("fog", "It is in ")]
    assert reply.failed("fog", "refused", 700) == [AskBackend("edge", "It is in ")]
    assert spoken(reply.text("edge", "Paris. ", 800)) == "Paris. "
    assert reply.switches == 1


def test_one_that_was_not_needed_is_asked_again_when_the_winner_breaks_off() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in ", 100)
    assert reply.passed(600) == [AskBackend("cloud", "It is in ")]
    assert reply.text("edge", "Paris, which ", 700) == [Cancel("cloud"), Say("Paris, which ")]
    assert reply.failed("edge", "reset", 800) == [AskBackend("cloud", "It is in Paris, which ")]


def test_white_space_of_a_silent_one_is_no_word_either_and_does_not_keep_another_from_taking_over() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in ", 100)
    assert reply.passed(600) == [AskBackend("cloud", "It is in ")]
    for now in range(700, 1200, 100):
        assert reply.text("edge", " ", now) == []
    assert spoken(reply.text("cloud", "Paris. ", 1200)) == "Paris. "
    assert reply.speaker == "cloud"


def test_white_space_behind_half_a_word_does_not_make_it_a_word() -> None:
    reply = begun()
    assert spoken(reply.text("edge", "It is Par", 100)) == "It is "
    assert reply.text("edge", " ", 200) == []
    assert reply.failed("edge", "reset", 300) == [AskBackend("cloud", "It is ")]


def test_white_space_of_a_silent_one_that_speaks_again_is_not_lost() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in Paris,", 100)
    reply.passed(600)
    reply.text("edge", " ", 700)
    assert spoken(reply.text("edge", "which ", 800)) == "Paris, which "


def test_one_that_has_nothing_to_add_ends_an_answer_behind_a_sentence_and_has_failed_within_one() -> None:
    for said, then in (("It is Paris. ", End()), ("It is ", AskBackend("fog", "It is "))):
        reply = begun(("edge", "cloud", "fog"))
        reply.text("edge", said, 100)
        reply.failed("edge", "reset", 200)
        assert reply.finished("cloud", 300) == [then]


def test_nobody_is_asked_to_take_over_from_itself() -> None:
    reply = begun(("edge", "edge"), stall_ms=500, first_ms=1000)
    reply.text("edge", "It is in ", 100)
    assert reply.passed(600) == []
    assert isinstance(reply.passed(1600)[-1], GiveUp)


def test_one_that_stalled_and_lost_is_cancelled_with_the_reason() -> None:
    reply = begun(stall_ms=500)
    reply.text("edge", "It is in ", 100)
    reply.passed(600)
    (cancelled, _) = reply.text("cloud", "Paris. ", 700)
    assert cancelled == Cancel("edge", "it fell silent in mid-answer, for 500 ms and longer")


def test_a_clock_that_jumps_back_loses_no_word() -> None:
    reply = begun(stall_ms=500)
    assert spoken(reply.text("edge", "It is in ", 10_000)) == "It is in "
    assert reply.passed(50) == []
    assert spoken(reply.text("edge", "Paris. ", 60)) == "Paris. "
    assert reply.due_ms(60) >= 60


def test_thinking_keeps_a_backend_from_being_silent() -> None:
    reply = begun(first_ms=1000)
    reply.alive("edge", 900, thinking=True)
    assert reply.passed(1500) == []


def test_a_hedge_asks_a_second_and_the_first_clause_wins() -> None:
    reply = begun(hedge_ms=300.0)
    assert reply.passed(299) == []
    assert reply.passed(300) == [AskBackend("cloud")]
    assert reply.text("edge", "It may ", 390) == []
    assert reply.text("cloud", "It is ", 400) == []
    assert reply.text("cloud", "Paris. ", 410) == [Cancel("edge"), Say("It is Paris. ")]
    assert reply.text("edge", "be Lyon. ", 420) == []
    assert reply.hedges == 1


def test_what_the_one_that_is_left_of_a_hedge_has_said_so_far_goes_out_at_once() -> None:
    reply = begun(hedge_ms=300.0)
    reply.passed(300)
    assert reply.text("edge", "It is ", 400) == []
    assert reply.failed("cloud", "reset", 410) == [Say("It is ")]
    assert spoken(reply.text("edge", "Paris. ", 420)) == "Paris. "


def test_an_answer_shorter_than_a_clause_wins_a_hedge_by_its_end() -> None:
    reply = begun(hedge_ms=300.0)
    reply.passed(300)
    assert reply.text("edge", "Paris", 400) == []
    assert reply.finished("edge", 410) == [Cancel("cloud"), Say("Paris"), End()]


def test_a_clause_wins_a_hedge_in_a_script_without_spaces_too() -> None:
    for clause in ("是巴黎，", "法国的首都是巴黎它在塞纳"):
        reply = begun(hedge_ms=300.0)
        reply.passed(300)
        assert reply.text("edge", clause[:2], 400) == []
        assert reply.text("edge", clause[2:], 410)[0] == Cancel("cloud")


def test_both_of_a_hedge_failing_gives_up_with_the_reasons_of_both() -> None:
    reply = begun(hedge_ms=300.0)
    reply.passed(300)
    assert reply.failed("edge", "reset", 400) == []
    assert reply.failed("cloud", "503", 500) == [GiveUp("edge: reset; cloud: 503")]


def test_an_interruption_during_a_switch_cancels_who_is_under_way() -> None:
    reply = begun()
    reply.text("edge", "It is ", 100)
    reply.failed("edge", "reset", 200)
    assert reply.stop() == [Cancel("cloud")]
    assert reply.text("cloud", "Paris. ", 300) == []


def test_an_empty_answer_is_no_answer() -> None:
    reply = begun()
    assert reply.finished("edge", 100) == [AskBackend("cloud")]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["text", "failed", "finished", "alive", "passed", "buffered"]),
            st.sampled_from(["a", "b", "c", "d"]),
            st.integers(0, 3000),
        ),
        max_size=40,
    )
)
def test_whatever_comes_when_a_reply_ends_once_and_only_backends_that_were_asked_are_cancelled(
    events: list[tuple[str, str, int]],
) -> None:
    reply = Answering(("a", "b", "c"), ReplyLimits(first_ms=2000, stall_ms=500, hedge_ms=1000))
    actions = reply.begin(0)
    now = 0
    for name, backend, wait in events:
        now += wait
        if name == "text":
            actions += reply.text(backend, f"word{now} ", now)
        elif name == "failed":
            actions += reply.failed(backend, "why", now)
        elif name == "buffered":
            actions += reply.buffered(wait, now)
        elif name == "passed":
            actions += reply.passed(now)
            assert reply.over or reply.due_ms(now) > now, "what was due is done"
        else:
            actions += getattr(reply, name)(backend, now)
    asked = [action.backend for action in actions if isinstance(action, AskBackend)]
    assert all(asked.count(name) <= 1 + ROUNDS for name in asked), "nobody is asked for ever"
    assert {action.backend for action in actions if isinstance(action, Cancel)} <= set(asked)
    ends = [action for action in actions if isinstance(action, End | GiveUp)]
    assert len(ends) == (reply.state in (ReplyState.DONE, ReplyState.FAILED))
    assert not ends or actions[-1] is ends[0]
    assert spoken(actions) == reply.said
