"""Everything that reads bytes from elsewhere is a `decoder`, and every decoder keeps its promise on garbage."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.pipeline.decoding import DECODERS, LONGEST_TEXT
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable

ROOT = Path(__file__).parent.parent.parent
HOLDERS = (
    *sorted((ROOT / "transports").rglob("*.py")),
    ROOT / "pipeline/dialogue/events.py",
    ROOT / "deploy/fleet/node/asking.py",
)
READERS = {"unpack", "unpackb", "unpack_tree", "Unpacker", "loads", "FromString", "ParseFromString"}
RAW = {
    "transports/packing.py",  # what decoders are made of
    "transports/webrtc/client.py",  # what a server says to a client of ours, read as HTTP answers are
}
NAMED = ("decode", "unpack", "parse", "from_bytes", "read_")
GIVEN: dict[str, Callable[[bytes], tuple[Any, ...]]] = {
    "_about": lambda data: (Path("r.twr"), b"H", data),
    "opened": lambda data: (data, bytes(32)),
    "read_offer": lambda data: (data.decode(errors="surrogateescape"),),
}
"""Arguments of decoders that take more than the bytes."""


def modules() -> list[Any]:
    found = []
    for path in HOLDERS:
        name = ".".join(["thalweg", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        with contextlib.suppress(ImportError):  # WebRTC and gRPC are extras; where they are there they are walked
            found.append(importlib.import_module(name))
    return found


MODULES = modules()


def test_every_public_function_that_decodes_is_a_decoder() -> None:
    found = [
        f"{module.__name__}.{name}"
        for module in MODULES
        if module.__name__ != "thalweg.transports.packing"
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and name.startswith(NAMED)
        and value not in DECODERS
        and not _gives_up_nothing(value)
    ]
    assert found == []


def _gives_up_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function reads a part of what a decoder was given: it takes buffers that are read already."""
    return "buffers" in inspect.signature(function).parameters


def test_nothing_reads_foreign_bytes_outside_of_a_decoder() -> None:
    found = []
    for path in HOLDERS:
        place = str(path.relative_to(ROOT))
        if place in RAW:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        guarded = any(_is_decoder(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            private = function.name.startswith("_") and guarded  # a part of the decoder beside it
            if not (_is_decoder(function) or private) and _reads(function):
                found.append(f"{place}:{function.lineno} {function.name}")
    assert found == []


def _is_decoder(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "decoder"
        for one in function.decorator_list
    )


def _reads(function: ast.FunctionDef) -> bool:
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(getattr(call, "attr", getattr(call, "id", "")) in READERS for call in calls)


GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(
        [b"\x91" * 2000, b"\x81\xa0" * 900, b"[" * 3000, b"\xdd\xff\xff\xff\xff" * 50, b"h" + b"\x91" * 999]
    ),
)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: f"{decode.__module__}.{decode.__name__}")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=GARBAGE)
def test_a_decoder_raises_its_own_error_on_garbage_with_a_short_text_that_prints(
    decode: Callable[..., Any], data: bytes
) -> None:
    arguments = GIVEN.get(decode.__name__, lambda data: (data,))(data)
    inspect.signature(decode).bind(*arguments)  # where this fails: say in GIVEN what it is to be given
    said = refusal(decode, arguments)
    assert len(said) <= 2 * LONGEST_TEXT
    assert printable(said, None) == said


def refusal(decode: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    try:
        decode(*arguments)
    except ThalwegError as error:
        return str(error)
    return ""
