"""Telling systemd what it has asked to be told (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

SOCKET = "NOTIFY_SOCKET"


def notify(message: str) -> None:
    """Send `READY=1`, `STOPPING=1` or `WATCHDOG=1`. Does nothing without `NOTIFY_SOCKET` or without a listener."""
    address = os.environ.get(SOCKET)
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as telling:
            telling.sendto(message.encode(), address.replace("@", "\0", 1))
