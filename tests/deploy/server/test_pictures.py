"""Pictures through a pipeline and back, in whatever codec the client knows."""

from __future__ import annotations

import asyncio

import pytest
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack

from tests.deploy.server.serving import PATIENCE_S, Server, run
from tests.e2e.server import MIRROR


async def mirrored(server: Server, codec: str) -> tuple[str, list[int]]:
    """Shows the server pictures, knowing one codec; gives the codec agreed on and the widths of what comes back."""
    client = RTCPeerConnection()
    client.addTransceiver("audio")
    video = client.addTransceiver(VideoStreamTrack(), direction="sendrecv")
    known = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in known if c.mimeType.lower() == f"video/{codec}"])
    await client.setLocalDescription(await client.createOffer())
    _, answer = await server.offer(client.localDescription.sdp)
    await client.setRemoteDescription(RTCSessionDescription(sdp=answer["sdp"], type="answer"))
    async with asyncio.timeout(PATIENCE_S):
        frames = [await video.receiver.track.recv() for _ in range(3)]
    await client.close()
    return video._codecs[0].name.lower(), [frame.width for frame in frames]


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_pictures_come_back_in_the_only_codec_that_the_client_knows(codec: str) -> None:
    async def case(server: Server) -> None:
        assert await mirrored(server, codec) == (codec, [640, 640, 640])

    run(case, pipeline=MIRROR)
