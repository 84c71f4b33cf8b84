"""A picture goes along with a question, to models that look at pictures and to no others: over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.stages.language.test_chat import Tokens
from thalweg.deploy.bench.language.modelserver import ModelServer
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet, run_stage
from thalweg.models.language.backend import Message, Picture
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Detection, Detections, Pictured, Token, Transcript, VideoFrame
from thalweg.pipeline.stage import Context, describe
from thalweg.stages.language.chat import Chat, LanguageModelError
from thalweg.stages.language.conversation import Conversation
from thalweg.stages.language.sight import Sight

Pixels = NDArray[np.uint8]
S = 1_000_000_000
WORDS = "You see through a camera: a picture, mostly green, with no face or person that was found. "
WORDS += "You can tell nothing else about the picture. "


def card(colour: tuple[int, int, int], height: int = 480, width: int = 640) -> Pixels:
    """A white picture with a card of a colour in its upper left quarter."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[: height // 2, : width // 2] = colour
    return pixels


GREEN, RED, BLUE = card((0, 160, 0)), card((200, 0, 0)), card((0, 0, 200))


def final(text: str, **about: Any) -> Transcript:
    return Transcript(text=text, final=not about, stable_chars=len(text), **about)


def partial(text: str) -> Transcript:
    return Transcript(text=text, final=False)


def green_words() -> Detections:
    box = {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "score": 1.0}
    return Detections(items=(Detection(kind="colour", text="green", **box),))


class Person:
    """Shows pictures and says things, one after the other, and waits for an answer behind each final one."""

    outputs = {"transcript": Transcript, "picture": VideoFrame, "scene": Detections}

    def __init__(self, *events: Pixels | Transcript | Detections) -> None:
        self._events = events

    async def run(self, ctx: Context) -> None:
        epoch = 1
        for event in self._events:
            if isinstance(event, np.ndarray):
                ctx.emit(VideoFrame(pixels=event), port="picture", time=ctx.now_ns())
            elif isinstance(event, Detections):
                ctx.emit(event, port="scene", time=ctx.now_ns())
            else:
                ctx.emit(event, port="transcript", time=ctx.now_ns(), epoch=epoch)
                epoch += event.final
            await asyncio.sleep(0.15)


async def converse(person: Person, settings: dict[str, Any], **sight: Any) -> list[str]:
    """One conversation; its answers."""
    graph, sink = Graph(name="sees"), Tokens()
    graph.add("person", person)
    graph.add("sight", Sight(**sight))
    graph.add("chat", Chat(**describe(Chat).check({"system": "", **settings})))
    graph.add("sink", sink)
    graph.connect("person.transcript", "sight.transcript")
    graph.connect("person.picture", "sight.picture", policy=Policy.LATEST)
    graph.connect("person.scene", "sight.scene", policy=Policy.LATEST)
    graph.connect("sight", "chat.transcript")
    graph.connect("chat.token", "sink")
    worker = Worker(graph)
    async with asyncio.timeout(30):
        await worker.run()
    assert worker.problems == []
    said: dict[int, str] = {}
    for emitted in sink.emitted:
        assert isinstance(emitted.payload, Token)
        said[emitted.packet.epoch] = said.get(emitted.packet.epoch, "") + emitted.payload.text
    return list(said.values())


def serving(case: Callable[[list[ModelServer]], Awaitable[None]], servers: int = 1) -> None:
    require_package("httpx", "language")

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await case([await stack.enter_async_context(ModelServer("A green card.")) for _ in range(servers)])

    asyncio.run(main())


def shown(content: list[dict[str, Any]]) -> tuple[str, Pixels]:
    """The words and the picture of a message in OpenAI's form, which is checked."""
    words, picture = content
    assert words.keys() == {"type", "text"} and words["type"] == "text"
    assert picture.keys() == {"type", "image_url"} and picture["type"] == "image_url"
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(data, validate=True)), format="jpeg_pipe") as container:
        pixels: Pixels = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return words["text"], pixels


def difference(sent: Pixels, came: Pixels) -> float:
    """Mean of it, 0…255, at the size that came."""
    frame = av.VideoFrame.from_ndarray(sent, format="rgb24").reformat(came.shape[1], came.shape[0], "rgb24")
    return float(np.abs(frame.to_ndarray().astype(int) - came.astype(int)).mean())


@pytest.mark.real
def test_a_server_gets_the_picture_of_the_moment_the_question_began_and_no_words_in_its_place() -> None:
    async def case(servers: list[ModelServer]) -> None:
        (server,) = servers
        person = Person(RED, green_words(), GREEN, partial("what"), BLUE, final("what do you see"))
        settings = {"model": "m", "url": server.url, "images": True, "draft": True}
        assert await converse(person, settings) == ["A green card."]
        (asked,) = server.asked
        text, picture = shown(asked["messages"][-1]["content"])
        assert text == "what do you see"
        assert picture.shape == (384, 512, 3)
        assert difference(GREEN, picture) < 3 < 20 < min(difference(RED, picture), difference(BLUE, picture))

    serving(case)


@pytest.mark.real
def test_an_answer_that_was_drafted_is_about_the_picture_of_the_question() -> None:
    async def case(servers: list[ModelServer]) -> None:
        (server,) = servers
        trial = final("what is it", trial=True)
        person = Person(GREEN, trial, BLUE, final("what is it"), RED, final("and that"))
        settings = {"model": "m", "url": server.url, "images": True, "draft": True}
        assert await converse(person, settings) == ["A green card."] * 2
        first, second = server.asked
        assert difference(GREEN, shown(first["messages"][-1]["content"])[1]) < 3
        assert difference(RED, shown(second["messages"][-1]["content"])[1]) < 3
        assert [each["content"] for each in second["messages"][:-1]] == ["what is it", "A green card."]

    serving(case)


@pytest.mark.real
def test_conversations_at_the_same_time_show_their_own_pictures_alone() -> None:
    async def case(servers: list[ModelServer]) -> None:
        (server,) = servers
        settings = {"model": "m", "url": server.url, "images": True}
        cards = {"of one": GREEN, "of another": RED, "of a third": BLUE}
        people = [converse(Person(pixels, final(text)), settings) for text, pixels in cards.items()]
        await asyncio.gather(*people, converse(Person(final("of nobody")), settings))
        found = {}
        for asked in server.asked:
            content = asked["messages"][-1]["content"]
            text, picture = (content, None) if isinstance(content, str) else shown(content)
            found[text] = picture
        assert found.keys() == {*cards, "of nobody"} and found["of nobody"] is None
        for text, pixels in cards.items():
            assert difference(pixels, found[text]) < 3

    serving(case)


@pytest.mark.real
@pytest.mark.parametrize("privacy", ["cloud", "fog"])
def test_of_a_pool_none_is_shown_a_picture_that_looks_at_none_or_that_the_policy_forbids(privacy: str) -> None:
    async def case(servers: list[ModelServer]) -> None:
        cloud, house = servers
        cloud.fault = "unavailable"  # so that the other one has to answer
        backends = {
            "cloud": {"model": "m", "url": cloud.url, "where": "cloud", "quality": 0.9, "images": True},
            "house": {"model": "m", "url": house.url, "where": "fog", "quality": 0.5},
        }
        person = Person(green_words(), GREEN, final("what do you see"))
        settings = {"backends": backends, "policy": {"privacy": privacy, "probe_every": None}}
        assert await converse(person, settings) == ["A green card."]
        assert house.asked[0]["messages"][-1]["content"] == f"{WORDS}what do you see"
        assert b"image" not in house.heard
        assert bool(cloud.heard) == (privacy == "cloud")
        assert all(difference(GREEN, shown(a["messages"][-1]["content"])[1]) < 3 for a in cloud.asked)

    serving(case, 2)


@pytest.mark.real
def test_what_is_to_be_kept_private_takes_its_picture_nowhere_either() -> None:
    async def case(servers: list[ModelServer]) -> None:
        (server,) = servers
        backends = {"cloud": {"model": "m", "url": server.url, "where": "cloud", "images": True}}
        said = await converse(Person(GREEN, final("keep this secret, what is it")), {"backends": backends})
        assert said == ["I cannot answer that at the moment."] and server.heard == b""

    serving(case)


REFUSALS = {
    "vLLM": (400, "m is not a multimodal model"),
    "llama.cpp": (
        500,
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    ),
    "OpenAI": (400, "Invalid content type. image_url is only supported by certain models."),
    "text only": (422, "messages.0.content: Input should be a valid string"),
}


@pytest.mark.real
@pytest.mark.parametrize(("status", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_refuses_pictures_is_told_in_words_from_then_on(
    status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    import json

    from tests.stages.language.test_chat import answers
    from tests.stages.language.test_chat_servers import status as refusing

    require_package("httpx", "language")
    asked: list[Any] = []
    refuse = refusing(status, json.dumps({"error": {"message": message}}).encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length"))
        asked.append(json.loads(await reader.readexactly(length)))
        await (refuse if b"image_url" in json.dumps(asked[-1]).encode() else answers)(reader, writer, asked[-1])
        await writer.drain()
        writer.close()

    async def main() -> list[str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        person = Person(green_words(), GREEN, final("what do you see"), GREEN, final("and now"))
        async with server:
            return await converse(person, {"model": "m", "url": url, "images": True, "retries": 0})

    caplog.set_level("WARNING", "thalweg")  # whatever a test before has set
    assert asyncio.run(main()) == ["Hello"] * 2
    assert [type(each["messages"][-1]["content"]) for each in asked] == [list, str, str]
    assert asked[1]["messages"][-1]["content"] == f"{WORDS}what do you see"
    assert [r.getMessage() for r in caplog.records if "takes no pictures" in r.getMessage()] != []


def looked(frame: Pixels, transcripts: list[tuple[float, Transcript]], **settings: Any) -> list[Transcript]:
    """What comes out, for a frame at 0 s and transcripts at these."""
    ports = {
        "picture": [packet(VideoFrame(pixels=frame), time=0, epoch=0)],
        "transcript": [packet(payload, time=round(at * S), epoch=1) for at, payload in transcripts],
    }
    return [p for p in run_stage(Sight(**settings), ports).payloads() if isinstance(p, Transcript)]


def test_a_picture_is_bounded_in_size_whatever_the_camera_shows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    (asked,) = looked(noise, [(0.1, final("what is it"))], side=512, picture_kb=40)
    assert isinstance(asked, Pictured) and len(asked.picture) <= 40_000
    with av.open(io.BytesIO(asked.picture), format="jpeg_pipe") as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (512, 288)


@pytest.mark.parametrize(
    ("at_s", "settings"),
    [(4.0, {}), (0.1, {"pictures": False}), (0.1, {"side": 2048, "picture_kb": 4})],
    ids=["old", "not wanted", "too large"],
)
def test_no_picture_goes_along_that_is_old_not_wanted_or_too_large(at_s: float, settings: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    (asked,) = looked(noise, [(at_s, final("what is it"))], **settings)
    assert type(asked) is Transcript


def test_what_is_not_over_yet_has_no_picture_and_what_is_tried_has_that_of_what_is_final() -> None:
    begun, tried, ended = looked(
        GREEN, [(0.1, partial("what")), (0.2, final("what is it", trial=True)), (0.3, final("what is it"))]
    )
    assert type(begun) is Transcript
    assert isinstance(tried, Pictured) and isinstance(ended, Pictured) and tried.picture == ended.picture


def test_a_picture_that_is_none_or_too_large_cannot_be_made() -> None:
    for wrong in (b"", b"GIF89a", b"\xff\xd8\xff" + bytes(300_000)):
        with pytest.raises(PayloadError, match="expected a JPEG"):
            Pictured(text="a", final=True, picture=wrong, beside="a")


def test_neither_a_payload_nor_a_message_shows_its_picture_to_a_log() -> None:
    jpeg = b"\xff\xd8\xff" + b"private"
    for shown_in_logs in (
        Pictured(text="a", final=True, picture=jpeg, beside="a"),
        Message("user", "a", Picture(jpeg, "a")),
    ):
        assert "private" not in repr(shown_in_logs)


def test_of_earlier_turns_no_picture_is_kept() -> None:
    conversation = Conversation("", 4)
    conversation.remember(1, "what is it", "A card.")
    *before, last = conversation.messages("and now", Picture(b"\xff\xd8\xff", "and now"))
    assert [each.picture for each in before] == [None, None] and last.picture is not None


def test_a_model_that_looks_at_no_pictures_cannot_be_said_to() -> None:
    with pytest.raises(LanguageModelError, match="looks at none"):
        Chat(backend="echo", images=True)
