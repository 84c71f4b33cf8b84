"""One address into one file, going on where an earlier attempt stopped.

A connection that breaks is made again for as long as each attempt brings something; a server that sends hardly
anything is given up, so that it cannot hold us for days. A host that let us wait in vain is
not asked again by this process: with a second source at hand, the first one should not cost that time for every file.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thalweg.models.errors import ModelError
from thalweg.models.http.address import Address

Progress = Callable[[int, int], None]
"""Told `(bytes so far, bytes in all)` now and then."""

BLOCK = 1 << 20
LARGEST = 50_000_000_000
"""Limit in bytes for a download of unknown length: no known model is larger."""
LEAST_BPS = 1_000
"""Bytes a second that a server has to send, within each `timeout_s`; slower ones are given up."""
LEAST_BYTES, MOST_SMALL = 10_000, 100
"""Of attempts that bring less than this, so many are made."""
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_FROM = re.compile(r"bytes ([0-9]{1,18})-", re.ASCII)
_silent: set[str] = set()


class _KeepSecrets(urllib.request.HTTPRedirectHandler):
    """Removes the token from a request that is redirected to another origin."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        further = super().redirect_request(req, *args)
        if further is not None and urlsplit(further.full_url)[:2] != urlsplit(req.full_url)[:2]:
            further.remove_header("Authorization")
        return further


class _TooMuch(Exception):
    """The download exceeded its limit."""


class _TooSlow(Exception):
    """The server sends hardly anything."""


class _Proxies(urllib.request.ProxyHandler):
    """Those of the environment, and none on the way to this machine: asked of each redirection anew."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, kind: str) -> Any:  # Any: as of `ProxyHandler`
        parts = urlsplit(req.full_url)
        if Address(parts.scheme, (parts.hostname or "").lower(), 0).loopback:
            return None
        return super().proxy_open(req, proxy, kind)


def opener(redirects: type[urllib.request.HTTPRedirectHandler]) -> urllib.request.OpenerDirector:
    """For asking a server, by a proxy where one stands between us and it."""
    return urllib.request.build_opener(redirects, _Proxies)


def download(
    address: str,
    target: Path,
    size: int | None,
    progress: Progress,
    headers: Mapping[str, str] | None = None,
    *,
    most: int = LARGEST,
    timeout_s: float = 30.0,
) -> None:
    """Get `address` into `target`, going on from what an earlier attempt left there. Raises ModelError.

    `size`: bytes that must come, None where only the server knows: then at most `most`. A server that sends more is
    hung up on, and nothing is left of it. `timeout_s`: how long the server may be silent.
    """
    most = most if size is None else size
    have = target.stat().st_size if target.exists() else 0
    if have > most or (size is not None and have >= size):
        target.unlink()
        have = 0
    small = 0
    while True:
        before = have
        have, total = _attempt(address, target, have, size, most, progress, dict(headers or {}), timeout_s)
        if have >= total:
            return
        small += have - before < LEAST_BYTES
        if have <= before or small > MOST_SMALL:
            raise ModelError(f"{address} broke off after {have} of {total} bytes; the next attempt goes on from there")


def _attempt(
    address: str,
    target: Path,
    have: int,
    size: int | None,
    most: int,
    progress: Progress,
    headers: dict[str, str],
    timeout_s: float,
) -> tuple[int, int]:
    """One connection. Returns how many bytes are here then, and how many there are in all."""
    host = urlsplit(address).netloc
    if host in _silent:
        raise ModelError(f"{address} was not tried: {host} did not answer before")
    request = urllib.request.Request(address, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        answer = opener(_KeepSecrets).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range", "").endswith(f"*/{have}"):
            return have, have  # nothing was missing
        raise ModelError(f"{address} answered {error.code} {error.reason}") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            _silent.add(host)
        raise ModelError(f"{address} cannot be reached: {reason}") from None
    with answer:
        resumed = answer.status == 206 and have > 0
        begins = _FROM.match(answer.headers.get("Content-Range") or "")
        if resumed and begins is not None and int(begins[1]) != have:
            target.unlink()
            raise ModelError(f"{address} sends another part than it was asked for")
        have = have if resumed else 0
        stated = answer.headers.get("Content-Length") or ""
        total = size if size is not None else have + int(stated) if _LENGTH.fullmatch(stated) else None
        try:
            with target.open("ab" if resumed else "wb") as out:
                due_s, due = time.monotonic() + timeout_s, have + LEAST_BPS * timeout_s
                while block := answer.read1(min(BLOCK, most + 1 - have)):
                    have += len(block)
                    if have > most:
                        raise _TooMuch
                    out.write(block)
                    progress(have, total or have)
                    if (now_s := time.monotonic()) > due_s:
                        if have < due:
                            raise _TooSlow
                        due_s, due = now_s + timeout_s, have + LEAST_BPS * timeout_s
        except _TooMuch:
            target.unlink()
            raise ModelError(
                f"{address} sends more than the {most} bytes that are expected: it is another file"
            ) from None
        except _TooSlow:
            raise ModelError(
                f"{address} sends less than {LEAST_BPS} bytes a second; the next attempt goes on from byte {have}"
            ) from None
        except (TimeoutError, ConnectionError, http.client.HTTPException):
            total = total or have + 1
    return have, have if total is None else total
