"""What the camera has read is told with the question, while it is fresh, and drafts stay answers to what is asked."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEXT_READER, require_package
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Collect, packet, run_stage
from thalweg.pipeline.channel import Policy
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import Detection, Detections, Token, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.language.chat import Chat
from thalweg.stages.language.sight import Sight, in_words
from thalweg.stages.video.file import VideoFile
from thalweg.stages.vision.read import TextInFrames

S = 1_000_000_000
LABELS = Path(__file__).parents[3] / "deploy/examples/labels.mp4"


def read(*lines: str) -> Detections:
    box = {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.1, "score": 0.9, "kind": "text"}
    return Detections(items=tuple(Detection(text=line, **box) for line in lines))


def said(text: str, **about: Any) -> Transcript:
    return Transcript(text=text, final=not about.get("trial"), stable_chars=len(text), **about)


def heard(*events: tuple[float, Transcript | Detections], **settings: Any) -> list[Transcript]:
    """What comes out, for what comes in at these seconds."""
    ports: dict[str, list[Any]] = {"transcript": [], "detections": [], "scene": []}
    for at, payload in events:
        of_scene = isinstance(payload, Detections) and any(item.kind != "text" for item in payload.items)
        port = "transcript" if isinstance(payload, Transcript) else "scene" if of_scene else "detections"
        ports[port].append(packet(payload, time=round(at * S), epoch=1))
    return [p for p in run_stage(Sight(**settings), ports).payloads() if isinstance(p, Transcript)]


def test_what_was_read_last_comes_before_the_question() -> None:
    (told,) = heard((0, read("OLD")), (1, read("NO", "PARKING")), (2, said("what does it say")))
    assert told.text == 'The camera sees the text "NO PARKING". what does it say'
    assert told.final and told.stable_chars == len(told.text)
    assert told.text[told.told_chars :] == "what does it say"


@pytest.mark.parametrize(
    "events",
    [
        [(2, said("hello"))],
        [(0, read("EXIT")), (4, said("hello"))],
        [(0, read("EXIT")), (1, read()), (2, said("hello"))],
        [(1, read("EXIT")), (2, said("  "))],
    ],
    ids=["nothing", "stale", "gone", "nothing said"],
)
def test_nothing_is_told_where_there_is_nothing_to_tell(events: list[tuple[float, Any]]) -> None:
    (told,) = heard(*events)
    assert told == events[-1][1]


def seen(*kinds: tuple[str, str]) -> Detections:
    box = {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.1, "score": 0.9}
    return Detections(items=tuple(Detection(kind=kind, text=text, **box) for kind, text in kinds))


GREEN = seen(("light", "dark"), ("colour", "green"), ("colour", "white"), ("face", ""), ("face", ""), ("motion", ""))


def test_what_was_seen_is_told_with_questions_about_the_picture_and_with_no_others() -> None:
    about, other = heard((1, GREEN), (2, said("what do you see")), (2.1, said("what is two plus two")))
    scene = "a dark picture, mostly green and white, with two faces and something that moves"
    assert (
        about.text == f"You see through a camera: {scene}. You can tell nothing else about the picture. what do you see"
    )
    assert other.text == "what is two plus two"


@pytest.mark.parametrize("events", [[], [(0, GREEN)]], ids=["never", "long ago"])
def test_while_nothing_is_seen_a_question_about_the_picture_is_told_so(events: list[tuple[float, Any]]) -> None:
    about, other = heard(*events, (5, said("am I holding a cup")), (5.1, said("hello")), blind="It is dark. ")
    assert (about.text, other.text) == ("It is dark. am I holding a cup", "hello")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([], "a picture, with no face or person that was found"),
        ([("colour", "red")], "a picture, mostly red, with no face or person that was found"),
        ([("person", "")] * 9, "a picture, with 9 people"),
        ([("face", ""), ("person", "")], "a picture, with one face"),
    ],
)
def test_what_is_seen_is_put_in_words(kinds: list[tuple[str, str]], words: str) -> None:
    assert in_words(seen(*kinds).items) == words


def test_the_final_transcript_is_given_what_its_trial_was_given_and_no_other_is() -> None:
    trial, final, other = heard(
        (1, read("EXIT")),
        (2, said("what is it", trial=True)),
        (2.1, read("ENTRY")),
        (2.2, said("what is it")),
        (2.3, said("what is that")),
    )
    assert trial.text == final.text == 'The camera sees the text "EXIT". what is it'
    assert "ENTRY" in other.text


def test_a_page_of_print_is_cut_between_words() -> None:
    (told,) = heard((1, read("one two three", 'four "five"')), (2, said("hm")), most=15, telling="{text}: ")
    assert told.text == "one two three: hm"


def test_a_telling_without_a_place_for_the_text_is_refused() -> None:
    from thalweg.pipeline.file.catalog import find_stage

    with pytest.raises(ValueError, match="telling"):
        find_stage("language.sight").parameters(telling="look!")


class Asker:
    """Asks once, after two seconds."""

    outputs = {"out": Transcript}

    async def run(self, ctx: Context) -> None:
        await asyncio.sleep(2)
        ctx.emit(said("what does it say"), time=ctx.now_ns(), epoch=1)


@pytest.mark.usefixtures("voice_demo")
def test_a_small_model_answers_about_what_a_camera_shows() -> None:
    require_package(TEXT_READER, "video")
    graph = Graph(name="test")
    graph.add("camera", VideoFile(LABELS))
    graph.add("reader", TextInFrames())
    graph.add("asker", Asker())
    graph.add("sight", Sight())
    graph.add("chat", Chat(temperature=0.0, max_tokens=40))
    told, answer = (type("Kept", (Collect,), {"inputs": {"in": kind}})() for kind in (Transcript, Token))
    graph.add("told", told)
    graph.add("answer", answer)
    graph.connect("camera", "reader", policy=Policy.LATEST)
    graph.connect("reader", "sight.detections", policy=Policy.LATEST)
    graph.connect("asker", "sight.transcript")
    graph.connect("sight", "chat.transcript")
    graph.connect("sight", "told")
    graph.connect("chat.token", "answer")
    asyncio.run(Worker(graph).run())
    (asked,) = (e.packet.payload.text for e in told.emitted)
    answered = "".join(e.packet.payload.text for e in answer.emitted)
    assert "what does it say" in asked
    words = {word for word in asked.split('"')[1].lower().split() if len(word) > 3}
    assert words & set(re.findall(r"\w+", answered.lower())), (asked, answered)
