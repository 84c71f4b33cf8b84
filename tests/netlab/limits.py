"""What the relay itself can do: `python -m tests.netlab.limits`, as root. Prints delay errors and throughput."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.netlab import Host, Lab, Link, lab
from tests.netlab.probes import ECHO, FLOOD, PING, SINK


def round_trips_ms(server: Host, client: Host, count: int) -> list[float]:
    """UDP round trips, one after another; NaN for those that were lost."""
    echo = server.python("-c", ECHO, stdout=subprocess.PIPE, text=True)
    echo.stdout.readline()
    said = client.run([sys.executable, "-c", PING, server.address, str(count)]).stdout.split()
    echo.kill()
    echo.wait()
    return [float(ms) for ms in said]


def stream_bps(server: Host, client: Host) -> float:
    """What TCP gets through in two seconds."""
    sink = server.python("-c", SINK, stdout=subprocess.PIPE, text=True)
    sink.stdout.readline()
    client.python("-c", FLOOD, server.address)
    return float(sink.stdout.readline())


def relay_cpu_s(net: Lab) -> float:
    """Processor time the relay has used."""
    fields = Path(f"/proc/{net.relay_pid}/stat").read_text(encoding="utf-8").split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the table."""
    for delay_ms in (0, 5, 30):
        with lab("a", "b", link=Link(delay_ms=delay_ms)) as net:
            late = sorted((ms - 2 * delay_ms) / 2 for ms in round_trips_ms(net.a, net.b, 300))
        print(f"delay {delay_ms:3} ms: late by {late[150]:.2f} ms p50, {late[297]:.2f} ms p99 each way")
    for rate in (10e6, 50e6, 100e6, None):
        with lab("a", "b", link=Link(rate=rate, delay_ms=5)) as net:
            start_s, bps = relay_cpu_s(net), stream_bps(net.a, net.b)
            share = (relay_cpu_s(net) - start_s) / 2
        print(f"rate {rate and rate / 1e6} Mbit/s: {bps / 1e6:.1f} Mbit/s of TCP, {share:.2f} of a core")


if __name__ == "__main__":
    main()
