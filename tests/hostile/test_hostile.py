"""Each input of this folder does no harm; there are 200 of them at least."""

from __future__ import annotations

import asyncio
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.hostile.files import FILES
from tests.hostile.messages import BINARY, CONTROLS, RECORDINGS
from tests.hostile.offers import GOOD, REFUSED, TAKEN_IN_PART
from tests.hostile.requests import ANSWERED, REQUESTS
from tests.hostile.texts import TEXTS
from thalweg.deploy.reading import FileError, read_spec
from thalweg.pipeline.decoding import LONGEST_TEXT
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.text import printable

DECODED = [
    *((target, what, data) for target, inputs in BINARY.items() for what, data in inputs.items()),
    *(("recordings", what, data) for what, data in RECORDINGS.items()),
    *(("events", what, data) for what, data in CONTROLS.items()),
]
COUNT = len(DECODED) + len(REQUESTS) + len(REFUSED) + len(TAKEN_IN_PART) + len(FILES) + len(TEXTS)
LONGEST_PROBLEM = SpecError.SHOWN * (SpecError.LONGEST + 300)


def harmless(text: str) -> bool:
    """Whether a terminal shows a text, obeys nothing of it, and shows it in the order that it has."""
    return not any(
        unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(sign) in _TURNS
        for sign in text
    )


_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_there_are_two_hundred_hostile_inputs_at_least(record_property: Callable[[str, object], None]) -> None:
    record_property("hostile_inputs", COUNT)
    assert COUNT >= 200


@pytest.mark.parametrize(("target", "data"), [(t, d) for t, _, d in DECODED], ids=[f"{t}, {w}" for t, w, _ in DECODED])
def test_what_is_decoded_is_refused_with_the_one_error_or_harmless(target: str, data: bytes) -> None:
    said = ""
    try:
        TARGETS[target].read(data)
    except TARGETS[target].refusals as refused:
        said = str(refused)
    assert len(said) <= LONGEST_TEXT and harmless(said)


@pytest.mark.real
@pytest.mark.parametrize("sdp", REFUSED.values(), ids=REFUSED)
def test_an_offer_that_cannot_be_answered_is_refused_with_a_reason(sdp: str) -> None:
    from thalweg.transports.webrtc import OfferError, read_offer

    with pytest.raises(OfferError) as refused:
        read_offer(sdp)
    assert harmless(str(refused.value)) and len(str(refused.value)) <= LONGEST_TEXT


@pytest.mark.real
@pytest.mark.parametrize("sdp", [GOOD, *TAKEN_IN_PART.values()], ids=["a good one", *TAKEN_IN_PART])
def test_of_an_offer_that_is_odd_only_what_can_be_used_is_taken(sdp: str) -> None:
    from thalweg.transports.webrtc import read_offer

    offer = read_offer(sdp)
    assert "evil.example" not in offer.sdp and all(harmless(note) for note in offer.notes)


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_hostile_pipeline_file_is_refused_runs_nothing_and_tells_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    (tmp_path / "beside.py").write_text("import pathlib\npathlib.Path('ran').touch()\n", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("canary-in-the-coal-mine\n", encoding="utf-8")
    with pytest.raises((SpecError, FileError)) as refused:
        read_spec(path, {}, trust=False)
    said = str(refused.value)
    assert len(said) <= LONGEST_PROBLEM and all(harmless(line) for line in said.splitlines())
    assert not (tmp_path / "ran").exists() and "canary" not in said and "root:" not in said


def test_a_module_beside_a_pipeline_file_runs_where_it_is_trusted_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    path = tmp_path / "pipeline.yaml"
    path.write_text("stages: {a: {use: beside:Stage}}\n", encoding="utf-8")
    (tmp_path / "beside.py").write_text("import pathlib\npathlib.Path('ran').touch()\n", encoding="utf-8")
    assert "a" in read_spec(path, {}, trust=False).unchecked
    assert not (tmp_path / "ran").exists()
    with pytest.raises(SpecError):
        read_spec(path, {}, trust=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_of_strangers_commands_no_terminal(text: str) -> None:
    shown = printable(text)
    assert harmless(shown) and len(shown) <= LONGEST_TEXT * 10
    assert printable(shown) == shown


async def answered(data: bytes, port: int) -> bytes:
    """All that comes back. Who closes first is often not told what was wrong: so we wait, unless it wants more."""
    async with asyncio.timeout(30.0):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        held = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65_536), 0.2 if held else 1.0):
                held += piece
        except TimeoutError:
            writer.write_eof()
            held += await reader.read()
        writer.close()
        return held


@pytest.mark.real
@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_refused_or_harmless_and_the_server_goes_on(name: str, port: int) -> None:
    said = asyncio.run(answered(REQUESTS[name], port))
    statuses = [int(status) for status in _STATUS.findall(said)]
    assert statuses == ([ANSWERED[name]] if ANSWERED[name] else [])
    if statuses:
        assert b"x-content-type-options: nosniff" in said.lower() and b"server: thalweg" in said.lower()
    assert b"Traceback" not in said and b"root:" not in said and b"evil" not in said


_STATUS = re.compile(rb"^HTTP/\d\.\d (\d{3}) ", re.M)
