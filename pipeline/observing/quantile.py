"""Quantiles of values that are all kept."""

from __future__ import annotations

from collections.abc import Iterable


def quantile(values: Iterable[float], share: float) -> float:
    """The `share` quantile, 0…1, of one value at least: nearest rank, no interpolation."""
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]
