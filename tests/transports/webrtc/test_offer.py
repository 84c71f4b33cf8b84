"""What of an offer can be answered, and what is refused; every offer here is one of aiortc's, changed."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from functools import cache

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.transports.webrtc import Call, OfferError, Peer, read_offer
from thalweg.transports.webrtc.sections import MAX_SECTIONS

Change = Callable[[str], str]


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@cache
def offered(*kinds: str) -> str:
    async def make() -> str:
        peer = RTCPeerConnection()
        for kind in kinds:
            if kind == "channel":
                peer.createDataChannel("events")
            else:
                peer.addTransceiver(kind)
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    return asyncio.run(make())


def sections(sdp: str) -> list[str]:
    return re.split(r"(?m)^(?=m=)", sdp)[1:]


def pictures(codec: str, parameters: str = "") -> Change:
    """The section of pictures with one codec only."""

    def change(sdp: str) -> str:
        head, *rest = re.split(r"(?m)^(?=m=)", sdp)
        made = []
        for section in rest:
            if section.startswith("m=video"):
                lines = [line for line in section.split("\r\n") if not re.match(r"a=(rtpmap|fmtp|rtcp-fb):", line)]
                lines[0] = "m=video 9 UDP/TLS/RTP/SAVPF 96"
                lines[2:2] = [f"a=rtpmap:96 {codec}/90000"] + ([f"a=fmtp:96 {parameters}"] if parameters else [])
                section = "\r\n".join(lines)
            made.append(section)
        return head + "".join(made)

    return change


def answer_to(sdp: str) -> str:
    async def make() -> str:
        peer = Peer(Call())
        try:
            return await peer.answer(sdp)
        finally:
            await peer.close()

    return asyncio.run(make())


@pytest.mark.parametrize(
    ("codec", "parameters", "named"),
    [
        ("H265", "", "H265"),
        ("AV1", "", "AV1"),
        ("VP9", "profile-id=0", "VP9"),
        ("H264", "packetization-mode=1;profile-level-id=640032", "H264 (640032)"),
        ("H264", "packetization-mode=1;profile-level-id=nonsense", "H264 (nonsense)"),
        ("\x1b[2J", "", "["),
    ],
)
@pytest.mark.parametrize("kinds", [("audio", "video", "channel"), ("video", "audio")])
def test_pictures_in_a_codec_that_is_not_known_are_refused_by_name_and_the_sound_is_taken(
    codec: str, parameters: str, named: str, kinds: tuple[str, ...]
) -> None:
    sdp = pictures(codec, parameters)(offered(*kinds))
    (note,) = read_offer(sdp).notes
    assert named in note and "\x1b" not in note
    answer = answer_to(sdp)
    refused = next(section for section in sections(answer) if section.startswith("m=video"))
    assert len(sections(answer)) == len(kinds)
    assert refused.startswith("m=video 0 ") and "a=inactive" in refused
    heard = next(section for section in sections(answer) if section.startswith("m=audio"))
    assert not heard.startswith("m=audio 0 ") and "opus/48000" in heard
    (bundle,) = re.findall(r"a=group:BUNDLE (.*)\r\n", answer)
    assert re.findall(r"a=mid:(\S+)", refused)[0] not in bundle.split()


def rejected(sdp: str) -> str:
    head, *rest = re.split(r"(?m)^(?=m=)", sdp)
    mid = re.findall(r"a=mid:(\S+)", next(section for section in rest if section.startswith("m=video")))[0]
    empty = f"m=video 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:{mid}\r\n"
    return head + "".join(empty if section.startswith("m=video") else section for section in rest)


@pytest.mark.parametrize("kinds", [("audio", "video", "channel"), ("video", "audio", "channel")])
def test_a_section_that_the_other_side_rejects_is_left_out_without_a_word(kinds: tuple[str, ...]) -> None:
    sdp = rejected(offered(*kinds))
    assert read_offer(sdp).notes == ()
    assert [section.split()[1] == "0" for section in sections(answer_to(sdp))] == [kind == "video" for kind in kinds]


def test_where_the_first_section_of_a_bundle_is_refused_its_candidates_go_to_the_next() -> None:
    sdp = pictures("H265")(offered("video", "audio"))
    head, video, audio = re.split(r"(?m)^(?=m=)", sdp)
    bare = "".join(line for line in audio.splitlines(True) if not re.match("a=(candidate|end-of-cand)", line))
    offer = read_offer(head + video + bare)
    assert set(re.findall("a=candidate:.*", video.replace("\r", ""))) <= set(offer.sdp.split("\r\n"))
    assert offer.mid_of("0") == "1" == offer.mid_of("1")


def test_a_section_that_leaves_out_what_its_bundle_shares_gets_it() -> None:
    head, audio, video = re.split(r"(?m)^(?=m=)", offered("audio", "video"))
    bare = (
        "".join(
            line for line in video.splitlines(True) if not re.match("a=(ice-|fingerprint|setup|candidate|end-of)", line)
        ).replace("m=video 9", "m=video 0", 1)
        + "a=bundle-only\r\n"
    )
    bare = re.sub(r"^m=video \d+", "m=video 0", bare)
    offer = read_offer(head + audio + bare)
    assert offer.notes == ()
    assert [section.split()[1] != "0" for section in sections(answer_to(head + audio + bare))] == [True, True]


def opus_only_as(name: str) -> Change:
    return lambda sdp: sdp.replace("opus/48000/2", name)


def without(pattern: str) -> Change:
    return lambda sdp: re.sub(rf"a={pattern}.*\r\n", "", sdp)


def many(count: int) -> Change:
    def change(sdp: str) -> str:
        head, audio = re.split(r"(?m)^(?=m=)", sdp)
        head = re.sub("a=group:BUNDLE.*\r\n", "", head)
        return head + "".join(audio.replace("a=mid:0", f"a=mid:{i}") for i in range(count))

    return change


CANDIDATE = "a=candidate:1 1 udp 2130706431 10.9.9.1 9 typ host\r\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda sdp: "", "empty"),
        (lambda sdp: "hello", "a line 'hello'"),
        (lambda sdp: "v=0\r\nm=audio", "a section 'm=audio'"),
        (lambda sdp: "v=0\r\n" * 5000, "too long"),
        (lambda sdp: "v=0\r\n", "no audio"),
        (lambda sdp: sdp + "a=x:\x00", "not text"),
        (lambda sdp: sdp + "a=x:\ud800", "not text"),
        (lambda sdp: sdp + "a=x\u2028m=audio 9 UDP/TLS/RTP/SAVPF 0", "a line"),
        (lambda sdp: sdp + "a=x:" + "y" * 5000, "too long"),
        (lambda sdp: sdp + "a=x:" + "y" * 70_000, "characters"),
        (opus_only_as("tapedeck/48000/2"), "no Opus"),
        (opus_only_as("opus/8000/2"), "no Opus"),
        (without("rtpmap:"), "no Opus"),
        (without("ice-ufrag:"), "no ICE user name"),
        (without("ice-pwd:"), "no ICE user name"),
        (lambda sdp: re.sub("ice-pwd:.*", "ice-pwd:short", sdp), "no ICE user name"),
        (without("fingerprint:"), "no fingerprint"),
        (lambda sdp: re.sub("fingerprint:.*", "fingerprint:md5 00:11", sdp), "no fingerprint"),
        (without("setup:"), "DTLS"),
        (lambda sdp: re.sub("setup:.*", "setup:perhaps", sdp), "DTLS"),
        (without("rtcp-mux"), "rtcp-mux"),
        (many(MAX_SECTIONS + 1), "media sections"),
        (lambda sdp: many(2)(sdp).replace("a=mid:1", "a=mid:0"), "the same name"),
        (lambda sdp: sdp + CANDIDATE * 51, "candidates"),
        (lambda sdp: sdp + "a=candidate:nonsense\r\n", "cannot be read"),
        (lambda sdp: sdp + CANDIDATE.replace(" 9 ", " 99999999 "), "cannot be read"),
        (lambda sdp: sdp + CANDIDATE.replace("2130706431", "9" * 30), "cannot be read"),
        (lambda sdp: sdp.replace("m=audio", "m=audio audio"), "a section"),
        (lambda sdp: re.sub("m=audio .*", "m=audio 9 UDP/TLS/RTP/SAVPF 72", sdp), "no Opus"),
        (lambda sdp: re.sub("v=0", "v=zero", sdp), "cannot be read"),
        (lambda sdp: re.sub(r"m=audio \d+", "m=audio 0", sdp), "no audio"),
    ],
)
def test_an_offer_that_cannot_be_answered_is_refused_with_what_is_wrong(change: Change, reason: str) -> None:
    with pytest.raises(OfferError, match=re.escape(reason)):
        read_offer(change(offered("audio")))


@pytest.mark.parametrize(
    "change",
    [
        lambda sdp: sdp.replace("\r\n", "\n"),
        lambda sdp: sdp + "\r\n\r\n",
        without("candidate:"),
        without("group:"),
        lambda sdp: sdp + CANDIDATE.replace("10.9.9.1", "nohost.invalid"),
        lambda sdp: sdp + CANDIDATE.replace("udp", "tcp").replace("host", "host tcptype active"),
        lambda sdp: sdp + CANDIDATE.replace("10.9.9.1", "fd00::1"),
        lambda sdp: sdp + "m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:t\r\n",
        lambda sdp: sdp + "m=video 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:t\r\na=rtpmap:x\r\n",
        lambda sdp: sdp + "m=application 9 TCP/DTLS/BFCP webrtc\r\na=mid:t\r\n",
    ],
)
def test_what_is_odd_but_harmless_is_answered(change: Change) -> None:
    offer = change(offered("audio"))
    assert len(sections(answer_to(offer))) == len(re.findall("(?m)^m=", offer))


def test_candidates_that_lead_nowhere_are_left_out_and_names_of_a_local_network_are_few() -> None:
    nowhere = CANDIDATE.replace("10.9.9.1", "nohost.invalid")
    local = "".join(CANDIDATE.replace("10.9.9.1", f"{i}.local") for i in range(20))
    offer = read_offer(offered("audio") + nowhere + local)
    assert "nohost" not in offer.sdp
    assert offer.sdp.count(".local") == 5


def test_whoever_can_be_reached_by_no_candidate_may_still_reach_us() -> None:
    async def case() -> None:
        mine, theirs = RTCPeerConnection(), Peer(Call())
        mine.addTransceiver("audio")
        await mine.setLocalDescription(await mine.createOffer())
        assert "a=end-of-candidates" in mine.localDescription.sdp
        unknown = re.sub(r"(a=candidate:\S+ \d \S+ \d+) \S+", r"\1 nohost.invalid", mine.localDescription.sdp)
        answer = await theirs.answer(unknown)
        await theirs.add_candidate("", "0")
        connected = asyncio.Event()
        mine.on("connectionstatechange", lambda: mine.connectionState == "connected" and connected.set())
        await mine.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        async with asyncio.timeout(30.0):
            await connected.wait()
        await mine.close()
        await theirs.close()

    asyncio.run(case())


def test_an_offer_of_the_largest_size_is_looked_over_in_a_moment() -> None:
    sdp = offered("audio")
    codecs = "".join(f"a=rtpmap:{i % 128} x{i}/8000\r\na=rtcp-fb:* x{i}\r\n" for i in range(700))
    began = time.process_time()
    with pytest.raises(OfferError):
        read_offer(sdp + codecs)
    assert time.process_time() - began < 0.5


def test_the_answer_is_one_that_whoever_offered_can_take() -> None:
    async def case() -> None:
        mine, theirs = RTCPeerConnection(), Peer(Call())
        mine.addTransceiver("video")
        mine.addTransceiver("audio")
        await mine.setLocalDescription(await mine.createOffer())
        answer = await theirs.answer(mine.localDescription.sdp)
        await mine.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        await mine.close()
        await theirs.close()

    asyncio.run(case())


LINES = st.sampled_from(
    """a=group:BUNDLE|a=group:|a=mid:|a=mid:0|a=rtpmap:96 H264/90000|a=rtpmap:111|a=fmtp:96|a=setup:active|a=candidate:
    |a=bundle-only|m=audio 0 X 0|m=video 9 UDP/TLS/RTP/SAVPF 96|c=IN|v=|a=extmap:1/x y|a=ssrc:1|a=ssrc-group:FID x
    |a=rtcp:9|a=sctp-port:x|a=max-message-size:x|a=msid:|a=candidate:1 1 udp 2130706431 10.9.9.1 9 typ host""".replace(
        "\n    ", ""
    ).split("|")
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.one_of(LINES, st.text(max_size=30)), st.booleans()), max_size=12))
def test_whatever_is_changed_an_offer_is_read_or_refused(changes: list[tuple[int, str, bool]]) -> None:
    lines = offered("audio", "video", "channel").split("\r\n")
    for place, text, replaced in changes:
        lines[place % len(lines) : place % len(lines) + replaced] = [text]
    try:
        offer = read_offer("\r\n".join(lines))
    except OfferError as error:
        said = str(error)
        assert said.isprintable() and len(said) < 300
    else:
        assert offer.completed("v=0\r\n" + "m=audio 9 X 0\r\n" * sum(offer.kept)).count("m=") >= len(offer.sections)
