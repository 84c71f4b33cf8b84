"""Hosts of their own on this machine, and a bad network between them. See README.md beside this file.

    with lab("a", "b", link=Link(delay_ms=20, loss=0.01), seed=7) as net:
        server = net.a.popen(["python3", "-m", "http.server"])
        net.b.run(["curl", f"http://{net.a.address}:8000"])
        net.change(Link(delay_ms=200), "a", "b")     # from a to b, from now on

A host is a network namespace with one interface, a TUN device whose other end is held by the relay: a process that
takes each packet, asks `thalweg.pipeline.video.impairment` when it arrives, and passes it on then.
"""

from tests.netlab.lab import Host, Lab, LabError, lab, why_not
from thalweg.pipeline.video.impairment import Burst, Link

__all__ = ["Burst", "Host", "Lab", "LabError", "Link", "lab", "why_not"]
