"""What running workers tell about themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.pipeline.observing.histogram import Histogram

TICKING = Path(__file__).parents[1] / "ticking" / "ticking.yaml"


async def look(settings: dict[str, str], seconds: float) -> tuple[dict[str, WorkerStats | None], bool]:
    """Run the ticking pipeline and look at it once it has run for a while. Whether it was ready by then, too."""
    ready = asyncio.Event()
    spec = read_spec(TICKING, settings)
    deployment = Deployment(spec, bundle_of(TICKING, settings, traced=False), lambda _: None, on_ready=ready.set)
    async with asyncio.TaskGroup() as group:
        group.create_task(deployment.run())
        await ready.wait()
        await asyncio.sleep(seconds)
        stats = await deployment.stats()
        deployment.stop()
    return stats, ready.is_set()


@pytest.mark.real
def test_every_worker_of_a_deployment_tells_its_stages_channels_and_turns() -> None:
    stats, _ = asyncio.run(look({}, 0.5))
    here, middle = stats["local"], stats["middle"]
    assert here is not None and middle is not None
    assert here["pid"] != middle["pid"]
    assert set(here["stages"]) == {"clock", "drain"}
    assert middle["stages"]["relay"]["units"] > 0
    assert Histogram.from_plain(middle["stages"]["relay"]["work"]).count == middle["stages"]["relay"]["units"]
    assert {name: channel["side"] for name, channel in middle["channels"].items()} == {
        "clock.tick -> relay.tick": "receiving",
        "relay.tick -> drain.tick": "sending",
    }
    assert here["turns"][-1]["complete"]
    assert middle["resident_bytes"] > 1_000_000


@pytest.mark.real
def test_failures_are_counted_at_the_stage_that_failed() -> None:
    stats, _ = asyncio.run(look({"fail": "2"}, 0.5))
    middle = stats["middle"]
    assert middle is not None
    assert middle["stages"]["relay"]["failures"] > 0
    assert middle["problems"] >= middle["stages"]["relay"]["failures"]


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        ("{launcher: subprocess, cpus: 2}", "cpus is for the launcher ray, this one is subprocess"),
        ("{launcher: ray, cpus: many}", "cpus: expected a number from 0, found 'many'"),
        ("{launcher: ray, resources: {camera: 0}}", "resources: expected a mapping of names to numbers above 0"),
        ("{launcher: ray, labels: {zone: [3]}}", "labels: expected a mapping of names to texts"),
        ("{launcher: ray, host: ''}", "host: expected an address of a node, found ''"),
    ],
)
def test_what_a_worker_cannot_be_given_is_refused_with_its_line(worker: str, message: str) -> None:
    from thalweg.pipeline.file.source import SpecError
    from thalweg.pipeline.file.spec import load_spec

    text = TICKING.read_text().replace('{launcher: "${launcher}", restart: "${restart}"}', worker)
    read_spec(TICKING, {})  # so that the classes beside the file are found
    with pytest.raises(SpecError, match=r"ticking\.yaml:19:") as refused:
        load_spec(text, "ticking.yaml")
    assert message in str(refused.value)
