"""ZeroMQ's side of `bench hop`: PUSH and PULL over an ipc socket; runs with its own Python, needs nothing of ours."""

import json
import subprocess
import sys
import tempfile
import time

import zmq


def produce(address, sizes, n, gap_s):
    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(address)
    for size in sizes:
        payload = bytes(size)
        for _ in range(n):
            socket.send_multipart([time.monotonic_ns().to_bytes(8, "little"), payload])
            time.sleep(gap_s)
    socket.close()


def main():
    sizes, n, gap_s = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    if len(sys.argv) > 4:
        produce(sys.argv[4], sizes, n, gap_s)
        return
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/hop"
        socket = zmq.Context().socket(zmq.PULL)
        socket.bind(address)
        hops_ns = {size: [] for size in sizes}
        with subprocess.Popen([sys.executable, __file__, *sys.argv[1:4], address]):
            for _ in range(n * len(sizes)):
                stamp, payload = socket.recv_multipart(copy=False)
                hops_ns[len(payload)].append(time.monotonic_ns() - int.from_bytes(stamp.bytes, "little"))
    print(json.dumps({"version": zmq.__version__, "hops_ns": hops_ns}))


main()
