"""A worker that conversations share has so many at most: who is told so, and who comes in when one has left."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from tests.deploy.server.hosts.housing import HOUSED, Housed, asked, host_of, housed
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.transports.webrtc.client import Talker, TalkError

SHARED = """
workers:
  pool: {{launcher: subprocess, shared: {{runs: {runs}}}}}
placement:
  chat: pool
"""
"""The hosts of these tests are in one process, so both share one worker, as hosts of a cluster do on Ray."""


def test_when_a_shared_worker_is_full_newcomers_are_told_busy_and_others_talk_on_and_move() -> None:
    async def case(there: Housed) -> None:
        async with AsyncExitStack() as stack:
            talkers = []
            for word in ("red", "green", "blue"):
                talkers.append(await stack.enter_async_context(Talker(there.url, microphone=False)))
                assert await asked(talkers[-1], word) == word
            hosts = {host_of(talker) for talker in talkers}
            assert len(hosts) == 2, "each host had one pipeline waiting, and all three were used"
            links = there.front.links.values()
            await there.until(lambda: sum(link.told.limit or 0 for link in links) == 3)
            with pytest.raises(TalkError, match="Everybody here is talking already"):
                async with Talker(there.url, microphone=False):
                    """They are told at once, by every host."""
            assert there.front.not_ready == "", "it is busy, and not broken"
            assert [await asked(one, "more") for one in talkers] == [f"{w} and more" for w in ("red", "green", "blue")]
            home = next(host for host in hosts if sum(host_of(one) == host for one in talkers) == 1)
            (moving,) = (one for one in talkers if host_of(one) == home)
            assert (await there.ask("POST", f"/hosts/{home}/drain"))[0] == 200
            await there.until(lambda: any(event["type"] == "reconnect" for _, event in moving.events))
            await moving.connect_anew()
            assert host_of(moving) != home, "a full worker takes one who goes on"
            assert (await asked(moving, "still")).endswith("and more and still")
            await talkers.pop().end()
            await there.until(lambda: any(link.takes and link.told.limit is None for link in links))
            async with Talker(there.url, microphone=False) as newcomer:
                assert await asked(newcomer, "white") == "white"

    housed(case, settings=replace(HOUSED, drain_s=30.0), text=pipeline() + SHARED.format(runs=3))


def test_the_pipeline_that_waits_on_a_host_that_is_emptied_gives_its_place_to_another_host() -> None:
    async def case(there: Housed) -> None:
        there.front.drained_end = False  # as on Ray, where the host stays
        assert (await there.ask("POST", "/hosts/host-1/drain"))[0] == 200
        await there.until(lambda: there.front.links["host-1"].told.draining)
        async with Talker(there.url, microphone=False) as one:
            assert host_of(one) == "host-2"
            link = there.front.links["host-2"]
            await there.until(lambda: link.told.held == 1 and link.told.limit is None and not link.told.not_ready)
            async with Talker(there.url, microphone=False) as other:
                assert await asked(other, "red") == "red"

    housed(case, text=pipeline() + SHARED.format(runs=2))
