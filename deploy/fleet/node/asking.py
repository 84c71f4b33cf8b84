"""Asking the hub: HTTPS with this node's certificate, MessagePack both ways. Blocking, for threads."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from thalweg.deploy.fleet.certificates import HUB_NAME, NO_CHECK_TIME
from thalweg.deploy.fleet.errors import FleetError
from thalweg.pipeline.decoding import decoder, shown
from thalweg.pipeline.text import printable
from thalweg.transports.packing import unpack

PORT = 7443
LARGEST_ANSWER = 4 << 20
STRANGER_S = 30.0
_HUNG_UP = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""What a connection says that was closed while it was idle; http's `RemoteDisconnected` is among them."""


class HubAway(FleetError):
    """The hub could not be reached, or did not answer."""


class HubRefused(FleetError):
    """The hub has answered that it will not. `status`: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@decoder(HubAway, "the answer of the hub")
def _answered(body: bytes) -> dict[str, Any]:
    """A map, with arrays as tuples. Raises HubAway on anything else."""
    found = unpack(body)
    if not isinstance(found, dict):
        raise HubAway("the hub answered something that is no hub's answer")
    return found


@decoder(HubAway, "the refusal of the hub")
def _reason_in(body: bytes) -> str:
    """What a refusal says. Raises HubAway where it says nothing."""
    return str(json.loads(body)["message"])


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where a hub is."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """`hub.example`, `10.0.0.1:7443`, `https://[fd00::1]:7443`. Raises FleetError."""
        rest = text.removeprefix("https://").rstrip("/")
        host, colon, port = rest.rpartition(":") if not rest.endswith("]") else (rest, "", "")
        if not colon:
            host, port = rest, str(PORT)
        if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
            raise FleetError(f"{shown(text)} is no address of a hub, expected HOST or HOST:PORT")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Connection(http.client.HTTPSConnection):
    """Asks for the hub by the name in its certificate, wherever it is."""

    def __init__(self, address: HubAddress, context: ssl.SSLContext, timeout_s: float, checked: Callable[..., None]):
        super().__init__(address.host, address.port, context=context, timeout=timeout_s)
        self._tls = context
        self._checked = checked

    def connect(self) -> None:
        """TCP, then TLS."""
        plain = socket.create_connection((self.host, self.port), self.timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls.wrap_socket(plain, server_hostname=HUB_NAME)
        except OSError:
            plain.close()
            raise
        self.sock: socket.socket = tls
        self._checked(tls)


class HubClient:
    """One connection, made when it is needed, for one thread. One that the hub has closed meanwhile is made anew, and
    the request sent again: to ask twice does no more than to ask once.

    Without `authority` the hub is not verified: only for asking for its authority. `floor_s`: a hub whose certificate
    ended before that is not believed. `pace`: asked before each piece of a body how large it may be, with how much is
    left; it waits until that may be sent.
    """

    pace: Callable[[int], int] | None = None

    def __init__(
        self,
        address: HubAddress,
        authority: Path | None,
        certificate: Path | None,
        *,
        floor_s: Callable[[], float],
        timeout_s: float = 10.0,
    ) -> None:
        self.address = address
        self._files = authority, certificate
        self._floor_s = floor_s
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None

    def call(self, path: str, asked: Mapping[str, Any] | bytes) -> dict[str, Any]:
        """POST a map, or bytes as they are; the answer, a map. Raises HubAway, HubRefused."""
        body = asked if isinstance(asked, bytes) else msgpack.packb(dict(asked))
        with self._bounded():
            return _answered(self._read(self._ask("POST", path, body, {})))

    def get(self, path: str, at: int = 0) -> http.client.HTTPResponse:
        """GET, from byte `at` on. The caller must read the response to its end. Raises HubAway, HubRefused."""
        return self._ask("GET", path, None, {"Range": f"bytes={at}-"} if at else {})

    def close(self) -> None:
        """Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        try:
            answer = self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None
        if answer.status in (200, 206):
            return answer
        told = self._read(answer)
        try:
            reason = _reason_in(told)
        except HubAway:
            reason = answer.reason
        raise HubRefused(answer.status, f"the hub refuses: {printable(reason, 300)}")

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        """The body of an answer, no more than there may be. Raises HubAway."""
        try:
            return answer.read(LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> HubAway:
        self.close()
        reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        return HubAway(f"cannot reach the hub at {self.address}: {printable(reason or type(error).__name__, 300)}")

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """A hub that is not verified is untrusted, and has `STRANGER_S` for a whole answer."""
        if self._files[0] is not None:
            yield
            return
        timer = threading.Timer(STRANGER_S, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        """Close the connection from another thread: its reader meets the end."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        said = {"Host": f"{HUB_NAME}:{self.address.port}", **headers}
        if body is not None:
            said["Content-Length"] = str(len(body))
        if self._connection is not None:
            try:
                self._connection.request(method, path, self._pieces(body), said)
                return self._connection.getresponse()
            except _HUNG_UP:
                self.close()
        self._connection = _Connection(self.address, self._context(), self._timeout_s, self._check)
        self._connection.request(method, path, self._pieces(body), said)
        return self._connection.getresponse()

    def _pieces(self, body: bytes | None) -> bytes | Iterator[memoryview] | None:
        return body if self.pace is None or body is None else _paced(memoryview(body), self.pace)

    def _context(self) -> ssl.SSLContext:
        authority, certificate = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if authority is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_verify_locations(authority)
            context.verify_flags |= NO_CHECK_TIME
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _check(self, tls: ssl.SSLSocket) -> None:
        """The validity of the hub's certificate, by the floor instead of the clock."""
        shown_to_us = tls.getpeercert()
        if shown_to_us and ssl.cert_time_to_seconds(str(shown_to_us["notAfter"])) < self._floor_s():
            tls.close()
            raise ConnectionError("its certificate ended before a time that is known to be past")


def _paced(body: memoryview, pace: Callable[[int], int]) -> Iterator[memoryview]:
    while body:
        size = pace(len(body))
        yield body[:size]
        body = body[size:]
