"""Bandwidth over time: generated, not recorded, in the likeness of what is reported for such links. 16 s each."""

from __future__ import annotations

import math

import numpy as np

Trace = tuple[tuple[float, float], ...]
SECONDS = 16.0


def traces() -> dict[str, Trace]:
    """Name → (seconds, bit/s) one after another."""
    return {
        "steady 1 Mbit/s": ((SECONDS, 1e6),),
        "steady 250 kbit/s": ((SECONDS, 250e3),),
        "step down": ((8.0, 1.5e6), (8.0, 150e3)),
        "step up": ((8.0, 120e3), (8.0, 1.5e6)),
        "saw": tuple((1.0, 100e3 + 60e3 * (i % 10)) for i in range(16)),
        "LTE-like 1": _fading(1, 700e3, 0.45, 0.9),
        "LTE-like 2": _fading(2, 400e3, 0.6, 0.9),
        "LTE-like, train": _fading(3, 500e3, 0.9, 0.8),
        "5G-like": _blocked(4, 8e6, 200e3, 0.06),
        "5G-like, street": _blocked(5, 5e6, 120e3, 0.15),
        "outage 2 s": ((9.0, 800e3), (2.0, 0.0), (5.0, 800e3)),
        "outages, short": tuple(part for _ in range(4) for part in ((3.4, 500e3), (0.6, 0.0))),
    }


def _fading(seed: int, mean_bps: float, spread: float, memory: float) -> Trace:
    """Steps of half a second whose logarithm wanders: a slow radio channel with a scheduler."""
    random = np.random.default_rng(seed)
    level, found = 0.0, []
    for _ in range(int(SECONDS * 2)):
        level = memory * level + math.sqrt(1 - memory**2) * float(random.normal()) * spread
        found.append((0.5, max(40e3, mean_bps * math.exp(level - spread**2 / 2))))
    return tuple(found)


def _blocked(seed: int, open_bps: float, blocked_bps: float, chance: float) -> Trace:
    """Wide, and for one to three seconds nearly shut whenever something stands in the beam."""
    random = np.random.default_rng(seed)
    found: list[tuple[float, float]] = []
    while sum(s for s, _ in found) < SECONDS:
        if random.random() < chance:
            found.append((float(random.uniform(1, 3)), blocked_bps))
        found.append((1.0, open_bps * float(random.uniform(0.6, 1.0))))
    return tuple(found)
