"""How many bits: up to what the viewer needs, never above what the network takes, whatever either of them says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.video.rate_control import PUBLISHED_CONFIDENCE, TIERS_BPS, RateChoice, RateController

S = 1_000_000_000
AMPLE = 5_000_000


def watch(controller: RateController, needs_bps: float, seconds: int, ceiling: int = AMPLE) -> list[RateChoice]:
    """A viewer that is sure from `needs_bps` on, and answers twice a second about what was decided before."""
    made = [controller.decide(ceiling, 0)]
    for i in range(1, 2 * seconds):
        now = i * S // 2
        controller.answer(0.95 if made[-1].bitrate_bps >= needs_bps else 0.4, made[-1].bitrate_bps, now)
        made.append(controller.decide(ceiling, now))
    return made


def published(bitrate_bps: int) -> float:
    return float(np.interp(bitrate_bps, TIERS_BPS, PUBLISHED_CONFIDENCE))


def test_it_begins_at_the_lowest_tier() -> None:
    assert RateController().decide(AMPLE, 0).bitrate_bps == TIERS_BPS[0]


def test_with_the_published_curve_it_settles_where_confidence_saturates_and_leaves_the_headroom() -> None:
    controller, rates = RateController(patience_s=1e6), []
    for i in range(60):
        choice = controller.decide(AMPLE, i * S // 2)
        controller.answer(published(choice.bitrate_bps), choice.bitrate_bps, i * S // 2)
        rates.append(choice.bitrate_bps)
    assert 380_000 <= rates[-1] <= 620_000
    assert len(set(rates[20:])) == 1


@pytest.mark.parametrize("needs", [350_000, 800_000, 2_500_000])
def test_it_climbs_until_the_viewer_is_sure(needs: int) -> None:
    made = watch(RateController(patience_s=1e6), needs, 20)
    assert needs <= made[-1].bitrate_bps <= 2.2 * needs


def test_the_ceiling_of_the_network_is_never_exceeded() -> None:
    made = watch(RateController(), 2_500_000, 20, ceiling=300_000)
    assert max(choice.bitrate_bps for choice in made) <= 300_000


def test_when_the_network_has_recovered_it_goes_back_to_what_was_enough_at_once() -> None:
    controller = RateController(patience_s=1e6)
    before = watch(controller, 800_000, 20)[-1].bitrate_bps
    low = controller.decide(150_000, 20 * S)
    controller.answer(0.3, low.bitrate_bps, 20 * S + S // 2)
    assert low.bitrate_bps == 150_000
    assert controller.decide(AMPLE, 21 * S).bitrate_bps >= 0.8 * before


def test_it_probes_down_and_comes_back_where_that_is_too_little() -> None:
    made = watch(RateController(patience_s=2.0), 600_000, 60)
    assert {"probe", "probe failed"} <= {choice.why for choice in made}
    shares = [choice.bitrate_bps >= 600_000 for choice in made[20:]]
    assert sum(shares) / len(shares) > 0.75


def test_probes_become_rarer_when_they_fail() -> None:
    made = watch(RateController(patience_s=2.0), 600_000, 120)
    probes = [i for i, choice in enumerate(made) if choice.why == "probe"]
    gaps = np.diff(probes)
    assert gaps[-1] > gaps[0]


def test_a_viewer_that_always_says_perfect_is_brought_to_the_lowest_tier() -> None:
    controller = RateController(patience_s=1.0)
    watch(controller, 800_000, 10)
    made = watch(controller, 0, 60)
    assert made[-1].bitrate_bps == TIERS_BPS[0]


def test_a_viewer_that_never_answers_gets_what_the_prior_calls_enough() -> None:
    controller = RateController(patience_s=2.0)
    made = [controller.decide(AMPLE, i * S) for i in range(10)]
    assert made[1].why == "waiting" and made[-1].why == "no answer"
    assert made[-1].bitrate_bps == pytest.approx(400_000, rel=0.05)


def test_a_new_question_forgets_what_the_last_one_needed() -> None:
    controller = RateController(patience_s=1e6)
    watch(controller, 2_500_000, 20)
    controller.ask()
    assert controller.believed(400_000) == pytest.approx(0.804)


def test_zero_bandwidth_is_a_trickle() -> None:
    choice = RateController().decide(0, 0)
    assert choice.bitrate_bps == 1_000 and choice.scale <= 1.0


def test_a_narrow_link_gets_a_smaller_picture_after_a_while_and_only_once() -> None:
    controller = RateController()
    scales = [controller.decide(15_000, i * S // 2).scale for i in range(20)]
    assert scales[0] == 1.0 and scales[-1] < 1.0
    assert sum(a != b for a, b in pairwise(scales)) == 1


def test_a_wide_link_gets_more_frames_than_the_viewer_consumes() -> None:
    assert RateController().decide(AMPLE, 0, frames_per_s=4.0).rate == pytest.approx(10.0)
    assert RateController().decide(20_000, 0, frames_per_s=4.0).rate == 4.0


@given(
    st.lists(
        st.tuples(st.integers(-(10**12), 10**12), st.integers(-5, 10**8), st.floats(), st.integers(0, 10**8)),
        max_size=60,
    )
)
def test_whatever_is_said_and_whatever_the_clock_does_the_choice_is_one(
    events: list[tuple[int, int, float, int]],
) -> None:
    controller = RateController()
    for now, ceiling, confidence, about in events:
        controller.answer(confidence, about, now)
        choice = controller.decide(ceiling, now)
        assert 1_000 <= choice.bitrate_bps <= max(1_000, ceiling)
        assert 2.0 <= choice.rate <= 10.0 and 0.25 <= choice.scale <= 1.0


def test_tiers_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="expected rising rates"):
        RateController(tiers_bps=(2, 1), prior=(0.1, 0.2))
