"""Enrolment codes: what an operator types once into a new node.

A code holds the fingerprint of the hub's authority and a secret that is good once, in letters and digits that are not
mistaken for one another, in groups of five. The node tells the secret only to a hub that has that authority.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

from thalweg.deploy.fleet.errors import FleetError

_PRINT, _SECRET = 15, 10
_GROUP = 5


def make_code(fingerprint: bytes) -> tuple[str, bytes]:
    """A new code for an authority, and the secret in it."""
    secret = secrets.token_bytes(_SECRET)
    text = base64.b32encode(fingerprint[:_PRINT] + secret).decode()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP)), secret


def read_code(text: str) -> tuple[bytes, bytes]:
    """The first bytes of the fingerprint, 120 bits, and the secret. Raises FleetError on what is no code."""
    try:
        found = base64.b32decode(text.replace("-", "").replace(" ", "").upper())
    except ValueError:
        found = b""
    if len(found) != _PRINT + _SECRET:
        raise FleetError("that is no enrolment code: `thalweg hub enrol NAME` prints one, 40 letters and digits")
    return found[:_PRINT], found[_PRINT:]


def fits(fingerprint: bytes, pinned: bytes) -> bool:
    """Whether an authority is the one of a code."""
    return secrets.compare_digest(fingerprint[:_PRINT], pinned)


def hashed(secret: bytes) -> str:
    """What a hub keeps of a secret."""
    return hashlib.sha256(secret).hexdigest()
