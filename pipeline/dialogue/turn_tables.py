"""The transitions of turn taking as data: what may become of what, by the method of `TurnTaking` that is called."""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.pipeline.dialogue.turn_taking import Answer, Voice

VOICE: Mapping[str, Mapping[Voice, frozenset[Voice]]] = {
    "voice": {
        Voice.QUIET: frozenset({Voice.QUIET, Voice.UNSURE, Voice.TURN}),  # QUIET: what was written since is newer
        Voice.UNSURE: frozenset({Voice.UNSURE, Voice.TURN}),
        Voice.TURN: frozenset({Voice.TURN}),
    },
    "voice_ended": {voice: frozenset({voice}) for voice in Voice},
    "transcript": {
        Voice.QUIET: frozenset({Voice.QUIET}),
        Voice.UNSURE: frozenset({Voice.QUIET, Voice.UNSURE, Voice.TURN}),
        Voice.TURN: frozenset({Voice.QUIET, Voice.TURN}),
    },
    "voice_failed": {
        Voice.QUIET: frozenset({Voice.QUIET}),
        Voice.UNSURE: frozenset({Voice.QUIET, Voice.UNSURE}),
        Voice.TURN: frozenset({Voice.QUIET, Voice.TURN}),
    },
    "playing": {voice: frozenset({voice}) for voice in Voice},
    "played": {
        Voice.QUIET: frozenset({Voice.QUIET}),
        Voice.UNSURE: frozenset({Voice.UNSURE, Voice.TURN}),
        Voice.TURN: frozenset({Voice.TURN}),
    },
    "stop": {
        Voice.QUIET: frozenset({Voice.QUIET}),
        Voice.UNSURE: frozenset({Voice.TURN}),
        Voice.TURN: frozenset({Voice.TURN}),
    },
    "say": {voice: frozenset({Voice.QUIET}) for voice in Voice},
    "passed": {
        Voice.QUIET: frozenset({Voice.QUIET}),
        Voice.UNSURE: frozenset({Voice.QUIET, Voice.UNSURE}),
        Voice.TURN: frozenset({Voice.QUIET, Voice.TURN}),
    },
}
"""What may become of a stretch of voice, by the method that is called, about it or about another one."""

ANSWER: Mapping[str, Mapping[Answer, frozenset[Answer]]] = {
    "voice": {
        Answer.NONE: frozenset({Answer.NONE}),
        Answer.THINKING: frozenset({Answer.THINKING, Answer.NONE}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING, Answer.NONE}),
    },
    "voice_ended": {answer: frozenset({answer}) for answer in Answer},
    "transcript": {
        Answer.NONE: frozenset({Answer.NONE, Answer.THINKING}),
        Answer.THINKING: frozenset({Answer.THINKING, Answer.NONE}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING, Answer.THINKING, Answer.NONE}),
    },
    "voice_failed": {
        Answer.NONE: frozenset({Answer.NONE, Answer.THINKING}),
        Answer.THINKING: frozenset({Answer.THINKING}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING}),
    },
    "playing": {
        Answer.NONE: frozenset({Answer.NONE}),
        Answer.THINKING: frozenset({Answer.THINKING, Answer.SPEAKING}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING}),
    },
    "played": {
        Answer.NONE: frozenset({Answer.NONE}),
        Answer.THINKING: frozenset({Answer.THINKING, Answer.NONE}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING, Answer.NONE}),
    },
    "stop": {answer: frozenset({Answer.NONE}) for answer in Answer},
    "say": {answer: frozenset({Answer.THINKING}) for answer in Answer},
    "passed": {
        Answer.NONE: frozenset({Answer.NONE, Answer.THINKING}),
        Answer.THINKING: frozenset({Answer.THINKING}),
        Answer.SPEAKING: frozenset({Answer.SPEAKING}),
    },
}
"""What may become of the answer, by the method that is called."""
