"""What a person sets at the page changes their own conversation, within what the pipeline file offers, and no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.deploy.server.serving import PARROT, PATIENCE_S, Server, run
from thalweg.deploy.server.preferring import PAUSE_S
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk
from thalweg.pipeline.stage import Context, StageError
from thalweg.transports.webrtc.client import Talker


class Dials:
    """Passes sound on, and has things to turn."""

    inputs = {"audio": AudioChunk}
    outputs = {"audio": AudioChunk}
    configurable = ("speed", "tongue", "secret")

    def __init__(
        self, speed: Annotated[float, Field(gt=0, le=4)] = 1.0, tongue: str = "en", secret: str = "kept"
    ) -> None:
        self.set: dict[str, Any] = {"speed": speed, "tongue": tongue, "secret": secret}
        self.times = 0

    def configure(self, settings: Mapping[str, Any]) -> None:
        self.times += 1
        if settings.get("tongue") == "la":
            raise StageError("/etc/models/latin is not there")
        if settings.get("tongue") == "xx":
            raise KeyError("xx")
        self.set |= settings

    def process(self, packet: Packet, ctx: Context) -> None:
        ctx.emit(packet.payload)


OFFERS = """
name: dials
preferences:
  dials.speed: {label: Speed of speech, from: 0.5, to: 2, step: 0.25}
  dials.tongue: {label: Language, values: {en: English, de: Deutsch, la: Latin, xx: Broken}}
stages:
  microphone: {use: live.microphone}
  dials: {use: "tests.deploy.server.test_preferences:Dials"}
  speaker: {use: live.speaker}
connections:
  - microphone -> dials -> speaker
"""


def dials(server: Server, talker: Talker) -> Dials:
    stage = server.conversations.sessions[talker.session].worker.actors["dials"].stage
    assert isinstance(stage, Dials)
    return stage


def wish(name: str, value: object) -> dict[str, Any]:
    return {"type": "prefer", "name": name, "value": value}


def test_the_page_is_told_what_may_be_chosen_and_what_it_is_now() -> None:
    async def case(server: Server) -> None:
        _, config = await server.ask("GET", "/config")
        speed, tongue = config["preferences"]
        about = {
            "name": "dials.speed",
            "label": "Speed of speech",
            "value": 1.0,
            "from": 0.5,
            "to": 2.0,
            "step": 0.25,
            "unit": "",
        }
        assert speed == about
        assert tongue["values"][1] == {"value": "de", "label": "Deutsch"} and tongue["value"] == "en"

    run(case, pipeline=OFFERS)


def test_where_a_file_offers_nothing_nothing_can_be_set() -> None:
    async def case(server: Server) -> None:
        assert (await server.ask("GET", "/config"))[1]["preferences"] == []
        async with Talker(server.url) as talker:
            talker.send(wish("speaker.ahead", 1))
            assert (await talker.next("trouble"))["code"] == "not-offered"

    run(case, pipeline=PARROT)


def test_a_wish_changes_the_conversation_of_who_has_it_alone() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as other:
            await server.until(lambda: server.conversations.ready)
            async with Talker(server.url) as talker:
                talker.send(wish("dials.speed", 1.5))
                talker.send(wish("dials.tongue", "de"))
                told = {(e := await talker.next("preferred"))["name"]: e["value"] for _ in range(2)}
                assert told == {"dials.speed": 1.5, "dials.tongue": "de"}
                assert dials(server, talker).set == {"speed": 1.5, "tongue": "de", "secret": "kept"}
                assert dials(server, other).set == {"speed": 1.0, "tongue": "en", "secret": "kept"}
        async with Talker(server.url) as newcomer:
            assert dials(server, newcomer).set["speed"] == 1.0

    run(case, pipeline=OFFERS)


HOSTILE: dict[str, tuple[object, object]] = {
    "another parameter": ("dials.secret", "told"),
    "another stage": ("speaker.ahead", 5),
    "no stage": ("", 1),
    "dunder": ("dials.__class__", "x"),
    "method": ("dials.configure", "x"),
    "too fast": ("dials.speed", 2.01),
    "too slow": ("dials.speed", -1e308),
    "zero": ("dials.speed", 0),
    "number as text": ("dials.speed", "1.5"),
    "text not offered": ("dials.tongue", "fr"),
    "path": ("dials.tongue", "../../etc/passwd"),
    "label, not value": ("dials.tongue", "Deutsch"),
    "number for text": ("dials.tongue", 1),
    "with space": ("dials.tongue", "de "),
}


@pytest.mark.parametrize(("name", "value"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_else_can_be_set(name: str, value: object) -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            talker.send(wish(name, value))
            trouble = await talker.next("trouble")
            assert trouble["code"] == "not-offered"
            assert not isinstance(value, str) or len(value) < 4 or value not in trouble["message"]
            await asyncio.sleep(2 * PAUSE_S)
            stage = dials(server, talker)
            assert stage.times == 0 and stage.set == {"speed": 1.0, "tongue": "en", "secret": "kept"}

    run(case, pipeline=OFFERS)


MALFORMED = ["true", "null", "[1]", '{"a": 1}', "NaN", "Infinity", "1e999", "9" * 400, json.dumps("x" * 81)]


@pytest.mark.parametrize("value", MALFORMED)
def test_a_value_that_is_no_text_and_no_number_is_no_message(value: str) -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            talker._channel.send(f'{{"v": 1, "type": "prefer", "name": "dials.speed", "value": {value}}}')
            assert (await talker.next("trouble"))["code"] == "bad-message"
            assert dials(server, talker).times == 0

    run(case, pipeline=OFFERS)


@pytest.mark.parametrize("tongue", ["la", "xx"])
def test_what_a_stage_refuses_is_told_without_its_reason_and_the_conversation_goes_on(tongue: str) -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            talker.send(wish("dials.tongue", tongue))
            trouble = await talker.next("trouble")
            assert (trouble["code"], trouble["message"]) == (
                "not-set",
                "Language could not be set. It stays as it was.",
            )
            talker.send(wish("dials.tongue", "de"))
            assert (await talker.next("preferred"))["value"] == "de"

    run(case, pipeline=OFFERS)


def test_a_slider_that_is_drawn_costs_the_stage_little_and_ends_where_it_was_let_go() -> None:
    async def case(server: Server) -> None:
        async with Talker(server.url) as talker:
            began = asyncio.get_running_loop().time()
            for step in range(40):
                talker.send(wish("dials.speed", 0.5 + step / 40))
                await asyncio.sleep(0.025)  # within what messages may be
            talker.send(wish("dials.speed", 2.0))
            async with asyncio.timeout(PATIENCE_S):
                while (await talker.next("preferred"))["value"] != 2.0:
                    pass
            rounds = (asyncio.get_running_loop().time() - began) / PAUSE_S
            assert dials(server, talker).set["speed"] == 2.0
            assert dials(server, talker).times <= rounds + 2

    run(case, pipeline=OFFERS)
