"""`thalweg record`: run a pipeline file and keep the packets that leave chosen channels.

What is recorded is what the consumer took, in the order and at the times it took it: played back into the same place,
it sees the same again. The pipeline runs in this process; its placement is ignored.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.channel import Channel
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Connection, GraphError, nearest
from thalweg.pipeline.node import Edge
from thalweg.pipeline.packet import Packet
from thalweg.transports.codec import CodecError
from thalweg.transports.forms import form_of
from thalweg.transports.recording import RecordingError, RecordingWriter


class Tapped(Channel):
    """A channel that shows each packet that leaves it."""

    def __init__(self, edge: Edge, tap: Callable[[int, Packet], None]) -> None:
        like = edge.channel
        super().__init__(policy=like.policy, capacity=like.capacity, max_age_ns=like.max_age_ns)
        self._tap = tap

    def pop(self, now_ns: int) -> Packet | None:
        """As `Channel.pop`."""
        packet = super().pop(now_ns)
        if packet is not None:
            self._tap(now_ns, packet)
        return packet


class Recorder:
    """Records channels of a worker that has not run yet. Raises RecordingError, GraphError. Close it in the end."""

    def __init__(
        self, worker: Worker, connections: Sequence[Connection], names: Sequence[str], path: Path, pipeline: str
    ):
        self._worker = worker
        self._stopped = False
        found = [find_connection(connections, name) for name in names]
        chosen = list(dict.fromkeys(connection.name for connection in found))
        for connection in found:
            _check(worker, connection)
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.writer = RecordingWriter(path, chosen, {"pipeline": pipeline, "made": made})
        for edge in worker.edges:
            if edge.name in chosen:
                edge.channel = Tapped(edge, self._tap(edge, chosen.index(edge.name)))

    def close(self) -> None:
        """The end mark, and everything on the disk. Raises RecordingError."""
        self.writer.close()

    def discard(self) -> None:
        """Leave no file behind where nothing was recorded: what was to be recorded did not run."""
        if not self.writer.packets:
            self.writer.discard()

    def _tap(self, edge: Edge, channel: int) -> Callable[[int, Packet], None]:
        def tap(now_ns: int, packet: Packet) -> None:
            if self._stopped:
                return
            try:
                self.writer.write(channel, now_ns, packet)
            except ThalwegError as error:
                self._stopped = True
                message = f"the recording ends here: {error}"
                self._worker.failed(self._worker.actors[edge.consumer.name], message, None, error)

        return tap


def _check(worker: Worker, connection: Connection) -> None:
    """Raises RecordingError where the channel carries what cannot be written."""
    try:
        form_of(worker.actors[connection.source].info.outputs[connection.source_port].type)
    except CodecError as error:
        raise RecordingError(f"{connection.name} cannot be recorded: {error}") from None


def find_connection(connections: Sequence[Connection], name: str) -> Connection:
    """The connection called `vad.speech -> recogniser.speech`, or without ports where that is clear. GraphError."""
    source, arrow, target = (part.strip() for part in name.partition("->"))
    found = [
        c
        for c in connections
        if arrow and _fits(source, c.source, c.source_port) and _fits(target, c.target, c.target_port)
    ]
    if len(found) == 1:
        return found[0]
    names = [c.name for c in connections]
    if not found:
        raise GraphError(f"there is no channel {name!r}{nearest(name, names)}; there are: {', '.join(names)}")
    raise GraphError(f"{name!r} may be any of {', '.join(c.name for c in found)}: name the ports")


def _fits(wanted: str, stage: str, port: str) -> bool:
    return wanted in (stage, f"{stage}.{port}")
