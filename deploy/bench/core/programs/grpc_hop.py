"""gRPC's side of `bench hop`: one bidirectional stream of raw bytes; runs with its own Python, needs nothing of ours.

Asyncio at both ends, no serialiser: the stamp stands before the payload in one message, put together before the
clock is read. Arguments: sizes, n, gap, `tcp`, `unix` or `tls` with the file names of authority, certificate and key.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import grpc

METHOD = "/bench.Hop/Connect"
OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


async def produce(address, sizes, n, gap_s, pem):
    if pem:
        credentials = grpc.ssl_channel_credentials(pem[0], pem[2], pem[1])
        options = [*OPTIONS, ("grpc.ssl_target_name_override", "worker.thalweg")]
        channel = grpc.aio.secure_channel(address, credentials, options=options)
    else:
        channel = grpc.aio.insecure_channel(address, options=OPTIONS)
    async with channel:
        call = channel.stream_stream(METHOD)()
        for size in sizes:
            payload = bytes(size)
            for _ in range(n):
                await call.write(time.monotonic_ns().to_bytes(8, "little") + payload)
                await asyncio.sleep(gap_s)
        await call.done_writing()
        await call.read()


async def consume(sizes, n, gap_s, kind, names, folder):
    hops_ns = {size: [] for size in sizes}

    async def connect(requests, context):
        async for message in requests:
            now_ns = time.monotonic_ns()
            hops_ns[len(message) - 8].append(now_ns - int.from_bytes(message[:8], "little"))
        yield b"end"

    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(connect)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Hop", {"Connect": handler}),))
    address = f"unix:{folder}/hop" if kind == "unix" else "127.0.0.1:0"
    if kind == "tls":
        pem = [Path(name).read_bytes() for name in names]
        credentials = grpc.ssl_server_credentials([(pem[2], pem[1])], pem[0], require_client_auth=True)
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    await server.start()
    address = address if kind == "unix" else f"127.0.0.1:{port}"
    orders = [json.dumps(sizes), str(n), str(gap_s), kind, *names, "to", address]
    producer = await asyncio.create_subprocess_exec(sys.executable, __file__, *orders)
    await producer.wait()
    await server.stop(1)
    return hops_ns


def main():
    sizes, n, gap_s, kind = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    names = sys.argv[5:8] if kind == "tls" else []
    if "to" in sys.argv:
        pem = [Path(name).read_bytes() for name in names]
        asyncio.run(produce(sys.argv[-1], sizes, n, gap_s, pem))
        return
    with tempfile.TemporaryDirectory() as folder:
        hops_ns = asyncio.run(consume(sizes, n, gap_s, kind, names, folder))
    print(json.dumps({"version": grpc.__version__, "hops_ns": hops_ns}))


main()
