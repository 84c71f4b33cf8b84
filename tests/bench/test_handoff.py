"""`thalweg bench handoff` runs, and its rows have the names that docs/benchmarks/handoff.md quotes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from thalweg.deploy.bench import BenchError, run_bench
from thalweg.deploy.bench.language.deaths import TurnHeard
from thalweg.deploy.bench.language.gaps import long_answers, turns_of
from thalweg.deploy.bench.language.links import State, World, converse, draw
from thalweg.deploy.bench.language.quality import SHIPPED, learned
from thalweg.deploy.bench.language.recording import CLOUD, EDGE, FOG, PROMPTS, recorded, templates
from thalweg.deploy.bench.result import OURS, quantile
from thalweg.pipeline.handoff.quality import categories
from thalweg.stages.language.pool.expected import known


def rows(part: str, folder: Path) -> dict[tuple[str, str, str], float]:
    result = run_bench("handoff", folder / "b.json", quick=True, part=part)
    return {(row.case, row.system, row.metric): row.value for row in result.rows}


def test_what_is_heard_when_a_backend_falls_silent_is_at_most_a_breath() -> None:
    for continues, at_most_ms in (("prefix", 200), ("instruct", 300)):
        gaps = [turn.gap_ms for turn in turns_of(long_answers(), "stalls", 20, continues, 200)]
        assert quantile(gaps, 0.5) == 0
        assert quantile(gaps, 0.95) <= at_most_ms


def test_what_is_known_of_latency_covers_what_comes(tmp_path: Path) -> None:
    found = rows("learning", tmp_path)
    assert all(90 <= found[link, "thalweg", "covered"] <= 99 for link in ("near", "far", "mobile", "busy"))
    assert ("far, × 4", "thalweg", "learned") in found


def test_a_cloud_that_was_too_far_away_for_a_while_is_found_to_be_back() -> None:
    near, far = State(), State(1500)
    turns = draw([*[near] * 10, *[far] * 15, *[near] * 40], 3)
    world = World.of(turns)
    answers = converse(world, f"{OURS}-unhedged", turns)
    cloud = recorded()[CLOUD]
    by_cloud = [a.text == "".join(cloud[t.question]["tokens"][:40]) for a, t in zip(answers, turns, strict=True)]
    assert sum(by_cloud[-15:]) >= 10


def test_answers_can_be_told_apart_and_the_risk_is_kept(tmp_path: Path) -> None:
    found = rows("cascade", tmp_path)
    assert found["score", "thalweg", "low_95"] > 0.65, "else the cascade would have to be switched off"
    apart = [found["audit, surest 55%", "thalweg", f"apart_of_{which}"] for which in ("wrong", "right")]
    assert apart[0] > 70 and apart[1] < 15, "audits tell them apart"
    assert found["risk ≤ 0.1", "thalweg", "risk"] < found["risk ≤ 0.1", "random", "risk"]


@pytest.mark.real
def test_of_templates_that_it_has_not_met_it_is_told_which_the_small_model_answers_rightly(tmp_path: Path) -> None:
    found = rows("quality", tmp_path)
    assert all(found[f"{model}, unseen", "thalweg", "auroc"] >= 0.65 for model in SHIPPED), "else it is not shipped"
    assert all(found[f"{model}, unseen", "thalweg", "low_95"] > 0.5 for model in SHIPPED)


def test_what_was_learned_of_questions_is_of_the_model_that_could_be_told_apart() -> None:
    assert known().keys() == set(SHIPPED)
    assert [len(found.embedding) for found in known().values()] == [384]


def test_what_is_learned_ranks_questions_of_a_kind_by_that_kind_and_by_what_they_are_about() -> None:
    rng = np.random.default_rng(1)
    about = rng.normal(size=(400, 384)) / 20
    counts = np.array([categories("How many are there?" if n % 2 else "Who is it?") for n in range(400)])
    right = (about[:, 0] * 20 + counts[:, 0] - 2.0 * (np.arange(400) % 2) + rng.normal(size=400) > -1).astype(float)
    told = learned(about, counts, right)
    assert told.of("Who is it?", about[0].tolist()) > told.of("How many are there?", about[0].tolist())


def test_whoever_only_pings_is_left(tmp_path: Path) -> None:
    require_package("httpx", "language")
    found = rows("pings", tmp_path)
    assert all(found[fault, "thalweg", "late_p50"] >= 0 for fault in ("pings", "roles", "spaces", "black hole"))


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"it has deaths, gaps, pings, .*, live, record, calibrate"):
        rows("lives", tmp_path)


def test_all_that_is_asked_was_recorded() -> None:
    found = recorded()
    asked = {question for group in templates().values() for question in group}
    assert asked <= found[EDGE].keys() and asked | set(PROMPTS) <= found[CLOUD].keys()
    more = (templates("more_templates"), templates("unseen_templates"))
    asked |= {question for groups in more for group in groups.values() for question in group}
    assert asked <= found[EDGE].keys() & found[FOG].keys()


def test_silence_between_sentences_is_heard_as_a_gap() -> None:
    tokens = [(0.0, "The moon is a world. "), (100.0, "It goes round the earth. "), (9000.0, "It is small. ")]
    speech = TurnHeard(tokens).spoken()
    assert speech.first_ms == 5 * 40
    assert 5000 < speech.gap_ms < 9000
