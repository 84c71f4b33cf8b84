"""Offers and candidates that somebody may post."""

from __future__ import annotations

GOOD = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AA'] * 32)}\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n"
    "a=ice-pwd:0123456789012345678901\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"
    "a=rtpmap:96 opus/48000/2\r\n"
)
_AUDIO = GOOD[GOOD.index("m=audio") :]
_CANDIDATE = "a=candidate:1 1 UDP 1 10.0.0.1 9 typ host\r\n"


def _without(name: str) -> str:
    return "\r\n".join(line for line in GOOD.split("\r\n") if not line.startswith(name))


REFUSED: dict[str, str] = {
    "a bundle of nine thousand": GOOD.replace("BUNDLE 0", "BUNDLE " + " ".join(map(str, range(9000)))),
    "nothing": "",
    "a word": "hello",
    "a version": "v=0",
    "a section that ends": "v=0\r\nm=audio",
    "versions without end": "v=0\r\n" * 10_000,
    "null characters": "\x00" * 50_000,
    "no line end": "v=0" + "a" * 60_000,
    "half a character": GOOD + "a=\ud800\r\n" * 10 + "m=audio\r\n",
    "no ICE name": _without("a=ice-ufrag"),
    "no ICE password": _without("a=ice-pwd"),
    "no fingerprint": _without("a=fingerprint"),
    "no setup": _without("a=setup"),
    "no codec": _without("a=rtpmap"),
    "no multiplexing": _without("a=rtcp-mux"),
    "a fingerprint of MD5": GOOD.replace("sha-256", "md5"),
    "a fingerprint of one byte": GOOD.replace(":".join(["AA"] * 32), "AA"),
    "a password of a letter": GOOD.replace("0123456789012345678901", "0"),
    "an ICE name of a kilobyte": GOOD.replace("abcd", "a" * 1000),
    "an ICE name of another script": GOOD.replace("abcd", "аbcd"),
    "a port that is refused": GOOD.replace("audio 9 ", "audio 0 "),
    "a port of nine digits": GOOD.replace("audio 9 ", "audio 999999999 "),
    "a negative port": GOOD.replace("audio 9 ", "audio -1 "),
    "a codec of another rate": GOOD.replace("48000", "4800000000000000000000"),
    "a codec of no rate": GOOD.replace("/48000/2", ""),
    "formats that are words": GOOD.replace("SAVPF 96", "SAVPF a b c"),
    "five hundred sections": GOOD + _AUDIO.replace("a=mid:0", "a=mid:1") * 500,
    "fifty-one candidates": GOOD + _CANDIDATE * 51,
    "a candidate of nothing": GOOD + "a=candidate:\r\n",
    "a candidate with a port of eight digits": GOOD + _CANDIDATE.replace(" 9 typ", " 99999999 typ"),
    "a candidate of great priority": GOOD + _CANDIDATE.replace("UDP 1 ", f"UDP {10**30} "),
    "a candidate without a type": GOOD + "a=candidate:1 1 UDP 1 10.0.0.1 9\r\n",
    "a candidate of component -1": GOOD + _CANDIDATE.replace(":1 1 UDP", ":1 -1 UDP"),
    "video alone": GOOD.replace("m=audio", "m=video").replace("opus/48000/2", "VP8/90000"),
    "a data channel alone": GOOD[: GOOD.index("m=audio")]
    + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n",
    "a section of text": GOOD.replace("m=audio", "m=text"),
}
TAKEN_IN_PART: dict[str, str] = {
    "a bundle of nobody": GOOD.replace("BUNDLE 0", "BUNDLE 0 1 2 x"),
    "no bundle": GOOD.replace("a=group:BUNDLE 0\r\n", ""),
    "a candidate that is a name": GOOD + _CANDIDATE.replace("10.0.0.1", "evil.example"),
    "a candidate that is ours": GOOD + _CANDIDATE.replace("10.0.0.1", "127.0.0.1"),
    "ten names of the network": GOOD + _CANDIDATE.replace("10.0.0.1", "x.local") * 10,
    "terminal commands in a name": GOOD.replace("s=-", "s=\x1b[2J\x1b]0;evil\x07"),
    "attributes that there are not": GOOD + "a=__proto__:x\r\n" * 500,
    "unix line ends": GOOD.replace("\r\n", "\n"),
}
