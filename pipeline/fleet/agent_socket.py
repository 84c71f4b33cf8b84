"""What stages and their node's agent agree on: where its socket is, and how messages over it are framed.

    → u32 length, MessagePack [number, class, stream, time_ns, payload]
    ← u32 length, MessagePack [number, ""]            it is stored; an event: on the disk
    ← u32 length, MessagePack [number, "why not"]

Answers come in the order of the questions.
"""

from __future__ import annotations

import struct
from typing import Final

NODE: Final = "THALWEG_NODE"
"""The environment variable in which stages find the path of the agent's socket."""
NODE_FOLDER: Final = "THALWEG_NODE_FOLDER"
"""Likewise the node's folder, which the socket need not lie in."""
STATE: Final = "~state"
"""Messages of this stream are no records: a map that says how the vehicle is, such as `{"armed": True}`."""
COMMANDS: Final = "~commands"
"""Messages of this stream ask for a command to the vehicle. The answer, after seconds, is one as JSON, or nothing."""
VIDEO: Final = "~video"
"""The same for a request for video."""
RATE: Final = "~rate"
"""Messages of this stream ask how much media may be produced. The answer is bit/s, as text."""
LENGTH: Final = struct.Struct("<I")
