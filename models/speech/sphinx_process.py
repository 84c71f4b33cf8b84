"""PocketSphinx in a process of its own.

The decoder keeps Python's interpreter lock for milliseconds at a time, half of all time during speech. Beside an event
loop that sends and receives audio for several people this made every packet wait: measured, arrivals up to 1.2 s late
on two busy cores. A pipe to a process costs 0.1 ms per call instead, and gives the decoder a core.

    request   u8 command, u32 length, data        F: feed float32 samples, P: partial, S: start, E: finish
    reply     u32 length, MessagePack             none for F and S
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from typing import IO, Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from thalweg.models.child_process import module_path, python_module, without_secrets
from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.hypothesis import RecognisedWord
from thalweg.models.speech.sphinx import SphinxRecogniser

_REQUEST = struct.Struct("<cI")
_REPLY = struct.Struct("<I")


class SphinxProcess:
    """As `SphinxRecogniser`, from another process. Raises ModelError where that is gone; `close` ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            python_module("thalweg.models.speech.sphinx_process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=without_secrets(os.environ) | module_path(),
            start_new_session=True,
        )
        self._ask(b"P")

    def start(self) -> None:
        """Begin an utterance."""
        self._send(b"S", b"")

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Take [time] float32 at 16 kHz."""
        self._send(b"F", np.ascontiguousarray(samples, np.float32).tobytes())

    def partial(self) -> str:
        """The best guess at what was said so far."""
        return str(self._ask(b"P"))

    def finish(self) -> tuple[str, list[RecognisedWord]]:
        """End the utterance: its text and its words."""
        text, words = self._ask(b"E")
        return text, [RecognisedWord(*word) for word in words]

    def close(self) -> None:
        """End the process. Idempotent."""
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with contextlib.suppress(OSError):  # what was not sent yet is not wanted any more
                    end.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, command: bytes, data: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(_REQUEST.pack(command, len(data)) + data)
            pipe.flush()
        except (OSError, ValueError):
            raise self._gone() from None

    def _ask(self, command: bytes) -> Any:  # Any: what MessagePack gives
        self._send(command, b"")
        pipe = self._process.stdout
        assert pipe is not None
        size = pipe.read(_REPLY.size)
        if len(size) < _REPLY.size:
            raise self._gone()
        return msgpack.unpackb(pipe.read(_REPLY.unpack(size)[0]))

    def _gone(self) -> ModelError:
        code = self._process.poll()
        return ModelError(f"the recogniser's process is gone (code {code}); was it out of memory?")


def main(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Serve one recogniser until the requests end."""
    recogniser = SphinxRecogniser()

    def reply(value: object) -> None:
        packed = msgpack.packb(value)
        replies.write(_REPLY.pack(len(packed)) + packed)
        replies.flush()

    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        command, length = _REQUEST.unpack(head)
        data = requests.read(length)
        if command == b"S":
            recogniser.start()
        elif command == b"F":
            recogniser.feed(np.frombuffer(data, np.float32))
        elif command == b"P":
            reply(recogniser.partial())
        else:
            text, words = recogniser.finish()
            reply([text, [[word.text, word.start_s, word.end_s, word.confidence] for word in words]])


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipe
    main(sys.stdin.buffer, sys.stdout.buffer)
