"""Where a server is: the parts of its address that decide what may be sent there."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from thalweg.models.http.errors import HttpError, HttpErrorKind, quoted

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A base address, http or https. `path` has no slash at its end; `query` goes with every request, never shown."""

    scheme: str
    host: str
    port: int
    path: str = ""
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises HttpError where it is none, or holds a user name or password, without repeating those."""
        if not text.isprintable() or " " in text.strip():
            raise _wrong(f"the address {_shown(text)!r} holds blanks or control characters")
        try:
            parts = urlsplit(text.strip())
            port = parts.port
            host = (parts.hostname or "").rstrip(".").encode("idna").decode() if not _is_ip(parts) else parts.hostname
        except ValueError:
            raise _wrong(f"{_shown(text)!r} is no address") from None
        if parts.scheme not in _PORTS or not host:
            raise _wrong(f"{_shown(text)!r} is no address of a server")
        if parts.username is not None or parts.password is not None:
            raise _wrong(f"the address of {host} holds a user name or password, which would be shown in messages")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"), parts.query)

    @property
    def loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            ip = ipaddress.ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        return (mapped or ip).is_loopback or (mapped or ip).is_unspecified

    @property
    def origin(self) -> str:
        """Scheme, host and port, as a browser means it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    def at(self, path: str) -> str:
        """The whole address of `path` below this one."""
        return f"{self.origin}{self.path}/{path.lstrip('/')}" + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def _is_ip(parts: SplitResult) -> bool:
    try:
        ipaddress.ip_address((parts.hostname or "").partition("%")[0])
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    """Without what may be a password or a key: nothing before an @, nothing behind a ?."""
    return quoted(text.rpartition("@")[2].partition("?")[0])


def _wrong(what: str) -> HttpError:
    return HttpError(HttpErrorKind.SETTINGS, f"{what}; expected something like https://host:port/v1")
