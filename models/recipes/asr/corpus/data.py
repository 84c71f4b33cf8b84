"""Speech in shards on disk: made once, in any number of runs and processes, the same every time.

A shard is an `.npz` of 16-bit samples end to end, where each utterance ends, what it says, who says it and when. Shard
n of a split depends on its number and the seed alone; one that is there is not made again, and none is ever half
there. Augmentation is not in it: that is drawn anew each time an utterance is trained on.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.asr.corpus.align import Aligner, Spans
from thalweg.models.recipes.asr.corpus.text import Sentences, normalise
from thalweg.models.recipes.asr.corpus.voices import RATE, choose, voices

Floats = NDArray[np.float32]
PER_SHARD = 200
_LONGEST_S = 15.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """Audio at 16 kHz, what it says, who says it; when each word is said, in frames of 10 ms, empty if not known."""

    audio: Floats
    text: str
    voice: str
    spans: Spans = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a split comes from. `words`, `extra`: as `Sentences` takes them; `piper`: voices beside the engines."""

    test: bool
    seed: int = 0
    words: Path | None = None
    extra: Path | None = None
    piper: tuple[Path, ...] = ()


def make_shards(folder: Path, count: int, source: Source, workers: int = 1) -> None:
    """See to it that shards 0 … count − 1 are there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(count) if not _path(folder, n).exists()]
    print(f"{folder}: {count - len(missing)} of {count} shards are there", flush=True)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            for n in pool.map(make_shard, [folder] * len(missing), missing, [source] * len(missing)):
                print(f"{folder}: shard {n}", flush=True)
        return
    for n in missing:
        print(f"{folder}: shard {make_shard(folder, n, source)}", flush=True)


def make_shard(folder: Path, number: int, source: Source, per_shard: int = PER_SHARD) -> int:
    """Synthesize one shard; returns its number."""
    rng = random.Random(f"shard {source.seed} {source.test} {number}")
    sentences = Sentences(source.words, source.extra, seed=rng.randrange(2**31), test=source.test)
    speakers = voices(list(source.piper))
    audio: list[NDArray[np.int16]] = []
    about: list[tuple[str, str, Spans]] = []
    aligner, failed = Aligner(), 0
    while len(audio) < per_shard:
        text, voice = sentences.next(), choose(speakers, rng, source.test)
        try:
            samples = voice.speak(text, rng)
        except (subprocess.CalledProcessError, wave.Error, EOFError) as error:
            failed += 1  # an engine stumbles over a sentence now and then; over many it is broken
            if failed > per_shard // 10:
                raise RuntimeError(f"{voice.name} and others failed {failed} times, last with: {error}") from error
            continue
        if 0.3 * RATE < len(samples) < _LONGEST_S * RATE and np.abs(samples).max() > 1e-3:
            audio.append(np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16))
            about.append((text, voice.name, aligner.spans(samples, text)))
    part = folder / f".shard-{number:05d}.{os.getpid()}.npz"
    ends = np.cumsum([len(samples) for samples in audio])
    np.savez_compressed(part, audio=np.concatenate(audio), ends=ends, about=np.array(json.dumps(about)))
    part.rename(_path(folder, number))
    return number


def read_shard(path: Path) -> list[Utterance]:
    """The utterances of a shard."""
    with np.load(path, allow_pickle=False) as shard:
        about = json.loads(str(shard["about"]))
        pieces = np.split(shard["audio"].astype(np.float32) / 32768, shard["ends"][:-1])
    return [Utterance(audio, *of_it) for audio, of_it in zip(pieces, about, strict=True)]


def shards(folder: Path) -> list[Path]:
    """The shards of a folder in order."""
    return sorted(folder.glob("shard-*.npz"))


def endless(folder: Path, rng: random.Random) -> Iterator[Utterance]:
    """Utterances of all shards, in another order every time around."""
    while True:
        paths = shards(folder)
        if not paths:
            raise FileNotFoundError(f"{folder} holds no shards: run `data` first")
        rng.shuffle(paths)
        for path in paths:
            utterances = read_shard(path)
            rng.shuffle(utterances)
            yield from utterances


def human_recordings(folder: Path) -> list[Utterance]:
    """Debian's `pocketsphinx-testdata` (/usr/share/pocketsphinx/test/data): cards, a book read aloud. Only to test."""
    found = []
    for part in ("cards", "librivox"):
        for transcription in sorted((folder / part).glob("*transcription")):
            for line in transcription.read_text(encoding="utf-8").splitlines():
                match = re.fullmatch(r"<s>(.*)</s>\s*\((\S+)\)", line.strip())
                if match:
                    with wave.open(str(folder / part / f"{match[2]}.wav")) as file:
                        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
                    found.append(Utterance(pcm / np.float32(32768), normalise(match[1]), part))
    return found


def _path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.npz"
