"""`thalweg doctor webrtc`: what it says of a server that cannot be talked with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thalweg.deploy.commands import doctor_webrtc
from thalweg.transports.webrtc.signalling import Signalling, TalkError


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://localhost", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://192.0.2.1:8080", True),
        ("https://192.0.2.1", False),
    ],
)
def test_that_browsers_want_tls_is_said_of_servers_elsewhere_alone(
    url: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(server: Signalling, *given: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        return 200, {"status": "ready"}

    def refused(*given: Any, **options: Any) -> Any:
        raise TalkError("no-path", "no connection")

    monkeypatch.setattr(Signalling, "ask", asked)
    monkeypatch.setattr(doctor_webrtc, "Talker", refused)
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    found = asyncio.run(doctor_webrtc.examination(url, "", []))
    assert ("no TLS" in {finding.detail for finding in found.findings}) == warned
