"""Reports each packet before it is processed, to find the one that kills a worker.

Theory of operation. A watched worker holds each packet that would be sent again after its death, reports it to its
supervisor, and processes it only after the acknowledgement. The last reported packet was in hand when the worker dies.
This costs a round trip per packet, and is done only where a worker dies again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from thalweg.deploy.runtime.hosting import HostedStage
from thalweg.pipeline.cluster.supervision import InHand
from thalweg.pipeline.packet import Packet


class Watch:
    """The packets that are processed now or next. `news` is called when there is something to report."""

    def __init__(self, news: Callable[[], None]) -> None:
        self._news = news
        self._hands: dict[str, tuple[HostedStage, InHand]] = {}
        self._told: dict[str, InHand] = {}
        self._heard: set[str] = set()

    def hold(self, actor: HostedStage, packet: Packet) -> Packet | None:
        """Hold a packet back until it was reported. None: no packet may be processed yet."""
        assert packet.replay is not None
        actor.held = packet
        hand = InHand(
            stage=actor.name,
            stream=packet.stream,
            number=packet.replay,
            seq=packet.seq,
            epoch=packet.epoch,
            time_ns=packet.time,
            payload=type(packet.payload).__name__,
        )
        self._hands.pop(actor.name, None)
        self._hands[actor.name] = (actor, hand)
        self._news()
        return None

    def release(self, actor: HostedStage) -> Packet | None:
        """The held packet, once its report was acknowledged."""
        if actor.name not in self._heard:
            return None
        self._heard.discard(actor.name)
        packet, actor.held = actor.held, None
        return packet

    def done(self, actor: HostedStage) -> None:
        """`actor` has finished its packet."""
        self._hands.pop(actor.name, None)

    @property
    def untold(self) -> bool:
        """Whether a packet is held that was not reported yet."""
        return any(name not in self._told for name in self._held())

    def tell(self) -> list[dict[str, Any]]:
        """Report the packets in hand, oldest first."""
        self._told = self._held()
        return [asdict(hand) for _, hand in self._hands.values()]

    def heard(self) -> None:
        """The last report was acknowledged: its packets may be processed."""
        for name, hand in self._held().items():
            if self._told.get(name) is hand:
                self._heard.add(name)
                actor, _ = self._hands[name]
                actor.worker.wake(actor)
        self._told = {}

    def _held(self) -> dict[str, InHand]:
        """Those that wait to be reported and acknowledged, by stage."""
        return {
            name: hand
            for name, (actor, hand) in self._hands.items()
            if actor.held is not None and name not in self._heard
        }
