"""What of a conversation crosses to a worker that another machine lends (`placement`). It fails closed.

A question crosses once it is final: a transcript that still grows may turn out to be private, so of a turn that begins
only that it has begun crosses, for connections to be made. Once something private was said, in a question or an answer,
the conversation stays here, since every further question carries its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thalweg.pipeline.handoff.privacy import Privacy, Zone
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Pictured, Transcript
from thalweg.stages.language.conversation import Exchange


class Crossing:
    """Of one conversation. `privacy`: of its pool, where there is one. `here`: the model that answers here, or the pool
    that chooses it, keeps private words on this machine.
    """

    def __init__(self, privacy: Privacy, *, here: bool) -> None:
        self._privacy, self._here = privacy, here
        self._placed = False
        self._begun = AMBIENT

    @property
    def stays(self) -> bool:
        """Whether something private was said."""
        return self._privacy.zone is Zone.EDGE

    def restore(self, past: Sequence[Exchange], *, kept: bool = False) -> None:
        """The conversation is another one. `kept`: something private was said, in turns that are forgotten, too."""
        if kept:
            self._privacy.narrow(Zone.EDGE, "something private was said")
        for exchange in past:
            self.hear(exchange.asked, exchange.said)

    def hear(self, *texts: str) -> None:
        """Words of the conversation."""
        for text in texts:
            self._privacy.hear(text)

    def of(self, packet: Packet) -> Packet | None:
        """What of a packet crosses, as long as the conversation does not stay; None: nothing."""
        transcript = packet.payload
        assert isinstance(transcript, Transcript)
        self._placed = True
        self.hear(transcript.text, transcript.beside if isinstance(transcript, Pictured) else "")
        if transcript.final:
            return packet
        if packet.epoch == self._begun:
            return None
        self._begun = packet.epoch
        return replace(packet, payload=Transcript(text="", final=False))

    def refuses(self, transcript: Transcript) -> bool:
        """Whether the model that answers here, which is not on this machine, must not hear of these words."""
        if self._here or not self._placed:
            return False
        alone = Privacy(names=self._privacy.names)
        alone.hear(transcript.text)
        return not transcript.final or not alone.allows(Zone.FOG)
