"""Bytes that somebody may send to an HTTP server of ours."""

from __future__ import annotations

_HOST = b"Host: localhost\r\n"


def _get(path: bytes = b"/config", *headers: bytes, host: bytes = _HOST, method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\n" + host + b"".join(one + b"\r\n" for one in headers) + b"\r\n"


def _post(body: bytes, *headers: bytes, path: bytes = b"/offer") -> bytes:
    return _get(path, b"Content-Length: %d" % len(body), *headers, method=b"POST") + body


_JSON = b"Content-Type: application/json"
REQUESTS: dict[str, bytes] = {
    "no HTTP": b"no http\r\n\r\n",
    "TLS to a server without": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n",
    "no host": _get(host=b""),
    "two hosts": _get(host=_HOST + b"Host: evil.example\r\n"),
    "a host of somebody else": _get(host=b"Host: evil.example\r\n"),
    "a host with user and path": _get(host=b"Host: localhost@evil.example/\r\n"),
    "a host of other letters": _get(host=b"Host: loc\xd0\xb0lhost\r\n"),
    "a host of a kilobyte": _get(host=b"Host: " + b"a" * 1000 + b"\r\n"),
    "a page of somebody else": _get(b"/config", b"Origin: http://evil.example"),
    "a page of nobody": _get(b"/config", b"Origin: null"),
    "a page with a user": _get(b"/config", b"Origin: http://localhost@evil.example"),
    "rebinding": _get(b"/config", b"Origin: http://evil.example:1", host=b"Host: evil.example:1\r\n"),
    "a method that there is not": _get(method=b"EVIL"),
    "TRACE": _get(method=b"TRACE"),
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a path outside": _get(b"/web/../../../etc/passwd"),
    "a path outside, in hexadecimal": _get(b"/web/..%2f..%2f..%2fetc%2fpasswd"),
    "a path outside, twice in hexadecimal": _get(b"/web/%252e%252e%252fapp.py"),
    "a path with a null character": _get(b"/web/a%00.js"),
    "a path of backslashes": _get(b"/web/..%5c..%5capp.py"),
    "a path of four kilobytes": _get(b"/web/" + b"a" * 4000),
    "a path that is no text": _get(b"/web/%ff%fe"),
    "a whole address of somebody else": _get(b"http://evil.example/config"),
    "a header of 70 kB": _get(b"/config", b"X-A: " + b"a" * 70_000),
    "a thousand headers": _get(b"/config", *(b"X-%d: a" % n for n in range(1000))),
    "a header with a null character": _get(b"/config", b"X-A: a\x00b"),
    "a header that goes on": _get(b"/config", b"X-A: a\r\n b"),
    "a header without a name": _get(b"/config", b": a"),
    "a token of other letters": _get(b"/sessions", b"Authorization: Bearer \xc3\xa9"),
    "a token of half characters": _get(b"/sessions", b"Authorization: Bearer \xed\xa0\x80"),
    "a token of a kilobyte": _get(b"/sessions", b"Authorization: Bearer " + b"a" * 1000),
    "no token but a scheme": _get(b"/sessions", b"Authorization: Bearer"),
    "a user and a password": _get(b"/sessions", b"Authorization: Basic YWRtaW46YWRtaW4="),
    "somebody who says to be here": _get(b"/sessions", b"X-Forwarded-For: 127.0.0.1", b"X-Real-IP: 127.0.0.1"),
    "two lengths": _get(b"/offer", b"Content-Length: 5", b"Content-Length: 6", method=b"POST") + b"hello",
    "a negative length": _get(b"/offer", b"Content-Length: -1", method=b"POST"),
    "a length of a terabyte": _get(b"/offer", b"Content-Length: 1099511627776", method=b"POST") + b"x",
    "a length that is a word": _get(b"/offer", b"Content-Length: many", method=b"POST"),
    "length and chunks": _get(b"/offer", b"Content-Length: 4", b"Transfer-Encoding: chunked", method=b"POST")
    + b"0\r\n\r\n",
    "chunks of no number": _get(b"/offer", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\nhello\r\n",
    "a chunk of 16 digits": _get(b"/offer", b"Transfer-Encoding: chunked", method=b"POST") + b"f" * 16 + b"\r\n",
    "an encoding twice": _get(b"/offer", b"Transfer-Encoding: chunked, identity", method=b"POST"),
    "a packed body": _post(b"\x1f\x8b" + bytes(50), b"Content-Encoding: gzip"),
    "a charset that there is not": _post(b"{}", b"Content-Type: application/json; charset=bogus"),
    "UTF-7": _post(b"+AHsAfQ-", b"Content-Type: application/json; charset=utf-7"),
    "a body that is no text": _post(b'{"sdp": "\xff"}', _JSON),
    "brackets without end": _post(b"[" * 60_000, _JSON),
    "a body of 65 kB": _post(b" " * 65_000, _JSON),
    "a body that is a list": _post(b"[1, 2]", _JSON),
    "an offer that is a number": _post(b'{"sdp": 17}', _JSON),
    "half a character in an offer": _post(b'{"sdp": "m=audio \\ud800"}', _JSON),
    "a session that is a list": _post(b'{"sdp": "v=0", "session": [1], "key": {"a": 1}}', _JSON),
    "a number of 5,000 digits": _post(b'{"sdp": "v=0", "n": ' + b"9" * 5000 + b"}", _JSON),
    "a session of somebody else": _get(b"/sessions/abc?key=guess", method=b"DELETE"),
    "a key of other letters": _get(b"/sessions/abc?key=%C3%A9", method=b"DELETE"),
    "a key of half characters": _get(b"/sessions/abc?key=%ed%a0%80", method=b"DELETE"),
    "WHIP of another type": _post(b"v=0", b"Content-Type: text/html", path=b"/whip"),
    "WHIP of nothing": _post(b"", b"Content-Type: application/sdp", path=b"/whip"),
    "WHIP that is no text": _post(b"m=audio \xff", b"Content-Type: application/sdp", path=b"/whip"),
    "WHEP of a session that there is not": _post(
        b"v=0", b"Content-Type: application/sdp", path=b"/whep?session=x&key=y"
    ),
    "a type of a kilobyte": _post(b"{}", b"Content-Type: " + b"a/" * 500),
    "an upgrade": _get(b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /config\r\n\r\n",
    "a version from the future": b"GET /config HTTP/9.9\r\n" + _HOST + b"\r\n",
    "two requests where one is": _post(b"{}" + _get(b"/sessions"), _JSON),
}
"""Each ends in an answer below 500, which tells nothing, or in a connection that ends."""
