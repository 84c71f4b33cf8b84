"""Refusals: raised anywhere behind the door, sent as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from thalweg.pipeline.errors import ThalwegError

if TYPE_CHECKING:
    from aiohttp import web

CLOSED = "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Of every content security policy: what is not covered by its `default-src`, or easily forgotten."""
HEADERS = {
    "Content-Security-Policy": f"default-src 'self'; media-src 'self' blob:; {CLOSED}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Server": "thalweg",
}
"""Headers of every response."""
CONNECTING = "connecting"
WAIT_S = 5
WAITS_S = {CONNECTING: 1}
"""After how long a refused client should try again: by code, else `WAIT_S`."""

R = TypeVar("R", bound="web.StreamResponse")


class Refused(ThalwegError):
    """A request is refused. `status`: of HTTP; `code`: for programs; `kind`: for counts; the message is for people."""

    def __init__(self, status: int, code: str, message: str, *, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind or code


def refusal(status: int, code: str, message: str) -> web.Response:
    """A refusal as JSON, with the headers that every response has."""
    from aiohttp import web  # here: a lender counts connections without it

    body = json.dumps({"error": code, "message": message})
    response = web.Response(status=status, text=body, content_type="application/json")
    if status in (429, 503):
        response.headers["Retry-After"] = str(WAITS_S.get(code, WAIT_S))
    return dressed(response)


def dressed(response: R) -> R:
    """The response with the headers that every one has; those it set itself stay."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def of_http(error: web.HTTPException) -> web.Response:
    """What aiohttp raises (no such route, a method that is not allowed, …) as a refusal."""
    response = refusal(error.status, "http", error.reason)
    for name in ("Allow", "Location"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response
