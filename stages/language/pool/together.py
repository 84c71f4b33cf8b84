"""What the conversations of one process know together of the backends that one pipeline file names.

How soon each answers, whether it is left alone, when it was last asked, and what was spent: a second visitor does not
find out anew that a server is down, and an hour's budget is that of all. What belongs to a conversation stays there:
privacy, the allowance for hedges, and a refusal of settings (400, 401, 404), which may be for what was said in it and
costs the next one no time to hear itself.

Kept for each event loop, whose clock the times are of, for as long as it lives: of the newest `FILES` pools.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

from thalweg.pipeline.handoff.breaker import Breaker
from thalweg.pipeline.handoff.budget import Budget
from thalweg.pipeline.handoff.latency import LatencyModel

FILES = 32


@dataclass(slots=True)
class Known:
    """Of one backend. `asked_s`: when it was last asked, in any conversation."""

    latency: LatencyModel = field(default_factory=LatencyModel)
    breaker: Breaker = field(default_factory=Breaker)
    asked_s: float = float("-inf")


@dataclass(slots=True)
class Together:
    """Of one pool: by name of a backend, and the budget."""

    of: Mapping[str, Known]
    budget: Budget


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, OrderedDict[str, Together]] = WeakKeyDictionary()


def together(described: Mapping[str, object], alone: Together) -> Together:
    """What is known by now of the pool that `described` describes, in plain values; of a new one, `alone`."""
    pools = _loops.setdefault(asyncio.get_running_loop(), OrderedDict())
    key = json.dumps(described, sort_keys=True, default=repr)
    found = pools.setdefault(key, alone)
    pools.move_to_end(key)
    while len(pools) > FILES:
        pools.popitem(last=False)
    return found


class _Member(Protocol):
    known: Known


def join(described: Mapping[str, object], members: Mapping[str, _Member], budget: Budget) -> Budget:
    """Let the members of a pool know what is known by now, and that what they find out. Returns the common budget."""
    shared = together(described, Together({name: member.known for name, member in members.items()}, budget))
    for name, member in members.items():
        member.known = shared.of[name]
    return shared.budget
