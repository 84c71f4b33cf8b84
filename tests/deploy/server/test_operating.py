"""What the operator and the page are given."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.server.serving import PARROT, SETTINGS, Server, run
from thalweg.deploy.door.front_door import DoorSettings, FrontDoor, left_behind
from thalweg.deploy.server.settings import IceServer, SettingsError, parse_ice
from thalweg.transports.webrtc.client import Talker, TalkError


def test_the_operator_sees_what_goes_on_and_nobody_else() -> None:
    async def case(server: Server) -> None:
        admin = {"Authorization": "Bearer admin"}
        assert (await server.ask("GET", "/sessions"))[0] == 403
        async with Talker(server.url):
            _, body = await server.ask("GET", "/sessions", headers=admin)
            assert [session["state"] for session in body["sessions"]] == ["talking"]
            _, text = await server.ask("GET", "/metrics", headers=admin)
            assert 'thalweg_sessions{state="talking"} 1.0' in text

    run(case)


def test_the_log_says_who_came_went_and_was_refused_and_nothing_of_what_was_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "thalweg")

    async def case(server: Server) -> None:
        async with Talker(server.url):
            for _ in range(3):
                with pytest.raises(TalkError):
                    async with Talker(server.url):
                        pass
        await server.until(lambda: not server.conversations.sessions)

    run(case, replace(SETTINGS, sessions=1))
    told = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [each["event"] for each in told] == ["began", "refused", "ended"]
    assert told[1] == {"event": "refused", "why": "busy", "count": 1}, "three in ten seconds are one line"
    assert {"session", "why", "turns"} <= told[2].keys()


def test_a_token_is_taken_away_from_newcomers_while_the_server_runs(tmp_path: Path) -> None:
    listed = tmp_path / "tokens"
    listed.write_text("old-token\nnew-token\n", encoding="utf-8")

    async def case(server: Server) -> None:
        async def asked(token: str) -> int:
            return (await server.ask("POST", "/offer", json={}, headers={"Authorization": f"Bearer {token}"}))[0]

        assert (await server.ask("GET", "/config"))[1]["token"] is True
        assert [await asked("old-token"), await asked("new-token"), await asked("no-token")] == [400, 400, 401]
        listed.write_text("new-token\nexpired-token 2020-01-01\n", encoding="utf-8")
        assert [await asked("old-token"), await asked("new-token"), await asked("expired-token")] == [401, 400, 401]

    run(case, replace(SETTINGS, token_file=listed))


def test_the_page_is_told_what_of_a_conversation_is_kept(tmp_path: Path) -> None:
    kept = PARROT.replace("speaker: {", f"ear: {{use: sink.audio, path: {tmp_path / 'heard.wav'}}}\n  speaker: {{")
    kept += "  - microphone -> ear\n"

    async def case(server: Server) -> None:
        (one,) = (await server.ask("GET", "/config"))[1]["keeps"]
        assert one == {"stage": "ear", "what": "sound, in a file"}
        assert 'id="kept"' in (await server.ask("GET", "/"))[1]

    async def nothing(server: Server) -> None:
        config = (await server.ask("GET", "/config"))[1]
        assert (config["keeps"], config["keepsNothing"]) == ([], True)

    run(case, pipeline=kept)
    run(nothing, pipeline=PARROT + "keep: nothing\n")


def test_errors_that_nobody_waits_for_are_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def case() -> None:
        door = FrontDoor(DoorSettings())
        asyncio.get_running_loop().set_exception_handler(partial(left_behind, door))
        for _ in range(100):
            asyncio.get_running_loop().call_soon(int, "none")
        await asyncio.sleep(0.05)
        assert door.keeper.counts["left_errors"] == 100
        assert len([record for record in caplog.records if "ValueError" in record.getMessage()]) == 1

    asyncio.run(case())


def test_servers_for_ice_are_read_with_their_credentials() -> None:
    assert parse_ice("stun:a.example:3478") == IceServer(url="stun:a.example:3478")
    turn = parse_ice("turn:me:s3cret@b.example?transport=tcp")
    assert turn == IceServer(url="turn:b.example?transport=tcp", username="me", credential="s3cret")
    for wrong in ("http://x", "turn:b.example", "stun:"):
        with pytest.raises(SettingsError):
            parse_ice(wrong)


def test_the_page_is_there_with_everything_it_names() -> None:
    async def case(server: Server) -> None:
        _, page = await server.ask("GET", "/")
        for name in ("app.js", "call.js", "turns.js", "timeline.js", "trouble.js", "style.css", "icon.svg"):
            assert (await server.ask("GET", f"/web/{name}"))[0] == 200
        assert "web/app.js" in page
        assert (await server.ask("GET", "/web/secrets.txt"))[0] == 404

    run(case)
