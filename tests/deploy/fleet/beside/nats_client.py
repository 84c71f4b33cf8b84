"""What a NATS user would run at both ends; run by the peer's Python.

make URL [DOMAIN]         the stream EVENTS; with a domain a mirror of the stream there
publish URL GAP_MS        number after number, each acknowledged before the next; prints `event NUMBER` once it is
watch URL                 prints `WAY NUMBER MADE_NS SEEN_NS` of all that comes: `stored` in the stream here, or `live`,
                          by a plain subscription, which NATS delivers once at most and does not keep
read URL                  prints the numbers in the stream, with spaces between, oldest first
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ExternalStream, StreamConfig, StreamSource
from nats.js.errors import NotFoundError

PATIENCE_S = 60.0
PAYLOAD_BYTES = 120
"""About as large as the record of ours that is compared."""


def packed(number: int, made_ns: int) -> bytes:
    """An event; what fills it cannot be compressed, as a leaf node would."""
    head = b"%d %d " % (number, made_ns)
    return head + os.urandom(PAYLOAD_BYTES - len(head))


def read(payload: bytes) -> tuple[int, int]:
    """Number and time of an event."""
    number, made_ns, _ = payload.split(b" ", 2)
    return int(number), int(made_ns)


async def make(js, domain):
    """The stream, on the disk."""
    if not domain:
        await js.add_stream(StreamConfig(name="EVENTS", subjects=["events"]))
        return
    there = StreamSource(name="EVENTS", external=ExternalStream(api=f"$JS.{domain}.API"))
    await js.add_stream(StreamConfig(name="EVENTS", mirror=there))


async def publish(js, gap_ms):
    """Until it is killed."""
    for number in range(10_000_000):
        await js.publish("events", packed(number, time.time_ns()))
        print("event", number, flush=True)
        await asyncio.sleep(gap_ms / 1e3)


async def watch(client, js):
    """Until it is killed."""

    def seen(way):
        async def told(message):
            number, made_ns = read(message.data)
            print(way, number, made_ns, time.time_ns(), flush=True)

        return told

    await client.subscribe("events", cb=seen("live"))
    await js.subscribe(
        "",
        stream="EVENTS",
        ordered_consumer=True,
        cb=seen("stored"),
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    print("ready", flush=True)
    await asyncio.Event().wait()


async def numbers(js):
    """Of all that is in the stream; none where there is no stream."""
    try:
        state = (await js.stream_info("EVENTS")).state
    except NotFoundError:
        return []
    found = []
    wanted = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, mem_storage=True)
    reading = await js.pull_subscribe("", stream="EVENTS", config=wanted)
    while len(found) < state.messages:
        batch = await reading.fetch(min(1000, state.messages - len(found)), timeout=PATIENCE_S)
        found += [read(message.data)[0] for message in batch]
    return found


async def connect(url):
    """A client, and JetStream by it."""
    client = await nats.connect(url, max_reconnect_attempts=-1)
    return client, client.jetstream(timeout=PATIENCE_S)


async def main(what, url="", *more):
    if what == "read":
        for line in sys.stdin:  # nothing else runs on this loop
            client, js = await connect(line.strip())
            print(*await numbers(js), flush=True)
            await client.close()
        return
    client, js = await connect(url)
    if what == "make":
        await make(js, "".join(more))
    elif what == "publish":
        await publish(js, float(more[0]))
    else:
        await watch(client, js)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
