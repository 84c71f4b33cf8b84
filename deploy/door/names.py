"""Which names a server answers to, and which pages may ask it.

A page of a foreign domain can reach a server inside a private network if that domain resolves to the server (DNS
rebinding): browser and server then agree on host and origin, and only the name is wrong. So a server answers to names
it knows: those of loopback, the address it was reached at, and those it was told of. A page may ask if it is the
server's own, or was told of.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from thalweg.pipeline.errors import ThalwegError

MAX_NAME = 255
_PORTS = {"http": 80, "https": 443}


class WrongName(ThalwegError):
    """A host name or an origin that is none."""


class Names:
    """`host_names`: besides loopback and the address that was connected to; `origins`: besides the server's own."""

    def __init__(self, host_names: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self.hosts = frozenset(host_name(name) for name in host_names)
        self.origins = frozenset(origin_of(origin) for origin in origins)

    def knows(self, host: str, reached: str) -> bool:
        """Whether the header `Host` names this server, which was connected to at the address `reached`."""
        name = _split(host)[0]
        if name is None:
            return False
        if name in self.hosts or name == "localhost":
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or address == _address(reached))

    def same(self, origin: str, scheme: str, host: str) -> bool:
        """Whether a page of `origin` is this server's own, which was asked as `host` over `scheme`.

        Over `https`, too, where the name is one that it was told of: something before it may end TLS.
        """
        found, _, rest = origin.partition("://")
        if found not in _PORTS or any(sign in rest for sign in "/?#@\\"):
            return False
        name, port = _split(host)
        asked, at = _split(rest)
        if name is None or asked != name:
            return False
        if found == scheme:
            return (at or _PORTS[found]) == (port or _PORTS[scheme])
        return found == "https" and name in self.hosts and at == port

    def listed(self, origin: str) -> bool:
        """Whether a page of `origin`, another than the server's own, may ask."""
        return origin.lower() in self.origins


def told_names() -> tuple[str, ...]:
    """Those in the variable THALWEG_HOST_NAME, of servers that have no option for it."""
    return tuple(os.environ.get("THALWEG_HOST_NAME", "").split())


def host_name(text: str) -> str:
    """`Chat.Example.org` → `chat.example.org`. Raises WrongName on an address with scheme, port or path."""
    name, port = _split(text)
    if name is None or port is not None:
        raise WrongName(f"{text!r} is no host name, expected one such as chat.example.org, without scheme and port")
    return name


def origin_of(text: str) -> str:
    """`https://App.example.org/` → `https://app.example.org`. Raises WrongName."""
    scheme, _, rest = text.strip().lower().removesuffix("/").partition("://")
    name, port = _split(rest)
    if scheme not in _PORTS or name is None:
        raise WrongName(f"{text!r} is no origin, expected one such as https://app.example.org, without a path")
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + (f":{port}" if port not in (None, _PORTS[scheme]) else "")


def _split(host: str) -> tuple[str | None, int | None]:
    """Name (lower case, without brackets and last dot) and port of a `Host` header; None for a name that is none."""
    if (
        not host
        or len(host) > MAX_NAME
        or not host.isascii()
        or any(sign <= " " or sign in '/?#@\\"<>' for sign in host)
    ):
        return None, None
    try:
        found = urlsplit(f"//{host}")
        name, port = found.hostname, found.port
    except ValueError:
        return None, None
    return (name.rstrip(".") or None if name else None), port


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
