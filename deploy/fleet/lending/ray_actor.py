"""The end of a lease inside a Ray cluster: an actor that has the GPUs and processors, and starts the lent worker there.

It listens once, for the process of the lender that asked for it, which the certificates of that lease prove. When that
connection ends, or says nothing for as long as a lease may be silent, the worker ends, and the actor's process with it,
whether Ray has heard of that or not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import tempfile
import threading
from pathlib import Path

from thalweg.deploy.cluster.host import host_identity, own_address
from thalweg.deploy.cluster.ray_host import usual_priority
from thalweg.deploy.errors import describe_error
from thalweg.deploy.fleet.lending.process import lend, worker_here
from thalweg.stages.io.private import create_private
from thalweg.transports.grpc.tls import Certificates

log = logging.getLogger(__name__)

COME_S = 30.0
"""Within which the one that asked for it has connected."""


def tls(certificates: Certificates, purpose: ssl.Purpose) -> ssl.SSLContext:
    """Both ends show the certificate of this lease, and believe no other. `purpose`: what the other end is."""
    protocol = ssl.PROTOCOL_TLS_SERVER if purpose is ssl.Purpose.CLIENT_AUTH else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificates.authority.decode())
    with tempfile.TemporaryDirectory() as folder:  # Python's ssl takes a key from a file only
        path = Path(folder, "lease.pem")
        with create_private(path) as file:
            file.write(certificates.certificate + certificates.key)
        context.load_cert_chain(path)
    return context


class LentActor:
    """`near`: `host_identity` of the one that asks. `memory_bytes`: as of `worker_here`."""

    def __init__(self, certificates: list[bytes], folder: str, memory_bytes: int, near: str) -> None:
        usual_priority()
        self._context = tls(Certificates(*certificates), ssl.Purpose.CLIENT_AUTH)
        self._folder = Path(folder)
        self._memory_bytes = memory_bytes
        self._host = "127.0.0.1" if host_identity() == near else own_address()

    def __repr__(self) -> str:
        return "lent"  # how Ray begins the lines that come from here

    def listen(self) -> tuple[str, int, str]:
        """Host, port, and why there is none or nothing."""
        if not self._folder.is_dir():
            return "", 0, f"{self._folder}, which --files names, is no folder on the Ray node {own_address()}"
        try:
            listening = socket.create_server((self._host, 0))
        except OSError as error:
            return "", 0, f"the Ray node {self._host} cannot listen: {error.strerror or error}"
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        threading.Thread(target=self._run, args=(listening,), name="lent", daemon=True).start()
        return self._host, int(listening.getsockname()[1]), ""

    def _run(self, listening: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listening))
        except Exception as error:
            log.error("a lent worker ends: %s", describe_error(error))
        finally:
            os._exit(0)

    async def _serve(self, listening: socket.socket) -> None:
        came: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        came = asyncio.get_running_loop().create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if came.done():
                writer.transport.abort()
            else:
                came.set_result((reader, writer))

        server = await asyncio.start_server(connected, sock=listening, ssl=self._context)
        async with asyncio.timeout(COME_S):
            reader, writer = await came
        server.close()
        await lend(reader, writer, worker_here(self._memory_bytes), self._folder)
