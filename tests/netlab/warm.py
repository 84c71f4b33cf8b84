"""How soon a model far away answers, with and without a connection made ahead. The other end of `test_warm.py`.

serve ADDRESS PORT CERTIFICATE    a model server with TLS, which answers "Yes."
ask URL COUNT                     for each of `COUNT` pairs: seconds to the first text, cold and then warm, as JSON
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from contextlib import suppress
from typing import Any

from thalweg.models.language.backend import Message, Request, Text
from thalweg.models.language.openai_backend import OpenAIBackend

_EVENT = b'data: {"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(_EVENT) + _EVENT
_ASKED = Request(messages=[Message("user", "Is it far?")], max_tokens=4)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every question of one connection."""
    with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            writer.write(ANSWER)
            await writer.drain()
    writer.close()


async def serve(address: str, port: str, certificate: str) -> None:
    """Until it is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, address, int(port), ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


async def ask(url: str, count: str) -> None:
    """A new client each time, so that nothing is kept."""
    pairs = []
    for _ in range(int(count)):
        pairs.append([await _first_s(url, ahead=False), await _first_s(url, ahead=True)])
    print(json.dumps(pairs))


async def _first_s(url: str, *, ahead: bool) -> float:
    loop = asyncio.get_running_loop()
    backend = OpenAIBackend(model="m", url=url, retries=0)
    await backend.open()
    if ahead:
        assert await backend.warm(_ASKED)
    began_s = loop.time()
    said_s = [loop.time() - began_s async for delta in backend.reply(_ASKED) if isinstance(delta, Text)]
    await backend.close()
    return said_s[0]


if __name__ == "__main__":
    what: Any = {"serve": serve, "ask": ask}[sys.argv[1]]
    asyncio.run(what(*sys.argv[2:]))
