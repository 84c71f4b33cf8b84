"""Telling systemd what it has asked to be told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

SOCKET = "NOTIFY_SOCKET"


def notify(message: str) -> None:
    """`READY=1`, `STOPPING=1`, `WATCHDOG=1`; nothing where nobody has asked. One that does not listen is let be."""
    address = os.environ.get(SOCKET)
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as telling:
            telling.sendto(message.encode(), address.replace("@", "\0", 1))
