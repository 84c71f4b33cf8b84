"""Certificates of both kinds are taken, as RFC 8827 §6.5 leaves the choice to either side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.rtcdtlstransport import RTCCertificate, generate_certificate
from cryptography.hazmat.primitives.asymmetric import rsa

from thalweg.transports.webrtc import Call, Peer


class OfRsa(RTCCertificate):
    """What GStreamer 1.22 has: an RSA key, and any cipher."""

    @classmethod
    def make(cls) -> OfRsa:
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(key=key, cert=generate_certificate(key))

    def _create_ssl_context(self, *args: Any, **options: Any) -> Any:
        context = super()._create_ssl_context(*args, **options)
        context.set_cipher_list(b"HIGH:!aNULL")
        return context


@pytest.mark.parametrize("setup", ["actpass", "active"])
def test_a_side_with_an_rsa_certificate_connects_whoever_of_the_two_begins(
    monkeypatch: pytest.MonkeyPatch, setup: str
) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])

    async def case() -> None:
        mine, theirs = RTCPeerConnection(), Peer(Call())
        mine._RTCPeerConnection__certificates = [OfRsa.make()]  # type: ignore[attr-defined]
        mine.addTransceiver("audio")
        await mine.setLocalDescription(await mine.createOffer())
        offer = mine.localDescription.sdp.replace("a=setup:actpass", f"a=setup:{setup}")
        answer = await theirs.answer(offer)
        connected = asyncio.Event()
        mine.on("connectionstatechange", lambda: mine.connectionState == "connected" and connected.set())
        await mine.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        async with asyncio.timeout(30.0):
            await connected.wait()
        await mine.close()
        await theirs.close()

    asyncio.run(case())
