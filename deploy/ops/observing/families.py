"""Metric families for Prometheus, and the one place that encodes them, for `run`, `up`, `serve` and the hub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.observing.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

BOUNDS = tuple(range(14, 36))
"""Of histograms: 2^14 ns = 16 µs … 2^35 ns = 34 s. Powers of two, because workers count those exactly."""


class MetricsError(ThalwegError):
    """Metrics that cannot be served."""


def need_metrics() -> None:
    """Raises MetricsError where the package that encodes them is missing."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise MetricsError("metrics need a package that is missing: pip install 'thalweg[metrics]'") from None


def encoded(families: Iterable[Metric], accepted: str) -> tuple[bytes, str]:
    """Every family, also those without a sample yet, in the format that the header `accepted` asks for; its name."""
    from prometheus_client.exposition import choose_encoder

    encode, kind = choose_encoder(accepted)
    return encode(_Collected(families)), kind


class _Collected:
    """What prometheus_client asks for what it is to encode."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


def info(pipeline: str) -> Any:
    """The family that says what runs here."""
    from thalweg import __version__

    family = gauge("thalweg_info", "1, with the pipeline's name and the version that runs it", "pipeline", "version")
    family.add_metric([pipeline, __version__], 1)
    return family


def gauge(name: str, doc: str, *labels: str) -> Any:  # Any: prometheus_client may be missing
    """A family of values that rise and fall."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, doc, labels=labels)


def counter(name: str, doc: str, *labels: str) -> Any:
    """A family of values that only rise; samples are called `name_total`."""
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, doc, labels=labels)


def histogram(name: str, doc: str, *labels: str) -> Any:
    """A family of durations in seconds; filled by `fill`."""
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(name, doc, labels=labels)


def fill(family: Any, labels: list[str], counted: Histogram) -> None:
    """Add a sample to a family of histograms."""
    counts = counted.below(BOUNDS)
    buckets = [(repr(2**bound / 1e9), count) for bound, count in zip(BOUNDS, counts, strict=True)]
    family.add_metric(labels, buckets=[*buckets, ("+Inf", counted.count)], sum_value=counted.total_ns / 1e9)
