"""Samples as text: Prometheus' format 0.0.4, or OpenMetrics where the reader asks for it.

Owns: that text, by prometheus_client's encoders. Must not know: HTTP, who counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from ndn_infer.metrics.meters import Histogram, Meters, Metric, collect

DIGITS: Final = 12
"""Of a model's digest, where it has no alias."""


class Exposition:
    """Of one process. `alias` gives the alias of a model's digest, or ""; it is asked for every scrape."""

    def __init__(self, meters: Sequence[Meters], alias: Callable[[str], str] = lambda digest: "") -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(meters, alias))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text, and its media type, for the value of an Accept header."""
        encoder, media_type = choose_encoder(accept)
        return encoder(self._registry), media_type


class _Collector:
    """For a CollectorRegistry."""

    def __init__(self, meters: Sequence[Meters], alias: Callable[[str], str]) -> None:
        self._meters = meters
        self._alias = alias

    def collect(self) -> Iterator[Family]:
        for metric, series in collect(self._meters).items():
            yield _family(metric, ((self._shown(metric, labels), value) for labels, value in series.items()))

    def _shown(self, metric: Metric, labels: tuple[str, ...]) -> list[str]:
        pairs = zip(metric.labels, labels, strict=True)
        return [self._alias(text) or text[:DIGITS] if label == "model" else text for label, text in pairs]


def _family(metric: Metric, series: Iterable[tuple[list[str], float | Histogram]]) -> Family:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in series:
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, value.cumulative, value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in series:
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family
