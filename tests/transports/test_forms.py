"""Which types of fields are carried, as what they arrive, and which are refused before anything starts."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NewType

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Decision, Numbered, Payload, Speech, SpeechEvent, SpokenText, Token
from thalweg.pipeline.text import printable
from thalweg.transports.codec import VERSION, CodecError, check_carried, decode, encode, type_name

if TYPE_CHECKING:
    from decimal import Decimal


def there_and_back(payload: Payload) -> Any:
    return decode(b"".join(encode(Packet(stream="a.b", seq=1, time=2, payload=payload)))).payload


class Colour(enum.Enum):
    """A plain choice."""

    RED = "red"


class Point(NamedTuple):
    """A tuple with names."""

    x: float
    label: str = ""


Metres = NewType("Metres", float)
ORIGIN, ZERO = Point(0.0), np.float32(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Payload):
    """A payload that holds others of its kind."""

    name: str
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rich(Payload):
    """A field of every kind that is carried."""

    names: list[str]
    pairs: list[tuple[int, float]] = field(default_factory=list)
    nested: dict[str, list[int]] = field(default_factory=dict)
    numbered: dict[int, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    some: set[int] = field(default_factory=set)
    few: Sequence[float] = ()
    kind: Literal["a", 2, None] = "a"
    colour: Colour = Colour.RED
    point: Point = ORIGIN
    length: Metres = Metres(0.0)
    number: np.float32 = ZERO
    either: int | str | None = None
    maybe: list[AudioChunk] | None = None
    tree: Node | None = None


def test_a_field_of_every_kind_arrives_as_it_was_sent() -> None:
    sent = Rich(
        names=["a", "b"],
        pairs=[(1, 0.5)],
        nested={"x": [1, 2]},
        numbered={-3: "three"},
        settings={"rate": 1.5, "list": ("a", 1)},
        tags=frozenset({"t"}),
        some={1, 2},
        few=(1.0, 2.0),
        kind=2,
        point=Point(1.5, "p"),
        length=Metres(2.5),
        number=np.float32(0.25),
        either="word",
        tree=Node(name="root", children=(Node(name="leaf"),)),
    )
    there = there_and_back(sent)
    assert there == sent
    assert type(there.point) is Point and type(there.number) is np.float32 and type(there.names) is list


def test_numbers_of_numpy_in_plain_fields_arrive_as_plain_numbers() -> None:
    there = there_and_back(Token(text=np.str_("x"), last=np.bool_(True)))  # type: ignore[arg-type]
    assert (there.text, there.last) == ("x", True)
    decided = Decision(  # type: ignore[arg-type]
        name="w", label=np.int64(0), confidence=np.float32(0.5), scores=np.ones(1, np.float32), used={}, reason="x"
    )
    assert there_and_back(decided).label == 0


def test_half_an_emoji_arrives_as_it_was_sent() -> None:
    assert there_and_back(Token(text="so \ud83d")).text == "so \ud83d"


def test_a_field_keeps_the_subclass_that_stands_in_it() -> None:
    spoken = SpokenText(samples=np.ones(4, np.float32), rate=16_000, text="hello")
    there = there_and_back(Speech(audio=spoken, event=SpeechEvent.CONTINUE)).audio
    assert type(there) is SpokenText and there.text == "hello"


def test_a_field_whose_value_is_no_such_thing_is_refused_when_it_is_written() -> None:
    with pytest.raises(CodecError, match=r"found Token\(.*\) where a AudioChunk should be"):
        there_and_back(Speech(audio=Token(text="x"), event=SpeechEvent.CONTINUE))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Many(Payload):
    """As many arrays as somebody likes."""

    parts: tuple[np.ndarray, ...]


def test_a_payload_of_a_thousand_arrays_arrives() -> None:
    sent = Many(parts=tuple(np.full(2, i % 256, np.uint8) for i in range(1000)))
    assert [int(part[0]) for part in there_and_back(sent).parts] == [i % 256 for i in range(1000)]


def test_a_payload_of_more_arrays_than_are_read_is_refused_when_it_is_written() -> None:
    with pytest.raises(CodecError, match="has 5000 arrays, at most 4096 are carried"):
        there_and_back(Many(parts=(np.zeros(1, np.uint8),) * 5000))


@pytest.mark.parametrize("dtype", [">f4", ">i8", np.longlong, np.intc, np.ulonglong])
def test_an_array_of_another_byte_order_or_name_arrives_with_its_values(dtype: Any) -> None:
    there = there_and_back(Many(parts=(np.arange(5).astype(dtype),))).parts[0]
    assert there.tolist() == [0, 1, 2, 3, 4] and there.dtype.isnative


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed(Payload):
    """A field that the constructor makes itself."""

    text: str
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.text))


def test_a_field_that_is_made_from_the_others_is_made_again() -> None:
    assert there_and_back(Computed(text="four")).length == 4


def payload(name: str, annotations: dict[str, Any], **more: Any) -> type[Payload]:
    """A payload class of a module, with these fields."""
    found = types.new_class(
        name, (Payload,), exec_body=lambda space: space.update({"__annotations__": annotations} | more)
    )
    found.__module__, found.__qualname__ = __name__, name
    return dataclass(frozen=True, kw_only=True)(found)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (list[complex], r"list\[complex\]"),
        (object, "object"),
        (Any, "Any"),
        (list, "list"),
        (bytearray, "bytearray"),
        (int | list[int], r"int \| list\[int\]"),
        (NDArray[np.complex128], "complex128"),
        (NDArray[np.str_], "str_"),
        (np.complex64, "complex64"),
        (dict[str, types.SimpleNamespace], "SimpleNamespace"),
        (type[int], r"type\[int\]"),
    ],
)
def test_a_field_of_a_type_without_a_form_is_refused_by_name(hint: Any, said: str) -> None:
    with pytest.raises(CodecError, match=rf"Odd\.field is of type .*{said}.*, which has no form on the wire"):
        check_carried(payload("Odd", {"field": hint}))


@pytest.mark.parametrize(
    "hint", [NDArray[np.float32], NDArray[np.floating[Any]], NDArray[Any], np.ndarray, list[list[str]], dict[str, Any]]
)
def test_a_field_of_a_type_with_a_form_is_not(hint: Any) -> None:
    check_carried(payload("Good", {"field": hint}))


def test_a_payload_that_no_other_process_would_find_is_refused() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Local(Payload):
        """Defined in a function."""

    with pytest.raises(CodecError, match="Local is defined in a function, where no other process finds it"):
        check_carried(Local)
    Local.__qualname__, Local.__module__ = "Local", "__main__"
    with pytest.raises(CodecError, match="defined in the program that was started"):
        check_carried(Local)


@dataclass(frozen=True, kw_only=True)
class Wanting(Payload):
    """Cannot be built from its fields alone."""

    text: str
    secret: InitVar[str]


class Undecorated(Payload):
    """Its author forgot the decorator."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved(Payload):
    """Names a type that only a type checker imports."""

    amount: Decimal


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Wanting, "cannot be built from its fields: it also wants secret"),
        (Undecorated, "is no dataclass"),
        (Unresolved, "cannot be found out: NameError: name 'Decimal' is not defined"),
    ],
)
def test_a_payload_that_could_not_be_built_again_is_refused(cls: type[Payload], said: str) -> None:
    with pytest.raises(CodecError, match=said):
        check_carried(cls)


def record(name: Any, fields: Any, **head: Any) -> bytes:
    found = {"stream": "s", "seq": 1, "time": 2, "epoch": 0, "deadline": None, "trace": None, "replay": None} | head
    packed = msgpack.packb([*found.values(), name, fields])
    return bytes([0x74, VERSION, 0, 0, 0, 0, 0, 0]) + len(packed).to_bytes(8, "little") + packed


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        (5, [], "found 5 where the name of a payload type should be"),
        ([["x"]], [], r"found \(\('x',\),\) where the name of a payload type should be"),
        ({}, [], "unhashable"),
        ("Token", ["x", 1], "found 1 where a value of type bool"),
        ("Token", [b"x", True], "found b'x' where a value of type str"),
        ("Token", "xy", "a Token has 2 fields, the record holds 'xy'"),
        ("Token", {"a": 1, "b": 2}, "the record holds {"),
        ("Numbered", [True, 0, None, "", 0], "found True where a value of type int"),
        ("Numbered", [1.0, 0, None, "", 0], "found 1.0 where a value of type int"),
        ("Regions", ["boxes", 1.0, 1], "found 'boxes' where a list of values"),
        ("Regions", [[[1, 1, 1, 1]], 1.0, 1], "where 5 values should be"),
        ("Regions", [[[1, 1, 1, 1, True]], 1.0, 1], "found True where a value of type float"),
        ("AudioChunk", [["<f4", [1], 0], 1], "the index of one of 0 buffers"),
        ("thalweg:load", [], "is not known here"),
        ("\x1b[2J", [], r"'\\x1b\[2J' is not known here"),
    ],
)
def test_what_is_no_payload_is_refused_with_what_was_found(name: Any, fields: Any, said: str) -> None:
    with pytest.raises(CodecError, match=said) as caught:
        decode(record(name, fields))
    assert printable(str(caught.value), None) == str(caught.value)


def test_payloads_within_payloads_without_end_are_refused() -> None:
    fields: Any = [1, 0, None, "", 0]
    for _ in range(150):
        fields = [1, 0, ["Numbered", fields], "", 0]
    assert isinstance(decode(record("Numbered", [1, 0, None, "", 0])).payload, Numbered)
    with pytest.raises(CodecError):
        decode(record("Numbered", [1, 0, ["Numbered", fields] * 3, "", 0]))
    with pytest.raises(CodecError):
        decode(record("Numbered", "\x95\x01\x00\x92\xa8Numbered" * 60))


def test_an_unknown_name_imports_nothing_and_asks_no_module_for_what_it_makes_when_asked() -> None:
    module = types.ModuleType("lazily")
    asked: list[str] = []
    module.__getattr__ = asked.append  # type: ignore[method-assign]
    sys.modules["lazily"] = module
    try:
        with pytest.raises(CodecError, match="is not known here"):
            decode(record("lazily:Thing", []))
    finally:
        del sys.modules["lazily"]
    assert asked == []


def test_the_names_of_own_payloads_are_short_and_those_of_others_say_where_they_are() -> None:
    assert (type_name(Token), type_name(Rich)) == ("Token", f"{__name__}:Rich")
