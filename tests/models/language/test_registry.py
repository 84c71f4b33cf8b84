"""Backends by name, and what is wrong with those that cannot be had."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import pytest
from pydantic import Field

from thalweg.models.language.backend import Abilities, Backend, BackendError, Delta, Finish, Request, Text
from thalweg.models.language.echo import EchoBackend
from thalweg.models.language.registry import backend_class, known, make, names

HERE = "tests.models.language.test_registry"


class Parrot:
    abilities = Abilities()
    name = "the parrot"

    def __init__(self, model: str, volume: Annotated[int, Field(ge=0, le=11)] = 3) -> None:
        self.model, self.volume = model, volume

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def prefill(self, request: Request) -> None: ...

    async def reply(self, request: Request) -> AsyncGenerator[Delta, None]:
        yield Text("polly")
        yield Finish()


class Silent:
    async def open(self) -> None: ...


class Hurried(Parrot):
    async def reply(self, request: Request) -> Any:  # type: ignore[override]  # what is wrong with it
        return "polly"


class Plain(Parrot):
    def open(self) -> None:  # type: ignore[override]  # what is wrong with it
        ...


class Unable(Parrot):
    abilities = None  # type: ignore[assignment]  # what is wrong with it


class Greedy(Parrot):
    def __init__(self, **settings: Any) -> None: ...


def test_ours_have_names() -> None:
    assert {"echo", "llamacpp", "openai"} <= set(names())
    assert all(isinstance(backend_class(name), type) for name in ("echo", "llamacpp", "openai"))


def test_one_of_ones_own_is_made_with_its_parameters_checked() -> None:
    backend = make(f"{HERE}:Parrot", {"volume": "5"}, {"model": "m", "url": "not a parameter of it"})
    assert isinstance(backend, Backend)
    assert (backend.model, backend.volume) == ("m", 5)  # type: ignore[attr-defined]


def test_every_one_of_ours_keeps_the_protocol() -> None:
    assert isinstance(EchoBackend(), Backend)
    assert isinstance(make("openai", {"model": "m"}), Backend)
    assert isinstance(make("llamacpp", {"model": "m"}), Backend)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("lamacpp", {}, "did you mean 'llamacpp'?"),
        ("nonsense", {}, "There are echo, llamacpp, openai"),
        ("no.such.module:X", {}, "cannot be loaded"),
        (f"{HERE}:Nothing", {}, "cannot be loaded"),
        (f"{HERE}:HERE", {}, "is no backend"),
        (f"{HERE}:Silent", {}, "no method close, reply, prefill"),
        (f"{HERE}:Hurried", {}, "`reply` must be an async generator"),
        (f"{HERE}:Plain", {}, "`open` must be `async def`"),
        (f"{HERE}:Unable", {"model": "m"}, "does not say its `abilities`"),
        (f"{HERE}:Greedy", {}, "name every parameter"),
        (f"{HERE}:Parrot", {}, "parameter 'model': Field required"),
        (
            f"{HERE}:Parrot",
            {"model": "m", "volume": 12},
            "parameter 'volume': Input should be less than or equal to 11",
        ),
        (f"{HERE}:Parrot", {"model": "m", "volum": 1}, "parameter 'volum': there is no such parameter, did you mean"),
        ("openai", {"model": "m", "url": "ftp://x"}, "expected something like https://host:port/v1"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError) as caught:
        make(name, settings)
    assert said in str(caught.value)


def test_a_name_is_checked_without_importing_anything() -> None:
    assert known("no.such.module:X") == "no.such.module:X"
    with pytest.raises(ValueError, match="did you mean 'openai'"):
        known("openay")
