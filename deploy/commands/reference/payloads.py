"""What packets carry, as the reference in `docs/payloads.md`: each payload's fields, who gives and who takes it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, get_args, get_type_hints

from thalweg.pipeline.file.catalog import installed_stages
from thalweg.pipeline.payload import Payload

_HEAD = """# Payloads

Made from the code by `make reference`. What an edge carries is typed by the ports at its ends; a payload is frozen
and checked when it is built, so one that exists is valid. Arrays are shared, not copied: a producer that puts one
into a payload gives up its ownership. Times are ns of the pipeline's clock unless a name says otherwise. Of a packet,
which is what `process` is given, `time` is when it was sensed, `epoch` the turn it belongs to, `seq` its place in its
stream.

## One of your own

A frozen dataclass below `Payload`, in a module that both ends can import; what must hold is checked in `__post_init__`:

```python
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg import Payload
from thalweg.errors import PayloadError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Payload):
    \"\"\"One turn of a laser scanner. `ranges`: [angle] float32, m; `step`: radians between two.\"\"\"

    ranges: NDArray[np.float32]
    step: float

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise PayloadError(f"a scan has steps of {self.step} radians, expected more than 0")


assert Scan(ranges=np.ones(360, np.float32), step=0.0174).ranges.shape == (360,)
```

Between processes it travels field by field: numbers, texts, bytes, enums, NumPy arrays (with dtype and shape; over
shared memory without a copy), lists, tuples and mappings of those, other dataclasses. A field of any other type is
found when the pipeline is checked, not when the first packet is due: `thalweg validate` names it.
"""


def payloads_markdown() -> str:
    """`docs/payloads.md`: every payload that an installed stage gives or takes, and the classes they are made of."""
    gives: dict[type, list[str]] = {}
    takes: dict[type, list[str]] = {}
    for info in installed_stages()[0]:
        for ports, found in ((info.outputs, gives), (info.inputs, takes)):
            for name, port in ports.items():
                found.setdefault(port.type, []).append(f"`{info.use}.{name}`")
    carried = {*gives, *takes} - {Payload}
    named = sorted({*carried, *_parts(carried)}, key=lambda each: each.__name__)
    return "\n".join([_HEAD, *(_section(each, gives.get(each, []), takes.get(each, [])) for each in named)])


def _section(payload: type[Any], gives: list[str], takes: list[str]) -> str:
    where = f"`{payload.__module__}:{payload.__qualname__}`"
    lines = [f"## `{payload.__name__}`", "", where, "", inspect.getdoc(payload) or ""]
    if issubclass(payload, Enum):
        return "\n".join([*lines, "", "One of " + ", ".join(f"`{member.name}`" for member in payload) + ".", ""])
    fields = dataclasses.fields(payload)
    if fields:
        lines += ["", "| field | type | default |", "|---|---|---|"]
    lines += [f"| `{each.name}` | `{_type(each)}` | {_default(each)} |" for each in fields]
    ends = (("given by", gives), ("taken by", takes))
    lines += ["", *(f"- {what}: {', '.join(sorted(whom))}" for what, whom in ends if whom)]
    return "\n".join(lines).rstrip() + "\n"


def _parts(payloads: Iterable[type]) -> set[type]:
    """What fields of payloads are made of, and that in turn, where it is a class of ours."""
    found: set[type] = set()
    left = [hint for payload in payloads for hint in get_type_hints(payload).values()]
    while left:
        hint = left.pop()
        left += get_args(hint)
        ours = isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, Enum))
        if ours and not issubclass(hint, Payload) and hint not in found:
            found.add(hint)
            left += [] if issubclass(hint, Enum) else get_type_hints(hint).values()
    return found


def _type(field: dataclasses.Field[object]) -> str:
    name = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    return re.sub(r"\s*\|\s*", " or ", re.sub(r"\bnp\.", "", name))


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`"
    return "required"
