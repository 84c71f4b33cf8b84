"""A plain durable queue: `send FOLDER HOST PORT GAP_MS` and `receive FOLDER HOST PORT`.

The sender forces each event to its disk, prints `event NUMBER`, and sends what the receiver has not, oldest first, a
batch at a time; the receiver forces a batch to its own disk before it answers with how many it has. It prints
`stored NUMBER MADE_NS SEEN_NS`.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

BATCH_BYTES = 64_000
PATIENCE_S, PAUSE_S = 10.0, 1.0
EVENT_BYTES = 120


def event(number: int, made_ns: int) -> bytes:
    """A line."""
    return f"{number} {made_ns}".ljust(EVENT_BYTES - 1).encode() + b"\n"


def next_batch(lines: list[bytes], had: int) -> bytes:
    """What is sent to a receiver that has so many: the oldest of the rest."""
    return b"".join(lines[had : had + BATCH_BYTES // EVENT_BYTES])


def make_events(path: Path, lines: list[bytes], gap_s: float) -> None:
    """Until the process is killed."""
    with path.open("ab", buffering=0) as file:
        for number in range(10_000_000):
            line = event(number, time.time_ns())
            file.write(line)
            os.fdatasync(file.fileno())
            lines.append(line)
            print("event", number, flush=True)
            time.sleep(gap_s)


def send(lines: list[bytes], address: tuple[str, int]) -> None:
    """Until the process is killed; over a connection that fails another one is made."""
    while True:
        try:
            with socket.create_connection(address, PATIENCE_S) as connection, connection.makefile("rb") as answers:
                while answer := answers.readline():
                    while not (batch := next_batch(lines, int(answer))):
                        time.sleep(0.001)
                    connection.sendall(b"%d\n" % len(batch) + batch)
        except OSError:
            pass
        time.sleep(PAUSE_S)


def receive(path: Path, address: tuple[str, int]) -> None:
    """Until the process is killed: one connection at a time, which a sender that is back has made anew."""
    had = 0
    with path.open("ab", buffering=0) as file, socket.create_server(address) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            connection.settimeout(PATIENCE_S)
            try:
                with connection, connection.makefile("rb") as sent:
                    connection.sendall(b"%d\n" % had)
                    while size := sent.readline():
                        batch = sent.read(int(size))
                        if len(batch) < int(size):
                            break
                        file.write(batch)
                        os.fdatasync(file.fileno())
                        now_ns = time.time_ns()
                        for line in batch.splitlines():
                            print("stored", line.decode().strip(), now_ns)
                        sys.stdout.flush()
                        had += len(batch) // EVENT_BYTES
                        connection.sendall(b"%d\n" % had)
            except OSError:
                continue


def main(what: str, folder: str, host: str, port: str, gap_ms: str = "0") -> None:
    """See above."""
    path = Path(folder) / f"{what}.queue"
    if what == "receive":
        receive(path, (host, int(port)))
    lines: list[bytes] = []
    threading.Thread(target=send, args=(lines, (host, int(port))), daemon=True).start()
    make_events(path, lines, float(gap_ms) / 1e3)


if __name__ == "__main__":
    main(*sys.argv[1:])
