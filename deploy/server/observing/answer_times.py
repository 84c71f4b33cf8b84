"""How soon the answers of one conversation are heard, and how long they sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from thalweg.deploy.server.observing.conversation_stats import ConversationStats
from thalweg.deploy.server.observing.tally import Tally
from thalweg.pipeline.dialogue.events import Latency
from thalweg.pipeline.dialogue.playout import Finished
from thalweg.pipeline.observing.turn import TurnRecorder
from thalweg.transports.webrtc import Call

MILESTONES_S = 5.0


class AnswerTimes:
    """Takes what `call` has played, tells the visitor, and counts in `tally`. `on_turn`: told of each turn that was
    answered: its epoch, the time from the end of speech to the first sound played, ms, and to its milestones.

    `heard`: turns that were answered; `played_ms`: of the last hundred.
    """

    def __init__(
        self,
        call: Call,
        stats: ConversationStats,
        turns: TurnRecorder,
        tally: Tally,
        on_turn: Callable[[int, float, Mapping[str, float]], None],
    ) -> None:
        self._call, self._stats, self._turns, self._tally, self._on_turn = call, stats, turns, tally, on_turn
        self.heard = 0
        self.played_ms: deque[float] = deque(maxlen=100)
        self._sounding: dict[int, int] = {}
        self._unmeasured: dict[int, int] = {}

    def look(self) -> None:
        """Take what is new. To be called several times a second."""
        self._sounding |= self._call.started
        self._unmeasured |= self._call.started
        self._call.started.clear()
        for epoch, played_ns in list(self._unmeasured.items()):
            self._turn(epoch, played_ns)
        while self._call.finished:
            self._answer(self._call.finished.popleft())

    def _answer(self, answer: Finished) -> None:
        """How long it sounded, and after an interruption, how soon it was silent."""
        began_ns = self._sounding.pop(answer.epoch, None)
        if began_ns is None:
            return
        self._tally.answers.record(answer.time_ns - began_ns)
        spoke = [turn.speech_start_ns for turn in self._turns.turns.values() if turn.epoch > answer.epoch]
        if not answer.complete and spoke and began_ns < min(spoke) <= answer.time_ns:
            self._tally.interrupts.record(answer.time_ns - min(spoke))

    def _turn(self, epoch: int, played_ns: int) -> None:
        """Its milestones, once they are known."""
        found = self._stats.milestones(epoch, played_ns)
        if found is None:
            if self._call.clock.now_ns() - played_ns > MILESTONES_S * 1e9:
                del self._unmeasured[epoch]  # no voice has ended in it, or its worker does not answer
            return
        del self._unmeasured[epoch]
        speech_end_ns, marks = found
        latency = {name: (at_ns - speech_end_ns) / 1e6 for name, at_ns in marks.items()}
        played_ms = (played_ns - speech_end_ns) / 1e6
        self._tally.played.record(played_ns - speech_end_ns)
        self.heard += 1
        self.played_ms.append(played_ms)
        self._on_turn(epoch, played_ms, latency)
        self._call.tell(
            Latency(
                turn=epoch,
                final_ms=latency.get("final_transcript"),
                first_token_ms=latency.get("first_token"),
                first_audio_ms=latency.get("first_audio"),
                played_ms=played_ms,
            )
        )
