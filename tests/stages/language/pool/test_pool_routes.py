"""What a pool tells of each turn: who answered and why, on a port, in the report, and in the words of the operator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rich.console import Console

from tests.conftest import require_package
from tests.stages.language.pool.test_pool import ANSWER, Scripted, pool
from thalweg.deploy.ops.keeping.top import screen
from thalweg.deploy.ops.observing.metrics import worker_families
from thalweg.deploy.ops.observing.readings import Readings
from thalweg.deploy.ops.observing.stats import WorkerStats, stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Outcome, packet, run_stage, run_virtual
from thalweg.models.language.backend import Message, Request, Text
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Routed, Transcript
from thalweg.pipeline.signal import Ahead
from thalweg.pipeline.stage import Context, describe
from thalweg.stages.language.chat import Chat, LanguageModelError
from thalweg.stages.language.pool.member import WORD_MS
from thalweg.transports.codec import decode, encode

TWO = {
    "pocket": {"backend": "echo", "where": "edge"},
    "house": {"backend": "echo", "where": "fog", "cost": 1.5},
}


def chat(**policy: Any) -> Chat:
    return Chat(**describe(Chat).check({"backends": TWO, "policy": policy}))


def asked(*questions: str, **policy: Any) -> Outcome:
    said = [packet(Transcript(text=q, final=True), time=n, seq=n, epoch=n + 1) for n, q in enumerate(questions)]
    return run_stage(chat(**policy), said)


def test_each_turn_tells_who_answered_why_when_and_for_how_much() -> None:
    (route,) = asked("where is it").payloads("route")
    assert (route.backend, route.chosen, route.cost, route.switches) == ("house", "house", 1.5, 0)
    assert route.reason == "best quality of 2 that are in time"
    assert route.first_ms is not None and route.expected_ms > 0 and route.confidence > 0.95


def test_it_tells_why_others_could_not_be_asked() -> None:
    _, route = asked("don't tell anybody", "and now", budget_per_hour=1).payloads("route")
    assert route.backend == "pocket"
    assert route.out == {"house": "words may not leave the edge"}


def test_it_crosses_between_workers() -> None:
    (route,) = asked("where is it").payloads("route")
    assert decode(b"".join(encode(packet(route)))).payload == route


def test_a_route_reads_as_a_line() -> None:
    route = Routed(
        backend="b", chosen="a", reason="best quality", expected_ms=500, first_ms=None, cost=20, confidence=0.9
    )
    assert str(route) == "b in place of a: best quality; first words no word, expected 500 ms; cost 20"


class Asks:
    outputs = {"transcript": Transcript}

    async def run(self, ctx: Context) -> None:
        await ctx.send(Transcript(text="where is it", final=True), time=ctx.now_ns(), epoch=ctx.new_epoch())


def test_the_report_of_a_run_has_it_though_nobody_listens_to_the_port() -> None:
    async def main() -> str:
        graph = Graph(name="chat")
        graph.add("ask", Asks())
        graph.add("chat", chat())
        graph.connect("ask", "chat")
        worker = Worker(graph)
        await worker.run()
        (turn,) = worker.turns.turns.values()
        return turn.route

    assert run_virtual(main()).startswith("house: best quality of 2 that are in time; first words ")


def test_what_it_counts_is_on_the_screen_of_top_and_in_the_metrics() -> None:
    require_package("prometheus_client", "metrics")

    async def main() -> dict[str, WorkerStats | None]:
        graph = Graph(name="chat")
        graph.add("ask", Asks())
        graph.add("chat", chat())
        graph.connect("ask", "chat")
        worker = Worker(graph)
        await worker.run()
        return {"w": stats_of(worker)}

    stats = run_virtual(main())
    (counted,) = [each for each in worker_families(stats, {}) if each.name == "thalweg_stage_counts"]
    assert {sample.labels["kind"]: sample.value for sample in counted.samples} == {
        "asked_house": 1, "answered_house": 1, "switches": 0, "hedges": 0
    }  # fmt: skip
    console = Console(width=200)
    status = {"name": "n", "state": "ready", "since": 0.0, "file": "f", "workers": {}}
    with console.capture() as captured:
        console.print(screen(status, Readings().read(stats, at_s=0.0)))
    assert "chat: answered house 1, asked house 1, hedges 0, switches 0" in captured.get()


def test_who_stalls_is_left_as_late_as_cannot_be_heard() -> None:
    async def main(ahead_ms: float) -> float:
        edge = Scripted(first_s=0.1)
        tested = pool({"stall": "500ms"}, edge=edge, cloud=Scripted(stalls_after=4))
        loop = asyncio.get_running_loop()
        said = []
        async for delta in tested.reply(Request(messages=[Message("user", "where")], max_tokens=64)):
            if isinstance(delta, Text):
                said.append(delta.text)
                if len(said) == 3:
                    silent_s = loop.time()
                    tested.heard(ahead_ms)
                if len(said) == 5:
                    back_s = loop.time()
        assert "".join(said).strip() == ANSWER
        return back_s - silent_s

    without, with_sound = run_virtual(main(0)), run_virtual(main(6000))
    assert without < 1.0
    assert 3.5 < with_sound < 6.0 - 0.4, "there is time left to speak what comes"


def test_a_silence_is_noticed_when_it_is_too_long_and_not_at_the_next_look() -> None:
    async def main() -> float:
        cloud, edge, silent_s = Scripted(stalls_after=10), Scripted(), 0.0
        tested = pool(edge=edge, cloud=cloud)
        loop = asyncio.get_running_loop()
        async for delta in tested.reply(Request(messages=[Message("user", "where")], max_tokens=64)):
            if isinstance(delta, Text) and not edge.heard:
                silent_s = loop.time()
                tested.heard(600)
            elif edge.heard:
                return loop.time() - silent_s
        raise AssertionError("it did not go on")

    assert run_virtual(main()) < 0.26  # twice the pause between its words, and the other's first two


def test_what_another_needs_grows_with_the_words_that_wait_for_the_end_of_their_sentence() -> None:
    member, request = pool(cloud=Scripted())._members["cloud"], Request(messages=[], max_tokens=64)
    less, more = (member.needs_ms(request, said) for said in ("It is there. Or", "It is there. Or is it not"))
    assert more - less == 3 * WORD_MS
    assert member.needs_ms(request, "It is there. ") == less - WORD_MS


def test_how_much_sound_is_ahead_is_told_up_to_the_model() -> None:
    async def main() -> float:
        told = chat()
        assert told._pool is not None
        told._answered = 7
        loop = asyncio.get_running_loop()
        told.on_signal(Ahead(epoch=7, ahead_ns=2_000_000_000), None)  # type: ignore[arg-type]  # it wants none
        told.on_signal(Ahead(epoch=6, ahead_ns=9_000_000_000), None)  # type: ignore[arg-type]  # as above
        return told._pool._heard_out_s - loop.time()

    assert run_virtual(main()) == 2.0


def preferring(first: str, *questions: str) -> list[Any]:
    stage = chat(budget_per_hour=10)
    stage.configure({"first": first})
    said = [packet(Transcript(text=q, final=True), time=n, seq=n, epoch=n + 1) for n, q in enumerate(questions)]
    return run_stage(stage, said).payloads("route")


def test_who_is_asked_for_answers_though_another_is_better() -> None:
    (route,) = preferring("pocket", "where is it")
    assert (route.backend, route.reason) == ("pocket", "pocket was asked for")
    (route,) = preferring("", "where is it")
    assert route.backend == "house"


def test_who_is_asked_for_is_not_asked_where_words_may_not_go_there() -> None:
    _, route = preferring("house", "where is it", "don't tell anybody")
    assert route.backend == "pocket"
    assert route.out == {"house": "words may not leave the edge"}


def test_who_is_not_in_the_pool_cannot_be_asked_for() -> None:
    with pytest.raises(LanguageModelError, match="expected one of `backends`: pocket, house"):
        chat().configure({"first": "cloud"})
    with pytest.raises(LanguageModelError, match="there are none"):
        Chat(backend="echo", first="pocket")
