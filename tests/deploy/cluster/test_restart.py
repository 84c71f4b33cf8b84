"""A worker dies and comes back: nothing that may not be lost is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.conftest import require_package
from thalweg.deploy.__main__ import cli
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.errors import StartError
from thalweg.deploy.ops.observing.outcome import Outcome
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.pipeline.file.spec import Spec

FAILING = Path(__file__).parents[1] / "failing"
CHAIN = FAILING / "chain.yaml"

Meddle = Callable[[Deployment, Any], Awaitable[None]]


def spec_and_bundle(path: Path, settings: dict[str, str]) -> tuple[Spec, Bundle]:
    """What a deployment of a pipeline file is made of."""
    return read_spec(path, settings), bundle_of(path, settings, traced=False)


async def run(path: Path, settings: dict[str, Any], meddle: Meddle, within_s: float = 60) -> tuple[list[str], Outcome]:
    """Run a pipeline, meddling with it while it runs. What its sink `keep` was given, and the outcome."""
    texts = {name: str(value) for name, value in settings.items()}
    deployment = Deployment(*spec_and_bundle(path, texts), lambda _: None)
    sink: Any = deployment.hosts["local"].worker.actors["keep"].stage  # type: ignore[union-attr]
    async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
        running = group.create_task(deployment.run())
        await deployment.ready.wait()
        await meddle(deployment, sink)
    return sink.texts, running.result()


def kill(deployment: Deployment, worker: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the process of a worker."""
    os.kill(deployment.hosts[worker].pid, number)  # type: ignore[union-attr]


def summed(n: int) -> list[str]:
    """What `chain.yaml` comes to when nothing goes wrong."""
    totals = [f"{i}:{i * (i + 1) // 2}" for i in range(n)]
    return [text for text in [*totals, f"end:{n * (n - 1) // 2}"] for _ in range(2)]


@pytest.mark.parametrize(
    ("worker", "unharmed"),
    [
        ("middle", True),
        ("last", False),  # its stage has no snapshot, and nobody can know whether it has kept something
    ],
)
def test_a_killed_worker_comes_back_and_no_packet_is_lost_or_doubled(worker: str, unharmed: bool) -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, worker)

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert [p.stage for p in outcome.problems] == [worker]
    assert "was killed by SIGKILL; it was started again" in outcome.problems[0].message
    assert outcome.unharmed is unharmed


def test_a_run_that_recovered_with_nothing_lost_is_a_success_and_its_report_says_what_it_recovered_from(
    tmp_path: Path,
) -> None:
    file, report = tmp_path / "chain.yaml", tmp_path / "report.json"
    stage = f'failing_stages:DiesOnce", at: 20, mark: "{tmp_path}/died"'
    file.write_text(CHAIN.read_text().replace('failing_stages:Sum"', stage))
    sys.path.append(str(FAILING))
    ran = CliRunner().invoke(cli, ["run", str(file), "--set", "n=40", "--report", str(report)])
    told = json.loads(report.read_text())
    assert ran.exit_code == 0
    assert [(error["stage"], error["recovered"]) for error in told["errors"]] == [("middle", True)]
    assert told["stages"]["keep"]["units"] == len(summed(40))


def test_two_neighbours_killed_at_once_come_back_and_no_packet_is_lost_or_doubled() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "middle")
        kill(deployment, "last")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert sorted(p.stage for p in outcome.problems) == ["last", "middle"]


def test_an_operator_can_restart_a_worker_and_it_is_no_problem_of_the_run() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        await deployment.restart("middle")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200}, meddle))
    assert texts == summed(200)
    assert outcome.problems == []


def test_over_grpc_too_a_killed_worker_comes_back_and_no_packet_is_lost_or_doubled() -> None:
    require_package("grpc", "grpc")

    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "middle")
        await sink.has(200)
        kill(deployment, "last")

    texts, _ = asyncio.run(run(CHAIN, {"n": 200, "transport": "grpc"}, meddle))
    assert texts == summed(200)


def test_a_packet_that_kills_its_worker_every_time_is_set_aside_and_reported_with_its_header() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        pass

    texts, outcome = asyncio.run(run(CHAIN, {"n": 40, "poison": "20"}, meddle))
    left = [i for i in range(40) if i != 20]
    totals = [f"{i}:{sum(n for n in left if n <= i)}" for i in left]
    assert texts == [text for text in [*totals, f"end:{sum(left)}"] for _ in range(2)]
    aside = [p.message for p in outcome.problems if "set aside" in p.message]
    assert len(aside) == 1 and "set aside a Token, count.text number 20, captured at" in aside[0]
    assert sum("was killed by SIGKILL" in p.message for p in outcome.problems) == 3


def test_a_worker_that_dies_too_often_stays_dead_and_nobody_waits_for_it() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        for _ in range(3):
            await sink.has(len(sink.texts) + 80)
            kill(deployment, "middle")

    _, outcome = asyncio.run(run(CHAIN, {"n": 300, "restarts": 2}, meddle))
    said = [p.message for p in outcome.problems]
    assert any("it is not started again: it died 3 times within 60 s" in message for message in said)
    assert any("this edge leads nowhere now: worker middle is gone" in message for message in said)
    assert any("nothing more will come by this edge: worker middle is gone" in message for message in said)


def test_without_a_restart_policy_a_killed_worker_ends_its_edges_and_the_rest_ends_well() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(10)
        kill(deployment, "middle")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 100, "restart": "never"}, meddle))
    assert texts == summed(100)[: len(texts)]
    assert "it is not started again: its policy is `restart: never`" in outcome.problems[0].message


def test_a_worker_stopped_for_longer_than_its_heartbeat_is_replaced() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "middle", signal.SIGSTOP)

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200, "heartbeat": "1s"}, meddle))
    assert texts == summed(200)
    assert "it did not answer for 1 s; it was started again" in outcome.problems[0].message


def test_a_worker_stopped_for_less_than_its_heartbeat_goes_on_as_if_nothing_had_been() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "middle", signal.SIGSTOP)
        await asyncio.sleep(1.5)
        kill(deployment, "middle", signal.SIGCONT)

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200, "heartbeat": "20s"}, meddle))
    assert texts == summed(200)
    assert outcome.problems == []


async def kill_ears_once(deployment: Deployment, sink: Any) -> None:
    await sink.has(60)
    kill(deployment, "ears", signal.SIGSTOP)
    await asyncio.sleep(0.5)  # so that packets are under way to it
    kill(deployment, "ears")


def test_audio_under_way_to_a_killed_worker_is_lost_and_the_gap_is_reported() -> None:
    texts, outcome = asyncio.run(run(FAILING / "hum.yaml", {}, kill_ears_once))
    numbers = [int(text) for text in texts]
    lost = sorted(set(range(300)) - set(numbers))
    gaps = [p for p in outcome.problems if p.stage == "hum.audio -> note.audio"]
    assert numbers == sorted(set(numbers))
    assert 0 < len(lost) < 100 and lost == list(range(lost[0], lost[-1] + 1))
    assert len(gaps) == 1 and "packets were lost with the worker, a gap of" in gaps[0].message


def test_audio_on_an_edge_that_delivers_at_least_once_is_not_lost() -> None:
    texts, outcome = asyncio.run(run(FAILING / "hum.yaml", {"delivery": "at_least_once"}, kill_ears_once))
    assert texts == [str(i) for i in range(300)]
    assert [p.stage for p in outcome.problems] == ["ears"]


def own_children() -> set[str]:
    """The processes that this one has started and that are alive."""
    listed = (path.read_text() for path in Path("/proc/self/task").glob("*/children") if path.exists())
    return {pid for line in listed for pid in line.split()}


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("Exits", {}, "worker middle is gone: its process ended with code 3"),
        ("Refuses", {}, "stage sum: there is nothing to work with"),
    ],
)
def test_a_worker_that_dies_at_start_is_one_message_and_nothing_is_left(
    stage: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    text = CHAIN.read_text().replace('sum: {use: "failing_stages:Sum"', f'sum: {{use: "failing_stages:{stage}"')
    file = tmp_path / "chain.yaml"
    file.write_text(text)
    before = own_children()

    async def never(deployment: Deployment, sink: Any) -> None:
        raise AssertionError("it should not have started")

    sys.path.append(str(FAILING))
    with pytest.raises(BaseExceptionGroup) as caught:
        asyncio.run(run(file, settings, never))
    assert message in str(caught.value.exceptions[0])
    assert own_children() <= before


def test_without_a_cluster_at_the_address_a_ray_worker_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("ray", "ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    deployment = Deployment(*spec_and_bundle(FAILING / "chain_ray.yaml", {}), lambda _: None)
    with pytest.raises(StartError, match=r"no Ray cluster at 127.0.0.1:9: Connection refused"):
        asyncio.run(deployment.run())


@pytest.mark.parametrize("transport", ["shm", "grpc"])
def test_a_link_that_is_lost_between_two_living_workers_is_made_again_and_nothing_is_lost_or_doubled(
    transport: str,
) -> None:
    require_package("grpc", "grpc")

    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        outlet: Any = deployment.hosts["local"].worker.outlets["count.text -> sum.text"]  # type: ignore[attr-defined]
        outlet._link.close()
        outlet._link.on_lost("the network was gone for longer than the link is patient")

    texts, outcome = asyncio.run(run(CHAIN, {"n": 200, "transport": transport}, meddle))
    assert texts == summed(200)
    assert outcome.problems == []


def test_a_killed_worker_that_is_a_source_goes_on_from_now_and_the_gap_is_reported_where_it_is_received() -> None:
    async def meddle(deployment: Deployment, sink: Any) -> None:
        await sink.has(50)
        kill(deployment, "camera")
        await sink.has(len(sink.texts) + 100)
        deployment.stop()

    texts, outcome = asyncio.run(run(FAILING / "camera.yaml", {}, meddle))
    again = texts.index("0", 1)
    assert texts[:again] == [str(i) for i in range(again)]
    assert texts[again:] == [str(i) for i in range(len(texts) - again)]
    gap = next(p for p in outcome.problems if p.stage == "hum.audio -> note.audio")
    assert "ms, while this edge had no link" in gap.message
