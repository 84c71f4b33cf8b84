"""The transitions of turn taking as data: what may become of what, by the method of `TurnTaking` that is called."""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.pipeline.dialogue.turn_taking import AnswerState, VoiceState

VOICE: Mapping[str, Mapping[VoiceState, frozenset[VoiceState]]] = {
    "voice": {
        VoiceState.QUIET: frozenset(
            {VoiceState.QUIET, VoiceState.UNSURE, VoiceState.TURN}
        ),  # QUIET: what was written since is newer
        VoiceState.UNSURE: frozenset({VoiceState.UNSURE, VoiceState.TURN}),
        VoiceState.TURN: frozenset({VoiceState.TURN}),
    },
    "voice_ended": {voice: frozenset({voice}) for voice in VoiceState},
    "transcript": {
        VoiceState.QUIET: frozenset({VoiceState.QUIET}),
        VoiceState.UNSURE: frozenset({VoiceState.QUIET, VoiceState.UNSURE, VoiceState.TURN}),
        VoiceState.TURN: frozenset({VoiceState.QUIET, VoiceState.TURN}),
    },
    "voice_failed": {
        VoiceState.QUIET: frozenset({VoiceState.QUIET}),
        VoiceState.UNSURE: frozenset({VoiceState.QUIET, VoiceState.UNSURE}),
        VoiceState.TURN: frozenset({VoiceState.QUIET, VoiceState.TURN}),
    },
    "playing": {voice: frozenset({voice}) for voice in VoiceState},
    "played": {
        VoiceState.QUIET: frozenset({VoiceState.QUIET}),
        VoiceState.UNSURE: frozenset({VoiceState.UNSURE, VoiceState.TURN}),
        VoiceState.TURN: frozenset({VoiceState.TURN}),
    },
    "stop": {
        VoiceState.QUIET: frozenset({VoiceState.QUIET}),
        VoiceState.UNSURE: frozenset({VoiceState.TURN}),
        VoiceState.TURN: frozenset({VoiceState.TURN}),
    },
    "say": {voice: frozenset({VoiceState.QUIET}) for voice in VoiceState},
    "passed": {
        VoiceState.QUIET: frozenset({VoiceState.QUIET}),
        VoiceState.UNSURE: frozenset({VoiceState.QUIET, VoiceState.UNSURE}),
        VoiceState.TURN: frozenset({VoiceState.QUIET, VoiceState.TURN}),
    },
}
"""What may become of a stretch of voice, by the method that is called, about it or about another one."""

ANSWER: Mapping[str, Mapping[AnswerState, frozenset[AnswerState]]] = {
    "voice": {
        AnswerState.NONE: frozenset({AnswerState.NONE}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING, AnswerState.NONE}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING, AnswerState.NONE}),
    },
    "voice_ended": {answer: frozenset({answer}) for answer in AnswerState},
    "transcript": {
        AnswerState.NONE: frozenset({AnswerState.NONE, AnswerState.THINKING}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING, AnswerState.NONE}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING, AnswerState.THINKING, AnswerState.NONE}),
    },
    "voice_failed": {
        AnswerState.NONE: frozenset({AnswerState.NONE, AnswerState.THINKING}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING}),
    },
    "playing": {
        AnswerState.NONE: frozenset({AnswerState.NONE}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING, AnswerState.SPEAKING}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING}),
    },
    "played": {
        AnswerState.NONE: frozenset({AnswerState.NONE}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING, AnswerState.NONE}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING, AnswerState.NONE}),
    },
    "stop": {answer: frozenset({AnswerState.NONE}) for answer in AnswerState},
    "say": {answer: frozenset({AnswerState.THINKING}) for answer in AnswerState},
    "passed": {
        AnswerState.NONE: frozenset({AnswerState.NONE, AnswerState.THINKING}),
        AnswerState.THINKING: frozenset({AnswerState.THINKING}),
        AnswerState.SPEAKING: frozenset({AnswerState.SPEAKING}),
    },
}
"""What may become of the answer, by the method that is called."""
