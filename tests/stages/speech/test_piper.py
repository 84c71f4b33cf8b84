"""How fast, and by which voice, is taken with the next sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_model, require_package
from thalweg.deploy.testing import packet, run_stage
from thalweg.models.speech.piper import FIRST, PiperVoice
from thalweg.models.speech.vits import PADDING
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.payload import Draft, Sentence, SpokenText
from thalweg.pipeline.stage import Context, describe
from thalweg.stages.speech.piper import Piper, SpeechSynthesisError, divided

TEXT = "The river flows fastest where it is deepest."

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def _voice() -> None:
    require_package("piper", "demo")
    require_model("piper-en-us-joe")


def sentence(text: str = TEXT) -> Sentence:
    return Sentence(text=text, first=True, last=False)


def pieces(stage: Piper, ports: dict[str, list[object]]) -> list[SpokenText]:
    return [p for p in run_stage(stage, ports).payloads() if isinstance(p, SpokenText)]


def spoken(stage: Piper, ports: dict[str, list[object]]) -> list[SpokenText]:
    """The sentences that were said, which are `TEXT` each, put together from their pieces."""
    found: list[SpokenText] = []
    words, samples = "", []
    for piece in pieces(stage, ports):
        words, samples = f"{words} {piece.text}".strip(), [*samples, piece.samples]
        if words == TEXT:
            found.append(SpokenText(samples=np.concatenate(samples), rate=piece.rate, text=words))
            words, samples = "", []
    assert not samples, "nothing is said twice, or left unsaid"
    return found


class Set(Piper):
    """Is set to something between its first sentence and its second."""

    def process(self, packet: object, ctx: Context) -> None:
        super().process(packet, ctx)  # type: ignore[arg-type]
        self.configure({"speed": 2.0})


def test_the_next_sentence_is_as_fast_as_was_set_and_the_one_before_was_not() -> None:
    said = [packet(sentence(), time=i, epoch=1) for i in range(2)]
    first, second = spoken(Set(), {"sentence": said})
    assert 1.7 < len(first.samples) / len(second.samples) < 2.3
    assert first.rate == second.rate and first.text == second.text == TEXT


@pytest.mark.parametrize("speed", [0.5, 1.5])
def test_a_voice_speaks_as_fast_as_its_file_says(speed: float) -> None:
    (usual,) = spoken(Piper(), {"sentence": [packet(sentence(), time=0, epoch=1)]})
    (other,) = spoken(Piper(speed=speed), {"sentence": [packet(sentence(), time=0, epoch=1)]})
    assert len(usual.samples) / len(other.samples) == pytest.approx(speed, rel=0.15)


def test_a_draft_that_was_made_at_another_speed_is_made_anew() -> None:
    stage = Set()
    parts = spoken(
        stage,
        {
            "draft": [packet(Draft(text=TEXT, whole=False), time=0, epoch=1)],
            "sentence": [packet(sentence(), time=1, epoch=1)],
        },
    )
    (usual,) = spoken(Piper(), {"sentence": [packet(sentence(), time=0, epoch=1)]})
    assert stage.counts == {"drafted_pieces": 1}
    assert 1.7 < len(usual.samples) / len(parts[0].samples) < 2.3


def test_another_voice_speaks_where_it_is_loaded_and_no_other_can_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ModelStore().pull("piper-en-us-joe")
    copies = [shutil.copy(file, tmp_path / file.name) for file in files]  # another voice, as far as the stage knows
    pull = ModelStore.pull

    def pulled(store: ModelStore, name: str) -> list[Path]:
        return [Path(copy) for copy in copies] if name == "twin" else list(pull(store, name))

    monkeypatch.setattr(ModelStore, "pull", pulled)
    loaded: list[object] = []

    class Choosing(Piper):
        def process(self, packet: object, ctx: Context) -> None:
            loaded.append(self._voices[self._manner[0]])
            super().process(packet, ctx)  # type: ignore[arg-type]
            self.configure({"voice": "twin"})

    said = [packet(sentence(), time=i, epoch=1) for i in range(2)]
    stage = Choosing(voices=("twin",))
    assert len(spoken(stage, {"sentence": said})) == 2
    assert loaded[0] is not loaded[1] and all(isinstance(each, PiperVoice) for each in loaded)
    with pytest.raises(SpeechSynthesisError, match="'third' is not one of piper-en-us-joe, twin"):
        stage.configure({"voice": "third"})
    assert describe(Piper).configurable == {"speed", "voice"}


def test_a_sentence_is_heard_while_the_rest_of_it_is_made() -> None:
    first, *rest = pieces(Piper(), {"sentence": [packet(sentence(), time=0, epoch=1)]})
    assert len(first.samples) <= FIRST * 256 and len(rest) >= 2
    assert len(first.text.split()) in (0, 1, 2), "the words of 0.28 s"


def test_pieces_put_together_are_what_the_voice_says_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = (
        next(f for f in ModelStore().pull("piper-en-us-joe") if f.suffix == end) for end in (".onnx", ".json")
    )
    voice = PiperVoice(model, config)
    latent = np.asarray(
        voice._voice.phoneme_ids_to_audio(voice._voice.phonemes_to_ids(voice._voice.phonemize(TEXT)[0]))
    )
    decode = voice._decoder.run
    (whole,) = decode(None, {voice._frames: latent[None].astype(np.float32)})
    monkeypatch.setattr(voice._voice, "phoneme_ids_to_audio", lambda *_: latent)
    parts = list(voice.stream(TEXT))
    made = np.concatenate([piece.samples for piece in parts])
    assert np.abs(made - whole.reshape(-1) * voice._gain).max() < 1e-4
    done = [piece.done for piece in parts]
    assert done == sorted(done) and done[-1] == 1.0
    narrow = np.asarray(decode(None, {voice._frames: latent[None, :, : FIRST + 2].astype(np.float32)})[0]).reshape(-1)
    assert np.abs(narrow[: FIRST * 256] - whole.reshape(-1)[: FIRST * 256]).max() > 1e-3, (
        f"why {PADDING} are decoded more"
    )


def test_words_are_told_with_the_sound_they_are_said_in() -> None:
    text = "one two three four"
    assert divided(text, 18, 0.5) == ("one two", "three four")
    assert divided("three four", 18, 0.6) == ("", "three four")
    assert divided("three four", 18, 0.75) == ("three", "four")
    assert divided("three four", 18, 1.0) == ("three four", "")
    assert divided("\u4f60\u597d", 2, 0.7) == ("", "\u4f60\u597d"), "without spaces: with the last of its sound"


def test_a_voice_that_cannot_read_the_sentence_for_its_level_speaks_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = (".onnx", ".json")
    model, config = (next(f for f in ModelStore().pull("piper-en-us-joe") if f.suffix == end) for end in names)
    voice = PiperVoice(model, config)
    monkeypatch.setattr(voice._voice, "phonemize", lambda text: [])
    voice.warm()
    assert voice._gain == pytest.approx(3.0)
    monkeypatch.undo()
    voice._loudest = 2.0
    assert list(voice.stream("Yes.")) and voice._gain == 0.5, "what was too loud makes what comes after it softer"
