"""Backends by name: ours, those that other packages bring (entry points `thalweg.backends`), and `module:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from thalweg.models.http.address import Address
from thalweg.models.http.errors import HttpError
from thalweg.models.language.backend import Abilities, Backend, BackendError, ErrorKind

GROUP = "thalweg.backends"
OURS = {
    "echo": "thalweg.models.language.echo:EchoBackend",
    "llamacpp": "thalweg.models.language.llamacpp:LlamaCppBackend",
    "openai": "thalweg.models.language.openai_backend:OpenAIBackend",
}
_METHODS = ("open", "close", "reply", "prefill")


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def names() -> list[str]:
    """Every backend that has a name here."""
    return sorted({*OURS, *(point.name for point in entry_points(group=GROUP))})


def known(name: str) -> str:
    """`name`, where there is such a backend; nothing of it is imported. Raises ValueError with the nearest name."""
    if name in names() or ":" in name:
        return name
    near = get_close_matches(name, names(), 1)
    raise ValueError(
        f"there is no backend {name!r}{f', did you mean {near[0]!r}?' if near else ''} "
        f"There are {', '.join(names())}, and `module:Class`"
    )


def address(text: str) -> str:
    """`text`, where it is an address or nothing. Raises ValueError."""
    if text:
        try:
            Address.parse(text)
        except HttpError as error:
            raise ValueError(str(error)) from None
    return text


def backend_class(name: str) -> Any:  # Any: a stranger's class, which `make` looks at
    """The class of that name. Raises BackendError."""
    try:
        known(name)
        target = OURS.get(name) or next((p.value for p in entry_points(group=GROUP) if p.name == name), name)
        found = EntryPoint(name, target, GROUP).load()
    except ValueError as error:
        raise BackendError(ErrorKind.SETTINGS, str(error)) from None
    except (ImportError, AttributeError) as error:
        raise BackendError(ErrorKind.SETTINGS, f"the backend {name!r} cannot be loaded: {error}") from None
    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    is_class = isinstance(found, type)
    if missing or not is_class:
        what = f"it has no method {', '.join(missing)}" if is_class else "it is no class"
        raise BackendError(ErrorKind.SETTINGS, f"{name!r} is no backend: {what}; see docs/writing-a-backend.md")
    if not inspect.isasyncgenfunction(found.reply):
        raise BackendError(ErrorKind.SETTINGS, f"the backend {name!r}: `reply` must be an async generator")
    for method in ("open", "close", "prefill"):
        if not inspect.iscoroutinefunction(getattr(found, method)):
            raise BackendError(ErrorKind.SETTINGS, f"the backend {name!r}: `{method}` must be `async def`")
    return found


def make(name: str, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Backend:
    """A backend with `settings`, checked against its parameters. `defaults` are for those that it has.

    Raises BackendError that names the parameter.
    """
    cls = backend_class(name)
    taken = parameters(cls)
    wanted = {key: value for key, value in (defaults or {}).items() if key in taken.model_fields} | dict(settings)
    try:
        checked = taken.model_validate(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        near = get_close_matches(where, taken.model_fields, 1)
        hint = f", did you mean {near[0]!r}?" if near and first["type"] == "extra_forbidden" else ""
        said = "there is no such parameter" if first["type"] == "extra_forbidden" else first["msg"]
        raise BackendError(ErrorKind.SETTINGS, f"the backend {name!r}, parameter {where!r}: {said}{hint}") from None
    backend = cls(**{key: getattr(checked, key) for key in checked.model_fields_set})
    if not isinstance(getattr(backend, "abilities", None), Abilities):
        raise BackendError(ErrorKind.SETTINGS, f"the backend {name!r} does not say its `abilities`")
    made: Backend = backend
    return made


def parameters(cls: type[Any]) -> type[BaseModel]:  # Any: as above
    """The keyword parameters of a backend's `__init__` as a pydantic model."""
    fields: dict[str, Any] = {}
    if cls.__init__ is not object.__init__:
        hints = get_type_hints(cls.__init__, include_extras=True)
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise BackendError(
                    ErrorKind.SETTINGS, f"{cls.__qualname__}.__init__ takes *{parameter.name}; name every parameter"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(cls.__name__, __base__=_Settings, **fields)
