"""Running the server: from the pipeline file to the last conversation."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from thalweg.deploy.reading import read_spec
from thalweg.deploy.server.app import WebServer
from thalweg.deploy.server.conversations import Hall
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.errors import ThalwegError
from thalweg.stages.io.terminal import say


class ServeError(ThalwegError):
    """A server that cannot be started."""


def serve_file(path: Path, variables: Mapping[str, str], settings: ServerSettings) -> int:
    """Serve a pipeline file until Ctrl-C; a second one does not wait for those who talk. Returns the exit code."""
    spec = read_spec(path, variables)
    if not any(vertex.info.use.startswith("live.") for vertex in spec.graph.stages.values()):
        raise ServeError(f"{path} talks to nobody: it needs live.microphone and live.speaker instead of files")
    return asyncio.run(_serve(Hall(spec, settings), settings))


async def _serve(hall: Hall, settings: ServerSettings) -> int:
    loop = asyncio.get_running_loop()
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    runner = web.AppRunner(WebServer(hall, settings).application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls_context(settings))
        await site.start()
        scheme = "https" if settings.certificate else "http"
        say(f"serving {hall.spec.graph.name} at {scheme}://{settings.host}:{settings.port}/", err=True)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(hall.run())
            await stopping.wait()
            draining = group.create_task(hall.drain())
            hurrying = group.create_task(hurry.wait())
            await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            hurrying.cancel()
            for session in list(hall.sessions.values()):
                session.end("stopping", "This server was stopped.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await hall.empty()
            running.cancel()
    except OSError as error:
        raise ServeError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from None
    finally:
        await runner.cleanup()
    return 0


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """What the settings ask for; None without a certificate. Raises ServeError where that cannot be used."""
    if settings.certificate is None:
        if settings.key is not None:
            raise ServeError(f"the key {settings.key} is of no use without its certificate: give --certificate, too")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"cannot use the certificate {settings.certificate}: {error}") from None
    return context
