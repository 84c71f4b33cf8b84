"""What the operator and the page are given."""

from __future__ import annotations

import pytest

from tests.deploy.server.serving import Server, run
from thalweg.deploy.server.settings import IceServer, SettingsError, parse_ice
from thalweg.transports.webrtc.client import Talker


def test_the_operator_sees_what_goes_on_and_nobody_else() -> None:
    async def case(server: Server) -> None:
        admin = {"Authorization": "Bearer admin"}
        assert (await server.ask("GET", "/sessions"))[0] == 403
        async with Talker(server.url):
            _, body = await server.ask("GET", "/sessions", headers=admin)
            assert [session["state"] for session in body["sessions"]] == ["talking"]
            _, text = await server.ask("GET", "/metrics", headers=admin)
            assert 'thalweg_sessions{state="talking"} 1' in text

    run(case)


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
