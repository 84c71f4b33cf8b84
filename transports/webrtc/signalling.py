"""Asking a server over HTTP, for clients: verified, bounded, and careful with the token.

Certificates are verified, with the system's authorities or those that `SSL_CERT_FILE` names, unless `insecure` says
otherwise. A token goes over TLS that is verified, or stays on this machine; it follows no redirect.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable

ANSWER_S = 30.0
RESUME_S = 60.0
MOST_RESUME_S = 86_400.0
MAX_ANSWER = 256_000
WAITS_S = (0.2, 10.0)
UNCHECKED = (
    "a token is not sent to a server whose certificate is not verified: leave out --insecure, and name the authority "
    "that signed it in SSL_CERT_FILE"
)
_NAME = re.compile(r"[A-Za-z0-9_\-]{1,200}", re.ASCII)


class TalkError(ThalwegError):
    """A conversation that did not come about; `code` is the server's, or `unreachable` or `no-path`.

    `wait_s`: after how long the server says to try again, within `WAITS_S`.
    """

    def __init__(self, code: str, message: str, wait_s: float = 1.0) -> None:
        super().__init__(message)
        self.code = code
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What an offer was answered with. `resume_s`: for how long the server keeps a conversation that is lost."""

    sdp: str
    session: str
    key: str
    resume_s: float


class Signalling:
    """The HTTP side of one server. Raises TalkError at once where a token would go to another machine unprotected."""

    def __init__(self, url: str, token: str = "", *, insecure: bool = False) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = printable(url, 100)
            expected = "expected http://HOST:PORT or https://…" if "://" in url else f"did you mean http://{shown}?"
            raise TalkError("no-address", f"{shown} is no address: {expected}")
        if token and not on_this_machine(parts.hostname):
            if insecure:
                raise TalkError("insecure", UNCHECKED)
            if parts.scheme == "http":
                raise TalkError("insecure", "a token is not sent over http:// to another machine: use https://")
        if not token.isprintable() or not token.isascii():
            raise TalkError("token", "the token holds characters that no header takes: a line end, perhaps")
        self.url = url.rstrip("/")
        self._verify = not insecure
        self._wait_s = 1.0
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask(
        self, method: str, path: str, body: object = None, *, timeout_s: float = ANSWER_S, **query: str
    ) -> tuple[int, dict[str, Any]]:
        """Status and object of an answer; an empty one where it has none. Raises TalkError."""
        try:
            async with (
                aiohttp.ClientSession(
                    headers=self._headers, timeout=aiohttp.ClientTimeout(total=timeout_s), auto_decompress=False
                ) as http,
                http.request(
                    method, self.url + path, json=body, params=query, ssl=self._verify, allow_redirects=False
                ) as response,
            ):
                text = bytearray()
                async for part in response.content.iter_any():
                    text += part
                    if len(text) > MAX_ANSWER:
                        raise TalkError("unreachable", f"{self._shown} answers with more than {MAX_ANSWER} bytes")
                found = json.loads(text) if text.strip() else {}
        except aiohttp.ClientConnectorCertificateError as error:
            raise TalkError(
                "certificate",
                f"{self._shown} has a certificate that is not trusted: {printable(error.certificate_error, 200)}. Name "
                "its authority in SSL_CERT_FILE, or leave it unchecked with --insecure",
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            reason = printable(error, 200) or type(error).__name__
            raise TalkError("unreachable", f"{self._shown} does not answer: {reason}") from None
        if not isinstance(found, dict):
            raise TalkError("unreachable", f"{self._shown} does not answer as `thalweg serve` does")
        said = response.headers.get("Retry-After", "")
        wait_s = float(said) if said.isdecimal() and said.isascii() and len(said) < 9 else 1.0
        self._wait_s = min(max(wait_s, WAITS_S[0]), WAITS_S[1])
        return response.status, found

    async def offer(self, body: dict[str, str]) -> Accepted:
        """Offer to talk. Raises TalkError."""
        status, answer = await self.ask("POST", "/offer", body)
        if status != 200:
            code = answer.get("error")
            raise TalkError(
                code if isinstance(code, str) and _NAME.fullmatch(code) else "refused",
                printable(answer.get("message") or f"{self._shown} refused with {status}", 300),
                self._wait_s,
            )
        sdp, session, key = (answer.get(name) for name in ("sdp", "session", "key"))
        if not (isinstance(sdp, str) and isinstance(session, str) and isinstance(key, str)):
            raise TalkError("unreachable", f"{self._shown} does not answer as `thalweg serve` does")
        if not _NAME.fullmatch(session) or not _NAME.fullmatch(key):
            raise TalkError(
                "unreachable", f"{self._shown} names its conversation in a way that `thalweg serve` does not"
            )
        return Accepted(sdp=sdp, session=session, key=key, resume_s=_resume_s(answer.get("resume_s")))

    @property
    def _shown(self) -> str:
        return printable(self.url, 100)


def _resume_s(told: object) -> float:
    """Seconds as a server says them, a day at most; `RESUME_S` where it says nothing that can be meant."""
    if not isinstance(told, int | float) or isinstance(told, bool) or not told >= 0:
        return RESUME_S
    return float(min(told, MOST_RESUME_S))


def on_this_machine(host: str) -> bool:
    """Whether a host is loopback by its name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
