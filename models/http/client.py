"""One way to ask a server over HTTP: certificates verified, redirects not followed, no proxy to this machine, bounded.

A thin shell around httpx. Nothing that it raises holds a key; nothing that it reads is unpacked, so that a small answer
cannot become a large one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from thalweg.models.http.address import Address
from thalweg.models.http.errors import HttpError, HttpErrorKind, quoted
from thalweg.models.http.proxies import proxy_variable

if TYPE_CHECKING:
    import httpx

MOST_TEXT = 64 * 1024
_IDLE_S = 300.0
WHOLE = 6
"""A whole answer may take so many times what each piece of it may."""


class HttpAnswer:
    """What a server answers. Only valid inside the `async with` that gave it."""

    def __init__(self, response: httpx.Response, client: HttpClient, until_s: float | None) -> None:
        self._response, self._client, self._until_s = response, client, until_s
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, in pieces of the size that it comes in. Raises HttpError where it breaks off, or does
        not end in time.
        """
        try:
            pieces = self._response.aiter_raw()
            while True:
                async with asyncio.timeout_at(self._until_s):
                    chunk = await anext(pieces, None)
                if chunk is None:
                    return
                yield chunk
        except Exception as error:
            raise self._client.told(error, answered=True) from None

    async def text(self, most: int = MOST_TEXT) -> str:
        """The body's first `most` bytes as text; the rest is not read."""
        read = bytearray()
        async for chunk in self.chunks():
            read += chunk
            if len(read) >= most:
                break
        return bytes(read[:most]).decode("utf-8", "replace")


class HttpClient:
    """Asks one server. Connections are kept for five minutes, so that a turn after a pause need not greet anew.

    `key`: sent as a bearer token to this address and nowhere else (`keys.key_for` says whether it may be). `connect_s`
    bounds connecting, `read_s` the wait for each piece of an answer, and `WHOLE` times as much the whole; None leaves
    that to the caller.
    """

    def __init__(
        self,
        address: Address,
        *,
        key: str | None = None,
        connect_s: float = 10.0,
        read_s: float | None = 60.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        try:
            import httpx

            from thalweg.models.http.ahead import Line
        except ImportError:
            raise HttpError(
                HttpErrorKind.SETTINGS, "the HTTP client is missing: pip install 'thalweg[language]'"
            ) from None
        self.address = address
        self._proxy = proxy_variable(address, os.environ if environ is None else environ)
        headers = {"User-Agent": "thalweg", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        tls = _trusting() if address.scheme == "https" else _trusting_nobody()
        self._connect_s = connect_s
        self._whole_s = None if read_s is None else WHOLE * read_s
        self._line = None if self._proxy else Line(tls, address.scheme == "https", _IDLE_S)
        try:
            self._client = httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(read_s, connect=connect_s, write=60.0),
                limits=httpx.Limits(keepalive_expiry=_IDLE_S),
                follow_redirects=False,
                trust_env=self._proxy is not None,
                verify=tls,
                transport=None if self._line is None else self._line.transport,
            )
        except (ImportError, ValueError, httpx.InvalidURL):
            raise HttpError(HttpErrorKind.SETTINGS, self._unusable_proxy()) from None
        self._kept = False

    @asynccontextmanager
    async def post(
        self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[HttpAnswer]:
        """Ask, and hang up at the end of the block. Raises HttpError before the block where there is no answer."""
        until_s = None if self._whole_s is None else asyncio.get_running_loop().time() + self._whole_s
        response = await self._send(path, body, {"Content-Type": "application/json", **(headers or {})}, until_s)
        try:
            self._check(response)
            yield HttpAnswer(response, self, until_s)
        finally:
            self._client.cookies.clear()
            await response.aclose()

    async def connect(self) -> bool:
        """Connect, so that the next question finds a connection. Nothing of it is sent, nor the key. False: there is a
        connection already, or a proxy between, which is not greeted ahead. Raises HttpError.
        """
        if self._line is None:
            return False
        try:
            opened = await self._line.open(self.address.host, self.address.port, self._connect_s)
        except Exception as error:
            raise self.told(error) from None
        self._kept = self._kept or opened
        return opened

    async def close(self) -> None:
        """Hang up. Idempotent."""
        if self._line is not None:
            await self._line.close()
        await self._client.aclose()

    async def _send(self, path: str, body: bytes, headers: Mapping[str, str], until_s: float | None) -> httpx.Response:
        """A connection that was kept or made ahead may have been closed by the other side: then ask once more."""
        import httpx

        while True:
            request = self._client.build_request("POST", self.address.at(path), content=body, headers=dict(headers))
            try:
                async with asyncio.timeout_at(until_s):  # "100 Continue" and headers may come drop by drop
                    response = await self._client.send(request, stream=True)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if not self._kept:
                    raise self.told(error) from None
                self._kept = False
            except Exception as error:
                raise self.told(error) from None
            else:
                self._kept = True
                return response

    def _check(self, response: httpx.Response) -> None:
        if 300 <= response.status_code < 400:
            raise HttpError(
                HttpErrorKind.REDIRECTED,
                f"sends on to another address ({_origin(response.headers.get('location', ''))}), where neither the "
                "question nor a key is taken: give that address if it is meant",
            )
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise HttpError(HttpErrorKind.NO_ANSWER, f"packs its answer ({quoted(encoding, 40)}), unasked")

    def told(self, error: Exception, *, answered: bool = False) -> Exception:
        """An exception of the client as HttpError; one that is not of the network comes back as it is."""
        import httpx

        if isinstance(error, HttpError):
            return error
        through = f" (through the proxy that {self._proxy} names)" if self._proxy else ""
        if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
            return HttpError(HttpErrorKind.UNREACHABLE, f"cannot be reached{through}: no connection in time")
        if isinstance(error, httpx.TimeoutException):
            kind = HttpErrorKind.BROKE_OFF if answered else HttpErrorKind.UNREACHABLE
            return HttpError(kind, f"was silent for too long{through}")
        if isinstance(error, TimeoutError):
            kind = HttpErrorKind.BROKE_OFF if answered else HttpErrorKind.UNREACHABLE
            return HttpError(kind, f"took longer than {self._whole_s:g} s for its answer{through}")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
            return HttpError(HttpErrorKind.SETTINGS, "cannot be asked: the address or a header is not valid")
        if answered:
            if isinstance(error, httpx.HTTPError | httpx.StreamError | OSError) or _of_the_network(error):
                return HttpError(HttpErrorKind.BROKE_OFF, f"broke off: {_reason(error)}")
            return error
        if isinstance(error, httpx.HTTPError | OSError) or _of_the_network(error):
            return HttpError(HttpErrorKind.UNREACHABLE, f"cannot be reached{through}: {_reason(error)}")
        return error

    def _unusable_proxy(self) -> str:
        socks = os.environ.get(self._proxy or "", "").startswith("socks")
        what = "a SOCKS proxy, which needs `pip install socksio`" if socks else "a proxy that cannot be used"
        return (
            f"cannot be asked: the variable {self._proxy or 'of a proxy'} names {what}; "
            f"or set NO_PROXY={self.address.host} to ask {self.address.host} directly"
        )


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    for _ in range(8):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate cannot be trusted ({quoted(cause.verify_message, 80)}); "
                "an authority of one's own is named by SSL_CERT_FILE"
            )
        cause = cause and (cause.__cause__ or cause.__context__)
    return quoted(error, 160) or type(error).__name__


def _of_the_network(error: BaseException) -> bool:
    """Whether it comes from below httpx, which passes some errors of the connection on as they are."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpcore", "anyio", "h11")


def _origin(location: str) -> str:
    try:
        return Address.parse(location).origin
    except HttpError:
        return "on the same server" if location.startswith("/") else "unreadable"


@cache
def _trusting() -> ssl.SSLContext:
    """The authorities of this machine's installation, read once: a megabyte and 30 ms."""
    import httpx

    return httpx.create_ssl_context()


@cache
def _trusting_nobody() -> ssl.SSLContext:
    """For addresses without TLS: there is nothing to verify, and no certificate would be accepted."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
