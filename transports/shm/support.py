"""Whether this system has what edges over shared memory stand on: Linux has it all."""

from __future__ import annotations

import os
import socket
import sys


def missing() -> str:
    """What is not here, in the words of its manual; empty where shared memory can be used."""
    lacking = [
        name
        for name, there in (
            ("memfd_create", hasattr(os, "memfd_create")),
            ("SOCK_SEQPACKET", hasattr(socket, "SOCK_SEQPACKET")),
            ("abstract sockets", sys.platform == "linux"),
        )
        if not there
    ]
    return ", ".join(lacking)
