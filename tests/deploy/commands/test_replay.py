"""A recording played back gives what the live run gave, at any speed; what cannot be played is told beforehand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thalweg.deploy.commands.recording.record import Recorder
from thalweg.deploy.commands.recording.replay import FULL_SPEED, QuickLoop, prepare_replay
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.graph import Graph, GraphError
from thalweg.pipeline.joins.join import Exact
from thalweg.pipeline.payload import Payload, Sentence, Token
from thalweg.transports.recording import Recording, RecordingError


class Ticks:
    """Words, 5 ms apart."""

    outputs = {"token": Token}

    def __init__(self, words: int = 30) -> None:
        self._words = words

    async def run(self, ctx: Any) -> None:
        start_ns = ctx.now_ns()
        for number in range(self._words):
            await ctx.sleep_until(start_ns + number * 5_000_000)
            await ctx.send(Token(text=str(number)), time=ctx.now_ns())


class Slow:
    """Takes longer for a word than there is."""

    inputs = {"token": Token}
    outputs = {"sentence": Sentence}

    async def process(self, packet: Any, ctx: Any) -> None:
        await asyncio.sleep(0.012)
        ctx.emit(Sentence(text=f"{packet.payload.text}!"))


class Keep:
    """Keeps what comes."""

    inputs = {"any": Payload}

    def __init__(self) -> None:
        self.kept: list[tuple[str, int, int, Payload]] = []

    def process(self, packet: Any, ctx: Any) -> None:
        self.kept.append((packet.stream, packet.seq, packet.time, packet.payload))


def pipeline() -> tuple[Graph, Keep]:
    graph, keep = Graph(name="words"), Keep()
    graph.add("ticks", Ticks())
    graph.add("slow", Slow())
    graph.add("keep", keep)
    graph.connect("ticks", "slow", policy=Policy.LATEST)
    graph.connect("slow", "keep")
    return graph, keep


def recorded(path: Path, *names: str) -> Keep:
    graph, keep = pipeline()
    worker = Worker(graph)
    recorder = Recorder(worker, graph.connections, names, path, graph.name)
    asyncio.run(worker.run())
    recorder.close()
    assert worker.problem_count == 0
    return keep


def played(path: Path, *into: str, speed: float = FULL_SPEED) -> tuple[Keep, list[str]]:
    graph, keep = pipeline()
    replay = prepare_replay(Recording(path), graph, into, speed)
    with asyncio.Runner(loop_factory=replay.make_loop) as runner:
        runner.run(replay.worker.run())
    assert replay.worker.problem_count == 0
    return keep, replay.notes


@pytest.mark.parametrize("speed", [FULL_SPEED, 0.5, 1.0, 4.0])
def test_a_replay_gives_what_the_live_run_gave(tmp_path: Path, speed: float) -> None:
    live = recorded(tmp_path / "r.twr", "ticks -> slow")
    again, notes = played(tmp_path / "r.twr", "slow.token", speed=speed)
    assert 3 < len(live.kept) < 30
    assert again.kept == live.kept and notes == []


def test_a_recording_goes_back_to_where_it_was_taken_by_itself(tmp_path: Path) -> None:
    live = recorded(tmp_path / "r.twr", "slow.sentence -> keep")
    again, _ = played(tmp_path / "r.twr")
    assert again.kept == live.kept


def test_several_channels_say_where_each_goes(tmp_path: Path) -> None:
    live = recorded(tmp_path / "r.twr", "ticks -> slow", "slow -> keep")
    again, _ = played(tmp_path / "r.twr", "ticks -> slow=slow.token")
    assert again.kept == live.kept
    with pytest.raises(GraphError, match="several channels, say which"):
        played(tmp_path / "r.twr", "slow.token")


def test_a_recording_that_was_cut_short_is_played_and_said_to_be(tmp_path: Path) -> None:
    live = recorded(tmp_path / "r.twr", "ticks -> slow")
    (tmp_path / "cut.twr").write_bytes((tmp_path / "r.twr").read_bytes()[:-60])
    again, notes = played(tmp_path / "cut.twr")
    assert again.kept == live.kept[:-1]
    assert any("was cut short by a crash" in note for note in notes)


def test_channels_keep_their_order_among_each_other(tmp_path: Path) -> None:
    class Pair:
        """Says which words came together."""

        inputs = {"left": Token, "right": Token}
        outputs = {"sentence": Sentence}
        join = Exact()

        def process_joined(self, joined: Any, ctx: Any) -> None:
            ctx.emit(Sentence(text=joined.one("left").payload.text + joined.one("right").payload.text))

    class Two:
        """Pairs of words with one time each."""

        outputs = {"left": Token, "right": Token}

        async def run(self, ctx: Any) -> None:
            for number in range(40):
                await ctx.send(Token(text="a"), port="left", time=number)
                await ctx.send(Token(text="b"), port="right", time=number)

    def graph() -> tuple[Graph, Keep]:
        made, keep = Graph(name="pairs"), Keep()
        for name, stage in (("two", Two()), ("pair", Pair()), ("keep", keep)):
            made.add(name, stage)
        made.connect("two.left", "pair.left")
        made.connect("two.right", "pair.right")
        made.connect("pair", "keep")
        return made, keep

    live, live_keep = graph()
    worker = Worker(live)
    recorder = Recorder(
        worker, live.connections, ["two.left -> pair", "two.right -> pair"], tmp_path / "r.twr", "pairs"
    )
    asyncio.run(worker.run())
    recorder.close()
    again, keep = graph()
    replay = prepare_replay(Recording(tmp_path / "r.twr"), again, [], FULL_SPEED)
    asyncio.run(replay.worker.run())
    assert keep.kept == live_keep.kept and len(keep.kept) == 40


class Both:
    """Passes words and sentences on."""

    inputs = {"token": Token, "sentence": Sentence}
    outputs = {"any": Payload}

    def process(self, packet: Any, ctx: Any) -> None:
        ctx.emit(packet.payload)


def test_an_edge_that_was_not_recorded_is_said_to_get_nothing_and_holds_up_nobody(tmp_path: Path) -> None:
    recorded(tmp_path / "r.twr", "ticks -> slow")
    graph, keep = pipeline()
    last = Keep()
    graph.add("both", Both())
    graph.add("last", last)
    graph.connect("ticks", "both.token")
    graph.connect("slow", "both.sentence")
    graph.connect("both", "last")
    replay = prepare_replay(Recording(tmp_path / "r.twr"), graph, ["slow.token"], FULL_SPEED)
    asyncio.run(replay.worker.run())
    assert replay.notes == ["ticks.token -> both.token gets nothing: it is not played from the recording"]
    assert [payload.text for *_, payload in last.kept] == [payload.text for *_, payload in keep.kept]


@pytest.mark.parametrize(
    ("into", "says"),
    [
        ("slow.tokn", r"there is no input 'slow.tokn' \(did you mean 'slow.token'\?\)"),
        ("keep.any=keep.any", "the recording has no channel 'keep.any'"),
    ],
)
def test_a_place_that_is_not_there_is_told_with_the_nearest(tmp_path: Path, into: str, says: str) -> None:
    recorded(tmp_path / "r.twr", "ticks -> slow")
    with pytest.raises(GraphError, match=says):
        played(tmp_path / "r.twr", into)


def test_packets_that_do_not_fit_the_port_are_told_before_anything_runs(tmp_path: Path) -> None:
    recorded(tmp_path / "r.twr", "slow -> keep")
    with pytest.raises(RecordingError, match=r"carries Sentence, but slow\.token takes Token"):
        played(tmp_path / "r.twr", "slow.token")


def test_a_payload_type_that_is_not_known_here_is_told(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Gone(Payload):
        """Nobody will find it again: it lives in a function."""

        text: str

    class Source:
        outputs = {"gone": Gone}

        async def run(self, ctx: Any) -> None:
            await ctx.send(Gone(text="x"), time=0)

    graph, keep = Graph(), Keep()
    graph.add("source", Source())
    graph.add("keep", keep)
    graph.connect("source", "keep")
    worker = Worker(graph)
    recorder = Recorder(worker, graph.connections, ["source -> keep"], tmp_path / "r.twr", "p")
    asyncio.run(worker.run())
    recorder.close()
    with pytest.raises(RecordingError, match=r"Gone' is not known here; import the module"):
        prepare_replay(Recording(tmp_path / "r.twr"), graph, [], FULL_SPEED)


def test_a_channel_that_is_not_there_is_told_and_no_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="there is no channel 'ticks -> slw'"):
        recorded(tmp_path / "r.twr", "ticks -> slw")
    assert not (tmp_path / "r.twr").exists()


def test_a_recording_that_cannot_go_on_is_one_problem_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, keep = pipeline()
    worker = Worker(graph)
    recorder = Recorder(worker, graph.connections, ["ticks -> slow"], tmp_path / "r.twr", "p")

    def full(*_: object) -> None:
        raise RecordingError("cannot write r.twr: No space left on device; it holds the 0 packets before")

    monkeypatch.setattr(recorder.writer, "write", full)
    asyncio.run(worker.run())
    recorder.close()
    assert [problem.message for problem in worker.problems] == [
        "the recording ends here: cannot write r.twr: No space left on device; it holds the 0 packets before"
    ]
    assert len(keep.kept) > 3


def test_a_quick_loop_sleeps_shorter_than_it_says() -> None:
    async def nap() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(5)
        return asyncio.get_running_loop().time() - before

    with asyncio.Runner(loop_factory=lambda: QuickLoop(50.0)) as runner:
        assert runner.run(nap()) >= 5
