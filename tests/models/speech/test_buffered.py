"""The baseline does what it says: encode a buffer anew, keep the middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.speech.deployments import deploy, speechlike
from tests.stages.speech.test_fastconformer import transcripts, turn
from thalweg.deploy.testing import run_stage
from thalweg.models.speech.decoding.transducer import RnntDecoder
from thalweg.models.speech.fastconformer.buffered import BufferedEncoder, BufferedStream
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.recogniser import Recogniser
from thalweg.stages.speech.buffered import Buffered


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deploy(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("head", ["rnnt", "ctc"])
def test_with_everything_in_its_buffer_it_is_the_cached_stream(model: Deployed, head: str) -> None:
    audio = speechlike(6.13)  # 77 frames: chunks of 14 begin within the 70 that are encoded again
    decoder = RnntDecoder(model) if head == "rnnt" else None
    buffered = BufferedStream(BufferedEncoder(model), decoder, chunk=14, left=70, right=0)
    for piece in np.array_split(audio, 11):
        buffered.feed(piece)
    cached = Recogniser(model).open(13, head=head)
    cached.feed(audio)
    assert buffered.finish() == cached.finish()


def test_its_buffer_does_not_grow(model: Deployed) -> None:
    stream = BufferedStream(BufferedEncoder(model), None, chunk=14, left=14, right=0)
    stream.feed(speechlike(60))
    assert len(stream._held) <= (14 + 14) * 8
    assert stream.frames >= 700


def test_the_stage_gives_partials_and_one_final(model: Deployed, tmp_path: Path) -> None:
    found = transcripts(run_stage(Buffered(str(model.folder)), turn(speechlike(2), step=4096)))
    assert [t.final for t in found].count(True) == 1 and found[-1].final
