"""An offer, looked at before anything is taken for it: what of it can be answered, and what has to be refused.

Theory of operation. A conversation needs one section with Opus; everything else is a bonus, and must not cost it. So
each section is judged by itself: one that the other side does not want (port 0), or that is of no use here (a video
codec we do not have, no DTLS, a second data channel), is taken out of what aiortc is given and refused in the answer,
at its place. What is wrong with the whole (no ICE, no fingerprint, too many sections or candidates) refuses the whole.

That there are no more candidates is not passed on: names that cannot be looked up, as those of browsers cannot from
another network, would then end a connection that the other side's first packet would have made (RFC 8445 §7.3.1.3).

Sections of one bundle share a transport (RFC 8843): where the first of them is refused, its candidates go to the next,
and sections that leave out what they share with it get it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiortc.codecs import CODECS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import SessionDescription, candidate_from_sdp

from thalweg.pipeline.decoding import decoder
from thalweg.pipeline.text import printable
from thalweg.transports.webrtc.sections import OfferError, Section, taken_apart, values

MAX_CANDIDATES = 50
MAX_LOCAL_NAMES = 5
MAX_CODECS = 60
USABLE = ("audio/opus", "video/h264", "video/vp8")
_UFRAG = re.compile(r"[A-Za-z0-9+/_\-=]{4,256}", re.ASCII)
_PASSWORD = re.compile(r"[A-Za-z0-9+/_\-=]{22,256}", re.ASCII)
_FINGERPRINT = re.compile(r"sha-(256|384|512) [0-9A-F]{2}(:[0-9A-F]{2}){31,63}", re.ASCII | re.IGNORECASE)
_SHARED = ("ice-ufrag", "ice-pwd", "fingerprint", "setup")
_NO_AUDIO = "the offer has no audio: send a description with an audio section, and Opus in it"
_NO_OPUS = "the offer has no Opus at 48 kHz, which every WebRTC client must have (RFC 7874)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What can be answered of an offer. `sdp`: for aiortc; `notes`: what was left out and why, sentences for people."""

    sdp: str
    ufrag: str
    has_channel: bool
    candidates: int
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    kept: tuple[bool, ...]

    def completed(self, answer: str) -> str:
        """The answer of aiortc, with a refusal at the place of each section that was left out."""
        head, *answered = re.split(r"(?m)^(?=m=)", answer)
        rest = iter(answered)
        parts = [
            next(rest, "") if kept else "".join(f"{line}\r\n" for line in section.refusal())
            for section, kept in zip(self.sections, self.kept, strict=True)
        ]
        return head + "".join(parts)

    def mid_of(self, mid: str | None) -> str | None:
        """Where a candidate for `mid` belongs: to the first section that is kept, where that one was left out."""
        left_out = {section.mid for section, kept in zip(self.sections, self.kept, strict=True) if not kept}
        if mid not in left_out:
            return mid
        return next(section.mid for section, kept in zip(self.sections, self.kept, strict=True) if kept)


@decoder(OfferError, "the offer")
def read_offer(text: str) -> Offer:
    """Look an offer over. Raises OfferError, saying what is wrong with it; aiortc can read what is given back."""
    session, sections = taken_apart(text)
    sections = _shared(session, sections)
    candidates = _candidates(session, sections)
    reasons = [_trouble(session, section) for section in sections]
    _once(sections, reasons)
    kept = [reason is None for reason in reasons]
    if not any(kept[i] and section.kind == "audio" for i, section in enumerate(sections)):
        raise OfferError(_why_silent(sections, reasons))
    sdp = _rendered(session, sections, kept)
    try:
        SessionDescription.parse(sdp)
    except Exception as error:  # aiortc's parser raises whatever its string handling stumbles over
        raise OfferError(f"the offer cannot be read: {type(error).__name__}: {printable(error, 100)}") from None
    first = next(section for section, taken in zip(sections, kept, strict=True) if taken)
    return Offer(
        sdp=sdp,
        ufrag=next(_of(session, first, "ice-ufrag"), ""),
        has_channel=any(kept[i] and section.kind == "application" for i, section in enumerate(sections)),
        candidates=candidates,
        notes=tuple(reason for reason in reasons if reason),
        sections=tuple(sections),
        kept=tuple(kept),
    )


def usable_candidate(line: str) -> bool:
    """Whether a candidate leads anywhere: to an address, or a name that only its own network knows (mDNS).

    Raises OfferError on what is no candidate.
    """
    try:
        found = candidate_from_sdp(line)
        right = 0 <= found.port < 65536 and 0 <= found.priority < 2**32 and 1 <= found.component <= 256
    except (ValueError, IndexError, AssertionError):
        right = False
    if not right:
        raise OfferError(f"the candidate {printable(line, 80)!r} cannot be read (RFC 8839)")
    if found.ip.lower().endswith(".local"):
        return len(found.ip) <= 255
    try:
        ipaddress.ip_address(found.ip)
    except ValueError:
        return False
    return True


def _of(session: list[str], section: Section, name: str) -> Iterator[str]:
    """The values of an attribute that a section has, or else the session."""
    own = list(section.values(name))
    return iter(own or list(values(session, name)))


def _bundle(session: list[str]) -> list[str]:
    groups = [group.split() for group in values(session, "group")]
    return next((mids for semantic, *mids in groups if semantic == "BUNDLE"), []) if all(groups) else []


def _shared(session: list[str], sections: list[Section]) -> list[Section]:
    """Sections of a bundle with what they leave out because its first one has it."""
    bundle = _bundle(session)
    first = next((section for section in sections if bundle and section.mid == bundle[0]), None)
    if first is None:
        return sections
    found = []
    for section in sections:
        if section.mid in bundle and not list(_of(session, section, "ice-ufrag")):
            lines = [f"a={name}:{value}" for name in _SHARED for value in first.values(name)]
            section = section.without(*_SHARED).with_lines(*lines)
        found.append(section)
    return found


def _candidates(session: list[str], sections: list[Section]) -> int:
    """How many candidates there are; takes out those that lead nowhere. Raises OfferError."""
    count = names = 0
    for i, section in enumerate(sections):
        good = []
        for line in section.values("candidate"):
            count += 1
            if count > MAX_CANDIDATES:
                raise OfferError(f"the offer has more than {MAX_CANDIDATES} candidates")
            if usable_candidate(line):
                names += ".local " in line.lower()
                if names <= MAX_LOCAL_NAMES:
                    good.append(f"a=candidate:{line}")
        sections[i] = section.without("candidate", "end-of-candidates").with_lines(*good)
    return count


def _trouble(session: list[str], section: Section) -> str | None:
    """Why a section cannot be taken; None where it can, an empty text where nothing needs to be said about it."""
    if section.rejected:
        return ""
    if section.kind not in ("audio", "video", "application"):
        return f"a section of {section.kind} is not taken"
    lacking = _lacking(session, section)
    if lacking:
        return f"its {section.kind} section {lacking}"
    if section.kind == "application":
        known = "DTLS/SCTP" in section.profile and (
            "webrtc-datachannel" in section.formats or section.formats[0].isdigit()
        )
        return None if known else f"a section of {printable(section.profile, 40)} is not taken"
    if next(section.values("rtcp-mux"), None) is None:
        return f"its {section.kind} section does not multiplex RTCP (a=rtcp-mux, RFC 8834)"
    return _codec_trouble(section) or _unreadable(section)


def _lacking(session: list[str], section: Section) -> str:
    """What a section lacks to be connected; empty where nothing."""
    ufrag, password = next(_of(session, section, "ice-ufrag"), ""), next(_of(session, section, "ice-pwd"), "")
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        return "has no ICE user name and password (a=ice-ufrag of 4 characters or more, a=ice-pwd of 22)"
    if not any(_FINGERPRINT.fullmatch(value) for value in _of(session, section, "fingerprint")):
        return "has no fingerprint of a certificate (a=fingerprint:sha-256 …)"
    if next(_of(session, section, "setup"), "") not in ("actpass", "active", "passive"):
        return "does not say who begins with DTLS (a=setup:actpass)"
    return ""


def _codec_trouble(section: Section) -> str | None:
    """Why none of a section's codecs is of use; None where one is."""
    codecs = _codecs(section)
    if len(codecs) > MAX_CODECS:
        return f"its {section.kind} section has {len(codecs)} codecs, expected at most {MAX_CODECS}"
    common = find_common_codecs(CODECS[section.kind], codecs)
    if any(codec.mimeType.lower() in USABLE for codec in common):
        return None
    if section.kind == "audio":
        return _NO_OPUS
    named = ", ".join(dict.fromkeys(_shown(codec) for codec in codecs)) or "no codec"
    return f"its pictures are left out: they come as {printable(named, 120)}, and H.264 (baseline) or VP8 is taken"


def _unreadable(section: Section) -> str | None:
    """What aiortc says of a section that it cannot read; None where it can."""
    try:
        SessionDescription.parse("\r\n".join(["v=0", *section.text(), ""]))
    except Exception as error:  # aiortc's parser raises whatever its string handling stumbles over
        return f"its {section.kind} section cannot be read: {type(error).__name__} {printable(error, 80)}".rstrip()
    return None


def _codecs(section: Section) -> list[RTCRtpCodecParameters]:
    """What a section can send, read by aiortc; nothing of a section that it cannot read."""
    lines = [line for line in section.lines if line.startswith(("a=rtpmap:", "a=fmtp:"))][: 4 * MAX_CODECS]
    bare = replace(
        section, lines=tuple(lines), formats=tuple(f for f in section.formats if f.isdigit())[: 4 * MAX_CODECS]
    )
    if not bare.formats:
        return []
    try:
        return list(SessionDescription.parse("\r\n".join(["v=0", *bare.text(), ""])).media[0].rtp.codecs)
    except Exception:
        return []


def _shown(codec: RTCRtpCodecParameters) -> str:
    name = codec.mimeType.partition("/")[2]
    profile = codec.parameters.get("profile-level-id")
    return f"{name} ({profile})" if profile else name


def _once(sections: list[Section], reasons: list[str | None]) -> None:
    """One data channel, one section of pictures; of sound as many as there are, the first of which is heard."""
    for kind, said in (("application", "a second section of data channels is not taken"), ("video", "")):
        taken = [i for i, section in enumerate(sections) if section.kind == kind and reasons[i] is None]
        for i in taken[1:]:
            reasons[i] = said


def _why_silent(sections: list[Section], reasons: list[str | None]) -> str:
    said = [reasons[i] for i, section in enumerate(sections) if section.kind == "audio" and reasons[i]]
    first = said[0] if said else None
    return _NO_AUDIO if first is None else first if first == _NO_OPUS else f"the offer has no audio to take: {first}"


def _rendered(session: list[str], sections: list[Section], kept: list[bool]) -> str:
    """What aiortc is given: the sections that are kept, and bundles without the others."""
    bundle = _bundle(session)
    left = [section for section, taken in zip(sections, kept, strict=True) if taken]
    mids = {section.mid for section in left}
    together = [mid for mid in bundle if mid in mids]
    moved = [
        f"a=candidate:{line}"
        for section, taken in zip(sections, kept, strict=True)
        if not taken and section.mid in bundle
        for line in section.values("candidate")
    ]
    if together and moved:
        left = [
            replace(section, lines=tuple(dict.fromkeys((*section.lines, *moved))))
            if section.mid == together[0]
            else section
            for section in left
        ]
    head = [line for line in session if not line.startswith("a=group:")]
    head += [f"a=group:BUNDLE {' '.join(together)}"] if together else []
    return "\r\n".join([*head, *(line for section in left for line in section.text()), ""])
