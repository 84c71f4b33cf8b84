"""Running the server: from the pipeline file to the last conversation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle, load_bundle
from thalweg.deploy.commands.fit import tell_fit
from thalweg.deploy.door.certificate import ServerCertificate
from thalweg.deploy.door.front_door import left_behind
from thalweg.deploy.door.listening import listening
from thalweg.deploy.ops.observing.metrics import parse_address
from thalweg.deploy.reading import module_folders, pack, read_spec, staying
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.app import WebServer
from thalweg.deploy.server.conversations import Conversations
from thalweg.deploy.server.hosts.serve import Placed, front_of
from thalweg.deploy.server.observing.exporter import metrics_only
from thalweg.deploy.server.service import ConversationService, LocalConversations
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.file.spec import Spec
from thalweg.stages.io.terminal import say
from thalweg.transports.webrtc.signalling import on_this_machine

log = logging.getLogger(__name__)

Until = Callable[[asyncio.Event, asyncio.Event, asyncio.Event], Awaitable[None]]
"""Runs until the first of these is set; until the third, without ending what it runs on; the second: hurry."""


class ServeError(ThalwegError):
    """A server that cannot be started."""


def serve_file(path: Path, variables: Mapping[str, str], settings: ServerSettings, placed: Placed | None = None) -> int:
    """Serve a pipeline file until Ctrl-C; a second one does not wait for those who talk. Returns the exit code.

    `placed`: conversations run there; without it in this process.
    """
    spec = read_spec(path, variables)
    if not any(vertex.info.use.startswith("live.") for vertex in spec.graph.stages.values()):
        raise ServeError(f"{path} serves no visitor: it needs live.microphone and live.speaker instead of files")
    elsewhere = [stage for worker in spec.plan.workers.values() if worker.name != LOCAL for stage in worker.stages]
    away = sorted({stage for stage in elsewhere if spec.deployed.stages[stage].info.use.startswith("live.")})
    if away:
        raise ServeError(
            f"{path} places {', '.join(away)} elsewhere, but stages that meet the person run where the person is "
            "connected: leave them out of `placement`, or write `local` for them"
        )
    tell_fit(spec)
    bundle = pack(staying(spec), str(path), module_folders(path))
    if placed is None:
        return asyncio.run(_serve_here(Conversations(load_bundle(bundle), settings, bundle), settings))
    return asyncio.run(serve_hosts(load_bundle(bundle), bundle, settings, placed))


async def _serve_here(conversations: Conversations, settings: ServerSettings) -> int:
    async def until(stopping: asyncio.Event, hurry: asyncio.Event, _leaving: asyncio.Event) -> None:
        await _until(conversations, stopping, hurry)

    return await _serve(LocalConversations(conversations, settings), settings, until)


async def serve_hosts(spec: Spec, bundle: Bundle, settings: ServerSettings, placed: Placed) -> int:
    """A front, with hosts where `placed` says, until it is told to end. Raises ServeError, HostError."""
    front, until = front_of(spec, bundle, settings, placed)
    return await _serve(front, settings, until, leaves=True)


async def _serve(service: ConversationService, settings: ServerSettings, until: Until, *, leaves: bool = False) -> int:
    """Serve a service to the public. `leaves`: SIGHUP ends this process only, not what its conversations run on."""
    loop = asyncio.get_running_loop()
    stopping, hurry, leaving = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if leaves:
        loop.add_signal_handler(signal.SIGHUP, leaving.set)
    server = WebServer(service, settings)
    loop.set_exception_handler(partial(left_behind, server.door))
    try:
        async with AsyncExitStack() as stack:
            certificate = certificate_of(settings)
            context = certificate.context if certificate else None
            port = await stack.enter_async_context(
                listening(server.door, server.application, settings.host, settings.port, context)
            )
            if certificate is not None:
                await stack.enter_async_context(beside(certificate.run()))
            if settings.metrics:
                url = await stack.enter_async_context(_metrics(service, settings))
                say(f"metrics at {url}", err=True)
            say(f"serving {service.spec.graph.name} at {_shown(settings, port)}", err=True)
            if warning := open_to_all(settings):
                log.warning("%s", warning)
            await until(stopping, hurry, leaving)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise ServeError(f"cannot listen on {where}: {error.strerror or error}") from None
    return 0


async def _until(conversations: Conversations, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
    """Hold conversations until `stopping`; then let those who talk finish, until `hurry`."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(conversations.run())
        await stopping.wait()
        draining = group.create_task(conversations.drain())
        hurrying = group.create_task(hurry.wait())
        await asyncio.wait([draining, hurrying], return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        hurrying.cancel()
        for session in list(conversations.sessions.values()):
            session.end("stopping", "This server was stopped.")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await conversations.empty()
        running.cancel()


@asynccontextmanager
async def _metrics(service: ConversationService, settings: ServerSettings) -> AsyncIterator[str]:
    """Serve metrics at an address of their own while the block runs; gives their URL. Raises ServeError."""
    host, port = parse_address(settings.metrics)
    door, application = metrics_only(service.metrics, settings)
    try:
        async with listening(door, application, host, port) as found:
            yield f"http://{host}:{found}/metrics"
    except OSError as error:
        raise ServeError(f"cannot serve metrics at {host}:{port}: {error.strerror or error}") from None


def open_to_all(settings: ServerSettings) -> str:
    """What an operator may not have meant: who is not on this machine needs no token. Empty where that is not so."""
    if on_this_machine(settings.host) or settings.token or settings.token_file is not None:
        return ""
    return f"everyone who can reach {settings.host or 'this machine'} may talk: --token-file asks them for a token"


def _shown(settings: ServerSettings, port: int) -> str:
    """The address to open in a browser."""
    host = "localhost" if settings.host in ("", "0.0.0.0", "::") else settings.host
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.certificate else 'http'}://{host}:{port}/"


def certificate_of(settings: ServerSettings) -> ServerCertificate | None:
    """What the settings name; None for a server without TLS. Raises ServeError, CertificateError."""
    if settings.certificate is None:
        if settings.key is not None:
            raise ServeError(f"the key {settings.key} is of no use without its certificate: give --certificate, too")
        return None
    return ServerCertificate(settings.certificate, settings.key)
