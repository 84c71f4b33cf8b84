"""Whisper as a stage: partials, a trial in the pause, one final, state that moves, and no word of anybody else's."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.models.speech.whisper.tiny import make_whisper
from thalweg import AudioChunk, Packet, Speech, SpeechEvent, Transcript
from thalweg.deploy.runtime.actor import StageContext
from thalweg.deploy.testing import Outcome, packet, run_stage
from thalweg.models.speech.whisper.decode import DecodeRequest, HeardWord, Hypothesis
from thalweg.models.speech.whisper.engine import Urgency
from thalweg.models.speech.whisper.vocabulary import Vocabulary
from thalweg.pipeline.duration import MS
from thalweg.pipeline.signal import Direction
from thalweg.stages.speech import whisper
from thalweg.stages.speech.whisper import Whisper

RATE = 16_000
FRAME = 512
S = 1_000_000_000


def spoken(text: str) -> dict[int, str]:
    """Words by number."""
    return dict(enumerate(text.split(), 1))


def voice(text: str, step_s: float = 0.3) -> NDArray[np.float32]:
    """A word every `step_s`, so that our fake recogniser understands it: the value of samples is a word's number."""
    return np.repeat(np.arange(1, len(text.split()) + 1, dtype=np.float32), round(step_s * RATE)) / 1000


@dataclass
class Understood:
    """A job that was done at once."""

    found: Hypothesis | None
    heard_s: float
    took_s: float = 0.0
    done: bool = True
    begun: bool = True

    def wait(self, timeout_s: float | None = None) -> bool:
        return True

    def cancel(self) -> None:
        """Too late."""

    def result(self) -> Hypothesis:
        if self.found is None:
            raise RuntimeError("out of memory")
        return self.found


@dataclass
class Ears:
    """An engine that reads what `voice` wrote. A word is heard once half of it is there, right once all of it is."""

    words: dict[int, str]
    asked: list[tuple[DecodeRequest, Urgency]] = field(default_factory=list)
    language: str = "en"
    model: Any = None
    fail: Collection[int] = ()

    def order(self, ask: Callable[[], DecodeRequest], urgency: Urgency = Urgency.PARTIAL) -> Understood:
        what = ask()
        self.asked.append((what, urgency))
        numbers = np.round(what.samples * 1000).astype(int)
        found = []
        for number, word in self.words.items():
            at = np.flatnonzero(numbers == number)
            if len(at) > 0.15 * RATE:
                whole = len(at) >= 0.29 * RATE
                text = f" {word}" if whole else f" {word[:2]}"
                end_s = (at[-1] + 1) / RATE
                found.append(HeardWord(text, (number,), float(at[0] / RATE), end_s - 0.02, 0.9 if whole else 0.3))
        hypothesis = Hypothesis(words=tuple(found), language=self.language, no_speech=0.0, log_prob=-0.1)
        return Understood(None if len(self.asked) in self.fail else hypothesis, what.audio_s)


class Held:
    """A share of it."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ears]:
    def install(text: str, language: str = "en") -> Ears:
        made = Ears(spoken(text), language=language)
        monkeypatch.setattr(whisper, "share_engine", lambda *args, **kwargs: Held(made))
        monkeypatch.setattr(whisper, "check_language", lambda model, language: None)
        return made

    return install


def turn(audio: NDArray[np.float32], silence_ms: int = 300, epoch: int = 1, start: int = 0) -> list[Packet]:
    """What voice activity makes of it: frames of 32 ms, then silence until the turn is over."""
    quiet = round(silence_ms / 32)
    samples = np.concatenate([audio, np.zeros(-len(audio) % FRAME + quiet * FRAME, np.float32)])
    packets = []
    for at in range(0, len(samples), FRAME):
        event = SpeechEvent.START if at == 0 else SpeechEvent.CONTINUE
        silence_ns = max(0, (at + FRAME - len(audio)) * S // RATE)
        chunk = AudioChunk(samples=samples[at : at + FRAME], rate=RATE)
        speech = Speech(audio=chunk, event=event, silence_ns=silence_ns)
        packets.append(packet(speech, time=start + at * S // RATE, epoch=epoch))
    end = start + len(samples) * S // RATE
    nothing = AudioChunk(samples=np.zeros(0, np.float32), rate=RATE)
    last = Speech(audio=nothing, event=SpeechEvent.END, speech_end_ns=start + len(audio) * S // RATE)
    return [*packets, packet(last, time=end, epoch=epoch)]


def transcripts(outcome: Outcome) -> list[Transcript]:
    assert outcome.problems == []
    return [payload for payload in outcome.payloads() if isinstance(payload, Transcript)]


SAID = "what is the capital of a country"


def test_a_turn_gives_growing_partials_a_trial_and_the_same_as_final(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    found = transcripts(run_stage(Whisper(), turn(voice(SAID))))
    *partials, trial, final = found
    assert len(partials) >= 3
    assert trial.trial and not any(t.trial or t.final for t in partials[:-1])
    assert final.final and (trial.text, final.text) == (SAID, SAID)
    assert all(SAID.startswith(t.text[: t.stable_chars]) for t in found)
    assert any(t.stable_chars for t in partials)
    assert final.speech_end_ns == round(7 * 0.3 * S)


@pytest.mark.parametrize("at", range(1, 7))
def test_a_decode_that_fails_is_made_again(ears: Callable[..., Ears], at: int) -> None:
    made = ears(SAID)
    made.fail = (at,)
    assert transcripts(run_stage(Whisper(), turn(voice(SAID))))[-1].text == SAID


def test_decodes_that_fail_one_after_the_other_are_said_once_and_counted(
    ears: Callable[..., Ears], caplog: pytest.LogCaptureFixture
) -> None:
    made, stage = ears(SAID), Whisper()
    made.fail = (1, 2, 3, 5)
    run_stage(stage, turn(voice(SAID)))
    assert [record.getMessage().count("out of memory") for record in caplog.records] == [1, 1]
    assert stage.counts["decodes_failed"] == 4


def test_a_final_text_that_fails_is_said_and_the_next_turn_is_understood(ears: Callable[..., Ears]) -> None:
    made = ears(SAID)
    made.fail = (1,)
    stage = Whisper(interval=0, trial_after=0)
    outcome = run_stage(stage, [*turn(voice(SAID)), *turn(voice(SAID), epoch=2, start=10 * S)])
    assert len(outcome.problems) == 1 and "out of memory" in outcome.problems[0]
    assert [payload.text for payload in outcome.payloads() if isinstance(payload, Transcript)] == [SAID]


def test_the_final_text_needs_no_decode_after_the_trial(ears: Callable[..., Ears]) -> None:
    made = ears(SAID)
    run_stage(Whisper(), turn(voice(SAID)))
    assert [urgency for _, urgency in made.asked].count(Urgency.FINAL) == 1


def test_words_carry_capture_times(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    final = transcripts(run_stage(Whisper(), turn(voice(SAID), start=5 * S)))[-1]
    assert [word.text for word in final.words] == SAID.split()
    assert final.words[2].start_ns == pytest.approx(5 * S + 0.6 * S, abs=0.01 * S)


def test_who_goes_on_after_a_pause_is_understood_as_a_whole(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    first, second = np.split(voice(SAID), [round(0.9 * RATE)])
    pause = turn(first, silence_ms=200)[:-1]
    rest = turn(second, start=pause[-1].time + 32 * MS)
    found = transcripts(run_stage(Whisper(), [*pause, *rest]))
    tried = [t.text for t in found if t.trial]
    guesses = "what is th", "what is the capital of a co"  # which had heard nearly all
    assert tried == [guesses[0], "what is the", guesses[1], SAID]
    assert [t.text for t in found if t.final] == [SAID]


def test_without_an_interval_there_is_one_decode_per_turn(ears: Callable[..., Ears]) -> None:
    made = ears(SAID)
    found = transcripts(run_stage(Whisper(interval=0, trial_after=0), turn(voice(SAID))))
    assert [t.text for t in found] == [SAID]
    assert len(made.asked) == 1


def test_what_is_heard_in_a_pause_is_told_upstream_for_who_decides_when_the_turn_ends(
    ears: Callable[..., Ears], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Any, Direction]] = []
    monkeypatch.setattr(StageContext, "signal", lambda _, signal, direction: told.append((signal, direction)))
    ears(SAID)
    run_stage(Whisper(), turn(voice(SAID)))
    assert (told[-1][0].text, told[-1][0].epoch, told[-1][1]) == (SAID, 1, Direction.UP)


def test_a_turn_that_is_broken_off_leaves_nothing_in_the_next(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    first, second = np.split(voice(SAID), [round(0.9 * RATE)])
    packets = turn(first, epoch=1)[:20] + turn(second, epoch=2, start=20 * S)
    finals = [t for t in transcripts(run_stage(Whisper(), packets)) if t.final]
    assert [t.text for t in finals] == ["capital of a country"]


def test_the_language_is_decided_once_per_turn_and_said(ears: Callable[..., Ears]) -> None:
    made = ears(SAID, language="fr")
    found = transcripts(run_stage(Whisper(language="auto"), turn(voice(SAID))))
    assert {t.language for t in found} == {"", "fr"} or {t.language for t in found} == {"fr"}
    assert found[-1].language == "fr"
    asked = [ask.language for ask, _ in made.asked]
    assert asked == sorted(asked)  # "auto" and from some decode on "fr"
    assert asked[-1] == "fr"


def test_half_a_minute_without_a_pause_is_decoded_in_windows_that_stay_short(ears: Callable[..., Ears]) -> None:
    said = " ".join(f"word{n}." if n % 8 == 7 else f"word{n}" for n in range(100))
    made = ears(said)
    found = transcripts(run_stage(Whisper(), turn(voice(said))))
    assert found[-1].text == said
    assert max(ask.audio_s for ask, _ in made.asked) < 9


@pytest.mark.parametrize("moves", [[40], [10, 30, 50], list(range(68, 76)), list(range(200))])
def test_state_moves_in_the_middle_of_an_utterance(ears: Callable[..., Ears], moves: list[int]) -> None:
    class Moving(Whisper):
        """Goes on as another that was restored from its snapshot."""

        count = 0

        def process(self, packet: Packet, ctx: Any) -> None:
            if self.count in moves:
                state = self.snapshot()
                self._hearing, self._audio, self._jobs = (
                    type(self._hearing)(self._hearing.rules),
                    type(self._audio)(),
                    {},
                )
                self.restore(state)
            self.count += 1
            super().process(packet, ctx)

    ears(SAID)
    found = transcripts(run_stage(Moving(), turn(voice(SAID))))
    assert found[-1].text == SAID
    assert [word.text for word in found[-1].words] == SAID.split()
    assert all(SAID.startswith(t.text[: t.stable_chars]) for t in found)


def test_another_rate_is_one_clear_error_and_the_next_turn_is_served(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    wrong = AudioChunk(samples=np.zeros(100, np.float32), rate=8_000)
    bad = packet(Speech(audio=wrong, event=SpeechEvent.START), epoch=1)
    outcome = run_stage(Whisper(), [bad, *turn(voice(SAID), epoch=2, start=10 * S)])
    assert len(outcome.problems) == 1 and "mono audio at 16000 Hz" in outcome.problems[0]
    assert [t.text for t in outcome.payloads() if t.final] == [SAID]


def test_a_hundred_turns_that_open_and_break_off_leave_no_jobs_and_no_audio(ears: Callable[..., Ears]) -> None:
    ears(SAID)
    stage, packets, rng = Whisper(), [], np.random.default_rng(0)
    for n in range(100):
        whole = turn(voice(SAID), epoch=n + 1, start=n * 10 * S)
        packets += whole if n == 99 or rng.random() < 0.5 else whole[: rng.integers(1, len(whole))]
    found = transcripts(run_stage(stage, packets))
    assert found[-1].text == SAID
    assert stage._jobs == {}


@pytest.mark.real
def test_a_model_that_is_missing_or_none_is_a_clear_error(tmp_path: Path) -> None:
    require_package("ctranslate2", "whisper")
    outcome = run_stage_problem(Whisper(model="whisper-tinny"))
    assert "Whisper model 'whisper-tinny' is not here: name one of whisper-base, whisper-tiny.en" in outcome


@pytest.mark.real
def test_a_language_that_the_model_does_not_know_is_a_clear_error(tmp_path: Path) -> None:
    folder = make_whisper(tmp_path / "tiny")
    assert "language 'klingon' is none of tiny: auto, en" in run_stage_problem(Whisper(str(folder), "klingon"))


def run_stage_problem(stage: Whisper) -> str:
    """What goes wrong where it is opened."""
    try:
        return " ".join(run_stage(stage, turn(voice(SAID))).problems)
    except Exception as error:
        return str(error)


@pytest.mark.real
def test_neighbours_on_one_engine_do_not_change_a_word(tmp_path: Path) -> None:
    """Real threads, a real engine, random weights."""
    folder = str(make_whisper(tmp_path / "tiny"))
    audio = [np.random.default_rng(n).normal(0, 0.1, (2 + n % 3) * RATE).astype(np.float32) for n in range(6)]
    alone = [last_text(folder, each) for each in audio]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda each: last_text(folder, each), audio))
    assert together == alone
    assert any(alone)


def last_text(folder: str, audio: NDArray[np.float32]) -> str:
    found = transcripts(run_stage(Whisper(folder, interval=0), turn(audio)))
    return found[-1].text


def test_the_vocabulary_of_phrases_is_given_to_the_decoder(monkeypatch: pytest.MonkeyPatch, ears: Any) -> None:
    from tests.models.speech.whisper.tiny import tokens

    made = ears(SAID)
    made.model = type("Model", (), {"vocabulary": Vocabulary(tokens())})
    run_stage(Whisper(phrases=("Thalweg", "Ann Arbor")), turn(voice(SAID)))
    said = made.model.vocabulary.text(made.asked[0][0].previous)
    assert said == " Thalweg, Ann Arbor."
