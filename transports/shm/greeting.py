"""The first message of a producer that connects to a shared memory edge."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from thalweg.pipeline.decoding import decoder, shown
from thalweg.transports.codec import VERSION
from thalweg.transports.link import TransportError
from thalweg.transports.packing import unpack

_KINDS = {"edge": str, "token": str, "generation": int}


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Who comes: for which edge, with which token, and which of its links this is."""

    edge: str
    token: str
    generation: int


def encode_greeting(greeting: Greeting) -> bytes:
    """As a message."""
    hello = {
        "version": VERSION,
        "edge": greeting.edge,
        "token": greeting.token,
        "generation": greeting.generation,
    }
    return b"h" + bytes(msgpack.packb(hello))


@decoder(TransportError, "the greeting")
def decode_greeting(message: bytes) -> Greeting:
    """The greeting in a message. Raises TransportError on anything else, and on one of another version."""
    hello = unpack(message[1:]) if message[:1] == b"h" else None
    if type(hello) is not dict or "version" not in hello:
        raise TransportError("that was no greeting of Thalweg's")
    version = hello["version"]
    if type(version) is not int or version != VERSION:
        said = f"wire version {shown(version)} connects to wire version {VERSION}"
        raise TransportError(f"{said}: install the same Thalweg")
    for field, kind in _KINDS.items():
        if type(hello.get(field)) is not kind:
            raise TransportError(f"a greeting whose {field} is {shown(hello.get(field))}, expected a {kind.__name__}")
    return Greeting(edge=hello["edge"], token=hello["token"], generation=hello["generation"])
