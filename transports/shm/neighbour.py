"""Who is at the other end of a unix socket: a process of our own user, or a stranger.

A name in the abstract namespace has no permissions. Any user of the machine can connect to it, and can take it once its
owner is gone; so the kernel is asked whose process it is, before a token is told or a place is given away.
"""

from __future__ import annotations

import os
import socket
import sys

_CREDENTIALS = 12  # pid, uid and gid, four bytes each (unix(7))


def is_ours(sock: socket.socket) -> bool:
    """Whether the process that connected, or listened, was our user's, or the superuser's, who may read all of it."""
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS)
    return int.from_bytes(told[4:8], sys.byteorder) in (os.geteuid(), 0)
