"""What `thalweg new` begins with, stages by kind: the code and its test. `TITLE` and `NAME` are put in."""

from __future__ import annotations

from collections.abc import Mapping

_TRANSFORM = '''"""TITLE: say here what it does, one packet at a time."""

from typing import Annotated

from pydantic import Field

from thalweg import AudioChunk, Context, Packet


class TITLE:
    """Makes audio louder or softer."""

    inputs = {"audio": AudioChunk}
    outputs = {"audio": AudioChunk}

    def __init__(self, gain: Annotated[float, Field(gt=0, description="factor")] = 2.0) -> None:
        self.gain = gain

    def process(self, packet: Packet[AudioChunk], ctx: Context) -> None:
        """Scale one chunk."""
        audio = packet.payload
        ctx.emit(AudioChunk(samples=audio.samples * self.gain, rate=audio.rate))
'''
_TRANSFORM_TEST = """import numpy as np
from NAME import TITLE

from thalweg import AudioChunk
from thalweg.testing import packet, run_stage


def test_it_doubles_the_samples() -> None:
    quiet = AudioChunk(samples=np.full(4, 0.25, np.float32), rate=16_000)
    (louder,) = run_stage(TITLE(gain=2.0), [packet(quiet)]).payloads()
    assert louder.samples.tolist() == [0.5] * 4
"""

_TEXT = '''"""TITLE: changes words on their way, such as those between a language model and a voice."""

from typing import Annotated

from pydantic import Field

from thalweg import Context, Packet, Sentence


class TITLE:
    """Puts a mark in the place of words that are not to be spoken."""

    inputs = {"sentence": Sentence}
    outputs = {"sentence": Sentence}
    replicable = "stateless"  # what it makes of a sentence depends on no other

    def __init__(self, words: Annotated[list[str], Field(description="not to be spoken")], mark: str = "…") -> None:
        self.words = [word.casefold() for word in words]
        self.mark = mark

    def process(self, packet: Packet[Sentence], ctx: Context) -> None:
        """Look at every word of a sentence."""
        sentence = packet.payload
        kept = [self.mark if word.strip(",.!?").casefold() in self.words else word for word in sentence.text.split(" ")]
        ctx.emit(Sentence(text=" ".join(kept), first=sentence.first, last=sentence.last))
'''
_TEXT_TEST = """from NAME import TITLE

from thalweg import Sentence
from thalweg.testing import packet, run_stage


def test_a_word_of_the_list_is_not_spoken_whatever_its_case() -> None:
    (changed,) = run_stage(TITLE(words=["darn"]), [packet(Sentence(text="Well, Darn!", last=True))]).payloads()
    assert changed.text == "Well, …"
    assert changed.last
"""

_SOURCE = '''"""TITLE: where packets begin."""

from typing import Annotated

from pydantic import Field

from thalweg import Context, Token


class TITLE:
    """Counts, at a steady pace."""

    outputs = {"token": Token}

    def __init__(
        self,
        n: Annotated[int, Field(ge=0, description="how far; 0: until it is stopped")] = 0,
        every_ms: Annotated[int, Field(gt=0)] = 100,
    ) -> None:
        self.n = n
        self.every_ns = every_ms * 1_000_000

    async def run(self, ctx: Context) -> None:
        """Emit until there is nothing more; returning is the end of the stream."""
        i, start_ns = 0, ctx.now_ns()
        while not self.n or i < self.n:
            await ctx.sleep_until(start_ns + i * self.every_ns)
            await ctx.send(Token(text=f"{i} "), time=ctx.now_ns())  # waits where there is no room
            i += 1
'''
_SOURCE_TEST = """from NAME import TITLE

from thalweg.testing import run_stage


def test_it_counts_at_its_pace() -> None:
    emitted = run_stage(TITLE(n=3, every_ms=100), []).emitted
    assert [e.payload.text for e in emitted] == ["0 ", "1 ", "2 "]
    assert emitted[2].at_ns - emitted[0].at_ns == 200_000_000
"""

_SINK = '''"""TITLE: where packets end."""

from thalweg import Context, Packet, Transcript


class TITLE:
    """Counts the words of what was said."""

    inputs = {"transcript": Transcript}

    def __init__(self) -> None:
        self.counts = {"words": 0}  # shown in reports and metrics

    def process(self, packet: Packet[Transcript], ctx: Context) -> None:
        """Count what is final: a partial transcript may still change."""
        if packet.payload.final:
            self.counts["words"] += len(packet.payload.text.split())
'''
_SINK_TEST = """from NAME import TITLE

from thalweg import Transcript
from thalweg.testing import packet, run_stage


def test_only_final_words_count() -> None:
    sink = TITLE()
    guess = Transcript(text="hello", final=False)
    final = Transcript(text="hello there", final=True, stable_chars=11)
    run_stage(sink, [packet(guess), packet(final, seq=1)])
    assert sink.counts == {"words": 2}
"""

_JOIN = '''"""TITLE: several streams, matched by their capture times."""

from thalweg import AudioChunk, Context, Token, VideoFrame
from thalweg.pipeline.joins.join import Nearest, PacketSet


class TITLE:
    """Says how loud it was when a picture was taken."""

    inputs = {"video": VideoFrame, "audio": AudioChunk}
    outputs = {"token": Token}
    join = Nearest(reference="video", tolerance_ns=50_000_000)

    def process_joined(self, joined: PacketSet, ctx: Context) -> None:
        """One picture and the sound nearest to it; a picture without any is left out, and counted."""
        audio = joined.one("audio").payload
        assert isinstance(audio, AudioChunk)
        ctx.emit(Token(text=f"{abs(audio.samples).max():.2f}"))
'''
_JOIN_TEST = """import numpy as np
from NAME import TITLE

from thalweg import AudioChunk, VideoFrame
from thalweg.testing import packet, run_stage


def test_a_picture_is_given_the_loudness_of_its_moment() -> None:
    frame = VideoFrame(pixels=np.zeros((2, 2, 3), np.uint8))
    sound = AudioChunk(samples=np.full(160, 0.5, np.float32), rate=16_000)
    outcome = run_stage(TITLE(), {"video": [packet(frame, time=0)], "audio": [packet(sound, time=10_000_000)]})
    assert [token.text for token in outcome.payloads()] == ["0.50"]
"""

STAGES: Mapping[str, tuple[str, str]] = {
    "transform": (_TRANSFORM, _TRANSFORM_TEST),
    "source": (_SOURCE, _SOURCE_TEST),
    "text": (_TEXT, _TEXT_TEST),
    "sink": (_SINK, _SINK_TEST),
    "join": (_JOIN, _JOIN_TEST),
}
"""Kind → code and test."""

BACKEND = (
    '''"""TITLE: a language model of one's own, for `language.chat`."""

from collections.abc import AsyncGenerator
from typing import Annotated

from pydantic import Field

from thalweg.models.language.backend import Abilities, Delta, Finish, Request, Text


class TITLE:
    """Answers with the last words of the question."""

    name = "NAME"
    abilities = Abilities(continues="prefix")

    def __init__(self, words: Annotated[int, Field(ge=1, description="of the question")] = 3) -> None:
        self.words = words

    async def open(self) -> None:
        """Load or connect. Raise BackendError where that cannot be."""

    async def close(self) -> None:
        """Free what `open` took."""

    async def prefill(self, request: Request) -> None:
        """Read what is known of the next question; nothing needs to be done."""

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer piece by piece; `request.prefix` is the beginning of the answer that is there already."""
        answer = " ".join(request.messages[-1].text.split()[-self.words :])
        for word in answer.removeprefix(request.prefix).split():
            yield Text(word + " ")
        yield Finish()
''',
    """from NAME import TITLE

from thalweg import Transcript
from thalweg.stages.language.chat import Chat
from thalweg.testing import packet, run_stage


def test_it_answers_with_the_last_words_of_the_question() -> None:
    question = packet(Transcript(text="one two three", final=True), epoch=1)
    outcome = run_stage(Chat(backend=TITLE(words=2)), [question])
    assert "".join(token.text for token in outcome.payloads("token")) == "two three "
    assert outcome.problems == []
""",
)
"""Code and test of a language-model backend."""
