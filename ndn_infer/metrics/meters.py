"""Counters, gauges and histograms of one process.

Owns: what a metric is, how values are added up, the bound of label sets. Pure: no clock, no socket. Must not know:
which metrics there are (catalogue.py), how they are exposed (exposition.py).

What somebody counts already is read when it is asked for (`read_from`), so that nothing is counted twice and who is not
asked does nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_SERIES: Final = 256
"""Label sets of one metric; values of further ones are counted together, with `OTHER` as every label."""
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Metric:
    """`kind` is counter, gauge or histogram; `buckets` are the upper bounds of a histogram, without infinity. Equal
    names are the same metric."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __hash__(self) -> int:
        """Metrics are looked up for every token: of all fields it takes longer than to count."""
        return hash(self.name)


class Histogram:
    """How many values fell into each bucket. May be written by one thread and read by another."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Each without those before it; the last one is beyond all bounds."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def include(self, other: Histogram) -> None:
        """Everything that the other one holds, which has the same bounds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    @property
    def cumulative(self) -> list[tuple[str, int]]:
        """(upper bound, values up to it), as Prometheus has it."""
        total, pairs = 0, []
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            pairs.append((bound, total))
        return pairs


class Sample(NamedTuple):
    """One series: `labels` are the values of `metric.labels`, in order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram


Read = Callable[[], Iterable[Sample]]


class Meters:
    """What is counted here, and where else to read."""

    def __init__(self) -> None:
        self._values: dict[Metric, dict[tuple[str, ...], float | Histogram]] = {}
        self.sources: dict[Hashable, Read] = {}

    def add(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Count."""
        series, key = self._series(metric, labels)
        value = series.get(key, 0.0)
        assert not isinstance(value, Histogram)
        series[key] = value + by

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Enter a value of a histogram."""
        series, key = self._series(metric, labels)
        histogram = series.get(key)
        if histogram is None:
            histogram = series[key] = Histogram(metric.buckets)
        assert isinstance(histogram, Histogram)
        histogram.observe(value)

    def read_from(self, key: Hashable, read: Read) -> None:
        """Samples that somebody else counts; `key` tells whether two meters of a process read the same thing."""
        self.sources[key] = read

    def samples(self) -> Iterator[Sample]:
        """What was counted here; `sources` are for whoever collects."""
        for metric, series in self._values.items():
            for labels, value in series.items():
                yield Sample(metric, labels, value)

    def _series(
        self, metric: Metric, labels: tuple[str, ...]
    ) -> tuple[dict[tuple[str, ...], float | Histogram], tuple[str, ...]]:
        series = self._values.setdefault(metric, {})
        if labels not in series and len(series) >= MAX_SERIES:
            labels = (OTHER,) * len(labels)
        return series, labels


def collect(meters: Iterable[Meters]) -> dict[Metric, dict[tuple[str, ...], float | Histogram]]:
    """All samples of a process, equal series added up; the same source is read once."""
    sources: dict[Hashable, Read] = {}
    found: dict[Metric, dict[tuple[str, ...], float | Histogram]] = {}
    for one in meters:
        sources.update(one.sources)
        _add_up(found, one.samples())
    for read in sources.values():
        _add_up(found, read())
    return found


def _add_up(found: dict[Metric, dict[tuple[str, ...], float | Histogram]], samples: Iterable[Sample]) -> None:
    for metric, labels, value in samples:
        series = found.setdefault(metric, {})
        if isinstance(value, Histogram):
            into = series.setdefault(labels, Histogram(value.bounds))
            assert isinstance(into, Histogram)
            into.include(value)
        else:
            before = series.get(labels, 0.0)
            assert not isinstance(before, Histogram)
            series[labels] = before + value
