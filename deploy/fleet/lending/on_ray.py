"""A lease on a Ray cluster: `python -m thalweg.deploy.fleet.lending.on_ray FD ASKED`, started by the lender.

It connects to the cluster, has `ray_actor.LentActor` placed on a node that has what is asked for, and passes bytes
between the lender and that over TLS, by certificates that are made for this lease alone. Ray places and ends; it
carries no packet. Each lease is a job of its own in the cluster: when this process ends, however, Ray ends the actor.
And what Ray does to a process whose cluster is gone, which it ends, it does not do to the lender.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from thalweg.deploy.cluster.host import host_identity
from thalweg.deploy.cluster.ray_host import aside, ray_here, ray_options, unplaceable
from thalweg.deploy.cluster.remote import RemoteError
from thalweg.deploy.errors import describe_error
from thalweg.deploy.fleet.lending.process import PIECE, be_lent, pass_both_ways, refuse
from thalweg.deploy.fleet.lending.ray_actor import LentActor, tls
from thalweg.deploy.fleet.lending.ray_worker import RayWorker
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.errors import ThalwegError
from thalweg.transports.grpc.tls import NAME, make_certificates

log = logging.getLogger(__name__)

ASK_S, PLACE_S, CONNECT_S = 10.0, 60.0, 10.0
HELD = 1 << 20
"""Bytes of the node that wait here while its worker is placed; more wait on the way."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A worker in the cluster, and the way to it. Ray ends the actor when no process holds it any more."""

    actor: Any
    link: tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def place(asked: RayWorker) -> Placed:
    """Have the cluster start a worker. Raises RemoteError where there is no cluster, or no room in it."""
    ray = await ray_here()
    options = ray_options({"cpus": asked.cpus, "gpus": asked.gpus, "resources": asked.resources})
    if lacking := unplaceable(options, await aside(ASK_S, ray.nodes)):
        raise RemoteError(f"the Ray cluster has no node for it: {lacking}")
    certificates = make_certificates(valid_days=30)
    texts = [certificates.authority, certificates.certificate, certificates.key]
    remote = ray.remote(LentActor).options(max_restarts=0, **options)
    try:
        actor = remote.remote(texts, asked.folder, asked.memory_bytes, host_identity())
        async with asyncio.timeout(PLACE_S):
            host, port, why = await actor.listen.remote()
    except TimeoutError:
        raise RemoteError(
            f"the Ray cluster did not place it within {PLACE_S:g} s: its nodes have what it asks for, but others use it"
        ) from None
    except ray.exceptions.RayError as error:
        raise RemoteError(f"the Ray cluster cannot start it: {str(error).strip().splitlines()[-1][:300]}") from None
    if why:
        raise RemoteError(why)
    async with asyncio.timeout(CONNECT_S):
        context = tls(certificates, ssl.Purpose.SERVER_AUTH)
        return Placed(actor, await asyncio.open_connection(host, port, ssl=context, server_hostname=NAME))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: RayWorker) -> None:
    """Until either end is gone."""
    held = bytearray()
    try:
        async with beside(_hold(reader, held)) as hearing, beside(place(asked)) as placing:
            await asyncio.wait({hearing, placing}, return_when=asyncio.FIRST_COMPLETED)
            if not placing.done():
                return  # the node has gone
            placed = placing.result()
    except (ThalwegError, OSError) as error:
        await refuse(reader, writer, describe_error(error))
        return
    placed.link[1].write(bytes(held))
    await pass_both_ways((reader, writer), placed.link, None)


async def _hold(reader: asyncio.StreamReader, held: bytearray) -> None:
    """Keep what the node says, to its end."""
    while piece := await reader.read(PIECE):
        held += piece
        if len(held) > HELD:
            await asyncio.Event().wait()


async def main(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the node until it is gone. Ray's threads, and those that wait for a silent cluster, would outlive it."""
    try:
        await serve(reader, writer, RayWorker(**json.loads(sys.argv[2])))
    except Exception as error:  # Ray may raise anything
        log.error("a lease on Ray ends: %s", describe_error(error))
        with suppress(OSError):
            await refuse(reader, writer, describe_error(error))


if __name__ == "__main__":
    be_lent(main)
