"""Several replicas of a stage come to what one comes to, whatever happens to them."""

from __future__ import annotations

import asyncio
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import require_package
from tests.deploy.cluster.test_restart import FAILING, kill, run
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.pipeline.file.plan import LOCAL, Plan
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import load_spec

REPLICAS, KEYED, CHAIN = (FAILING / name for name in ("replicas.yaml", "keyed.yaml", "replicas_chain.yaml"))


async def nothing(deployment: Deployment, sink: Any) -> None:
    pass


def several(words: list[str], seed: int = 0, least: int = 0, most: int = 3) -> list[str]:
    """What the stage `Several` makes of these words."""
    said = []
    for word in words:
        chance = random.Random(f"{seed}/{word}")
        for i in range(chance.randint(least, most)):
            chance.random()
            said.append(f"{word}/{i}")
    return said


def counted(n: int) -> list[str]:
    """What the stage `CountByDigit` says of the numbers below `n`, but for its end."""
    return [f"{i}:{i // 10 + 1}" for i in range(n)]


async def run_here(path: Path, values: dict[str, Any]) -> tuple[list[str], Outcome]:
    """As `run`, with every worker in this process, which starts faster: the links between them are the same."""
    texts = {name: str(value) for name, value in values.items()}
    spec = read_spec(path, texts)
    workers = {name: replace(worker, launcher=LOCAL) for name, worker in spec.plan.workers.items()}
    here = replace(spec, plan=Plan(workers, spec.plan.edges))
    deployment = Deployment(here, bundle_of(path, texts, traced=False), lambda _: None)
    sink: Any = deployment.hosts["local"].worker.actors["keep"].stage  # type: ignore[union-attr]
    async with asyncio.timeout(60):
        outcome = await deployment.run()
    return sink.texts, outcome


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    replicas=st.integers(2, 4),
    most=st.integers(0, 12),
    pause=st.integers(0, 4),
    transport=st.sampled_from(["auto", "grpc"]),
)
def test_with_any_delays_and_any_numbers_of_outputs_replicas_give_what_one_gives(
    seed: int, replicas: int, most: int, pause: int, transport: str
) -> None:
    require_package("grpc", "grpc")
    values = {"seed": seed, "replicas": replicas, "most": most, "pause": pause, "transport": transport, "n": 40}
    texts, outcome = asyncio.run(run_here(REPLICAS, {**values, "gap": 0}))
    assert texts == several([str(i) for i in range(40)], seed=seed, most=most)
    assert outcome.problems == []


def test_the_work_is_shared_and_the_report_names_each_replica() -> None:
    texts, outcome = asyncio.run(run(REPLICAS, {"replicas": 2, "least": 1, "most": 1}, nothing))
    assert texts == several([str(i) for i in range(100)], least=1, most=1)
    done = {name: told["units"] for name, told in outcome.stages.items()}
    assert done["work (pool.1)"] + done["work (pool.2)"] == done["work-split"] == 100
    assert min(done["work (pool.1)"], done["work (pool.2)"]) > 10


def test_a_key_always_meets_the_same_replica_and_its_state() -> None:
    texts, outcome = asyncio.run(run(KEYED, {}, nothing))
    assert texts[:100] == counted(100)
    assert sorted(texts[100:]) == [f"{digit} came 10 times" for digit in range(10)]
    assert outcome.problems == []


@pytest.mark.parametrize("victims", [["pool.1"], ["pool.2", "pool.1"], ["front+pool.1", "back+pool.2"]])
def test_when_replicas_or_their_neighbours_are_killed_nothing_is_lost_doubled_or_out_of_order(
    victims: list[str],
) -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        for at_once in victims:
            await sink.has(len(sink.texts) + 80)
            for worker in at_once.split("+"):
                kill(deployment, worker)

    texts, outcome = asyncio.run(run(CHAIN, {}, meddle))
    totals = [f"{i}:{i * (i + 1) // 2}" for i in range(300)]
    assert texts == [text for text in several([*totals, "end:44850"]) for _ in range(2)]
    assert sorted(p.stage for p in outcome.problems) == sorted("+".join(victims).split("+"))


def test_a_killed_replica_of_a_keyed_stage_goes_on_with_its_counts() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        for worker in ("pool.1", "pool.2", "pool.3"):
            await sink.has(len(sink.texts) + 50)
            kill(deployment, worker)

    texts, _ = asyncio.run(run(KEYED, {"n": 300, "gap": 4}, meddle))
    assert texts[:300] == counted(300)
    assert sorted(texts[300:]) == [f"{digit} came 30 times" for digit in range(10)]


def test_an_operator_can_restart_a_replica_and_it_is_no_problem_of_the_run() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(60)
        await deployment.restart("pool.2")

    texts, outcome = asyncio.run(run(REPLICAS, {"n": 300, "gap": 4}, meddle))
    assert texts == several([str(i) for i in range(300)])
    assert outcome.problems == []


def test_a_replica_that_stays_dead_costs_what_it_had_in_hand_and_the_others_take_over() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(60)
        kill(deployment, "pool.2")

    values = {"n": 300, "gap": 3, "least": 1, "most": 1, "restart": "never"}
    texts, outcome = asyncio.run(run(REPLICAS, values, meddle))
    numbers = [int(text.partition("/")[0]) for text in texts]
    assert numbers == sorted(set(numbers))
    assert 300 - 8 <= len(numbers) <= 300
    assert numbers[-1] == 299
    assert any("it is not started again: its policy is `restart: never`" in p.message for p in outcome.problems)


def test_frames_in_hand_of_a_killed_replica_are_lost_and_the_rest_goes_on_in_order() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(60)
        kill(deployment, "pool.1", signal.SIGSTOP)
        await asyncio.sleep(0.3)  # so that it has something in hand
        kill(deployment, "pool.1")

    values = {"n": 300, "gap": 5, "least": 1, "most": 1, "delivery": "newest"}
    texts, _ = asyncio.run(run(REPLICAS, values, meddle))
    numbers = [int(text.partition("/")[0]) for text in texts]
    assert numbers == sorted(set(numbers))
    assert 300 - 8 <= len(numbers) < 300
    assert numbers[-1] == 299


def test_of_a_latest_edge_each_replica_gets_the_newest_when_it_is_ready() -> None:
    values = {"n": 200, "gap": 2, "least": 1, "most": 1, "pause": 40, "policy": "latest", "replicas": 2}
    texts, outcome = asyncio.run(run(REPLICAS, values, nothing))
    numbers = [int(text.partition("/")[0]) for text in texts]
    assert numbers == sorted(set(numbers))
    told = outcome.channels["count.text -> work-split.text"]
    assert told["drops"]["superseded"] == 200 - len(numbers) > 50
    assert numbers[-1] == 199


IN_ROWS = """
stages:
  count: {use: "failing_stages:Count", n: 60, gap_ms: 0}
  work: {use: "replicated_stages:Several", least: LEAST}
  slow: {use: "replicated_stages:Slowly"}
  again: {use: "replicated_stages:Several", seed: 1}
  aside: {use: "failing_stages:Keep"}
  keep: {use: "failing_stages:Keep"}
connections:
  - count -> work -> slow -> again -> keep
  - work -> aside
workers: {pool: {launcher: subprocess, replicas: 2}, pond: {launcher: subprocess, replicas: 3}}
placement: {work: pool, slow: pool, again: pond}
"""


@pytest.mark.parametrize("least", [0, 3])
def test_stages_in_a_row_inside_a_replica_and_in_replicas_behind_it_keep_their_order(
    least: int, tmp_path: Path
) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text(IN_ROWS.replace("LEAST", str(least)))
    read_spec(REPLICAS, {})  # so that its stages can be found
    texts, outcome = asyncio.run(run_here(file, {}))
    words = several([str(i) for i in range(60)], least=least)
    assert texts == several(words, seed=1)
    assert outcome.stages["aside"]["units"] == len(words)
    assert outcome.problems == []


def test_between_two_replicated_workers_order_is_restored_where_the_first_gets_its_packets(tmp_path: Path) -> None:
    read_spec(REPLICAS, {})  # so that its stages can be found
    spec = load_spec(IN_ROWS.replace("LEAST", "0"), "rows.yaml")
    assert {name: worker.stages for name, worker in spec.plan.workers.items()} == {
        "local": ("count", "aside", "keep", "work-split", "slow-merge", "again-split", "again-merge", "work-merge"),
        "pool.1": ("work", "slow"),
        "pool.2": ("work", "slow"),
        "pond.1": ("again",),
        "pond.2": ("again",),
        "pond.3": ("again",),
    }
    assert list(spec.graph.stages) == ["count", "work", "slow", "again", "aside", "keep"]


INTERRUPTED = """
stages:
  talk: {use: "tests.deploy.failing.replicated_stages:TalkAndInterrupt"}
  work: {use: "tests.deploy.failing.replicated_stages:Slowly"}
  keep: {use: "tests.deploy.failing.replicated_stages:Heard"}
connections: [talk -> work -> keep]
workers: {pool: {replicas: 2}}
placement: {work: pool}
"""


def test_after_an_interrupt_nothing_of_an_older_turn_comes_and_the_new_turn_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "interrupted.yaml"
    file.write_text(INTERRUPTED)
    texts, outcome = asyncio.run(run(file, {}, nothing))
    floor = 0
    for text in texts:
        kind, _, epoch = text.partition(" ")
        floor = max(floor, int(epoch)) if kind == "interrupt" else floor
        assert int(epoch) >= floor
    interrupts = [text for text in texts if text.startswith("interrupt")]
    assert interrupts == [f"interrupt {epoch}" for epoch in range(2, 7)]
    assert texts.count("word 6") == 8
    assert outcome.problems == []


REFUSED = """
stages:
  count: {use: "failing_stages:Count"}
  work: {use: "replicated_stages:Slowly"}
  again: {use: "replicated_stages:CountByDigit"}
  keep: {use: "failing_stages:Keep"}
connections: [count -> work -> again -> keep]
workers: {pool: {launcher: subprocess, replicas: 2}}
placement: {work: pool}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stages:Slowly", "stages:Plain", "stage 'work' (replicated_stages:Plain) cannot have replicas: it may keep"),
        ("launcher: subprocess", "launcher: local", "a local worker is this process, of which there is only one"),
        ("replicas: 2", "replicas: 0", "replicas: expected a whole number from 1 to 64, found 0"),
        ("replicas: 2", "replicas: many", "replicas: expected a whole number from 1 to 64, found 'many'"),
        (
            "work: pool",
            "work: pool, again: pool",
            "stage 'again' (replicated_stages:CountByDigit) cannot have repl",
        ),
        ("work: pool", "work: pool, again: pool.2", "its replica 2 would be called as another worker, pool.2"),
        ("  again:", "  work-split: {use: sink.console}\n  again:", "its splitter and merger are called, are taken"),
    ],
)
def test_what_cannot_have_replicas_is_refused_with_the_stage_and_what_to_do(old: str, new: str, message: str) -> None:
    read_spec(REPLICAS, {})  # so that its stages can be found
    text = REFUSED.replace(old, new)
    if "pool.2" in new:
        text = text.replace("workers: {", "workers: {pool.2: {}, ")
    with pytest.raises(SpecError) as caught:
        load_spec(text, "refused.yaml")
    assert message in str(caught.value)
