"""A dashboard for Grafana: answers, KV, NDN, the gateway.

Owns: its rows, panels and queries. Pure. `queries` gives every query with the variables filled in, so that a test can
ask a real Prometheus each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.meters import Metric

_RATE: Final = "$__rate_interval"
_WIDTH, _HEIGHT, _A_ROW = 8, 7, 3


@dataclass(frozen=True, slots=True)
class Graph:
    """`targets`: (query, legend). `unit` as Grafana names it."""

    title: str
    unit: str
    targets: tuple[tuple[str, str], ...]
    stacked: bool = False


def _sel(metric: Metric, suffix: str = "", extra: str = "") -> str:
    model = ['model=~"$model"'] if "model" in metric.labels else []
    where = ",".join([*model, 'instance=~"$instance"', *([extra] if extra else [])])
    return f"{metric.name}{suffix}{{{where}}}"


def _rate(metric: Metric, by: str = "", extra: str = "") -> str:
    return f"sum by ({by}) (rate({_sel(metric, '', extra)}[{_RATE}]))"


def _quantile(share: float, metric: Metric) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({_sel(metric, '_bucket')}[{_RATE}])))"


def _mean(metric: Metric) -> str:
    return f"sum (rate({_sel(metric, '_sum')}[{_RATE}])) / sum (rate({_sel(metric, '_count')}[{_RATE}]))"


def _times(metric: Metric) -> tuple[tuple[str, str], ...]:
    return ((_quantile(0.5, metric), "p50"), (_quantile(0.95, metric), "p95"), (_mean(metric), "mean"))


def _ratio(part: Metric, whole: Metric, extra: str = "") -> str:
    return f"{_rate(part, '', extra)} / {_rate(whole)}"


ROWS: Final[tuple[tuple[str, tuple[Graph, ...]], ...]] = (
    ("Answers, where they are decoded", (
        Graph("Time to first token", "s", _times(m.FIRST_TOKEN)),
        Graph("Inter-token latency", "s", _times(m.INTER_TOKEN)),
        Graph("Whole answer", "s", _times(m.REQUEST)),
        Graph("Tokens decoded a second", "ops", ((_rate(m.GENERATION_TOKENS, "model"), "{{model}}"),)),
        Graph("Answers by how they ended", "ops", ((_rate(m.REQUESTS, "finish"), "{{finish}}"),), stacked=True),
        Graph("Where the time goes (mean)", "s", (
            (_mean(m.QUEUE), "queue"), (_mean(m.KV_LOAD), "KV of others"), (_mean(m.PREFILL), "prompt"),
            (_mean(m.DECODE), "decode"),
        )),
        Graph("Calls in work and waiting", "short", (
            (f"sum by (function) ({_sel(m.RUNNING)})", "{{function}} in work"),
            (f"sum by (function) ({_sel(m.WAITING)})", "{{function}} waiting"),
            (f"sum by (function) ({_sel(m.SEATS)})", "{{function}} free seats"),
        )),
        Graph("Refusals", "ops", ((_rate(m.REFUSALS, "reason"), "{{reason}}"),)),
        Graph("Calls and answers of all functions", "ops", ((_rate(m.CALLS), "calls"), (_rate(m.ANSWERS), "answers"))),
        Graph("Calls by function (p95)", "s", (
            (f"histogram_quantile(0.95, sum by (le, function) (rate({_sel(m.CALL_SECONDS, '_bucket')}[{_RATE}])))",
             "{{function}}"),
        )),
    )),
    ("KV and the engine", (
        Graph("Tokens of prompts by source of their KV", "ops", ((_rate(m.PROMPT_TOKENS, "source"), "{{source}}"),),
              stacked=True),
        Graph("KV pool in use", "percentunit", ((_sel(m.KV_USAGE), "{{instance}} {{model}}"),)),
        Graph("Streams in one step (mean)", "short", ((_mean(m.STEP_STREAMS), "streams"),)),
        Graph("Tokens in one step (mean)", "short", ((_mean(m.STEP_TOKENS), "tokens"),)),
        Graph("Time of the engine by phase", "percentunit", ((_rate(m.ENGINE_SECONDS, "phase"), "{{phase}}"),)),
        Graph("Preemptions", "ops", ((_rate(m.PREEMPTIONS, "model"), "{{model}}"),)),
    )),
    ("NDN", (
        Graph("Interests and Data of applications", "ops", (
            (_rate(m.PACKETS, "direction, type"), "{{type}} {{direction}}"),
        )),
        Graph("Content Store: hits by kind of name", "ops", ((_rate(m.CS_HITS_BY_KIND, "kind"), "{{kind}}"),),
              stacked=True),
        Graph("Content Store: share of Interests answered", "percentunit", (
            (f"{_rate(m.CS_HITS)} / ({_rate(m.CS_HITS)} + {_rate(m.CS_MISSES)})", "hits"),
        )),
        Graph("Content Store", "bytes", ((f"sum by (instance) ({_sel(m.CS_BYTES)})", "{{instance}}"),)),
        Graph("PIT entries", "short", ((_sel(m.F_PIT), "{{instance}}"),)),
        Graph("Faces", "short", ((_sel(m.F_FACES), "{{instance}}"),)),
        Graph("Sent again, not answered in time", "ops", (
            (_rate(m.RETRANSMISSIONS, "instance"), "{{instance}} sent again"),
            (_rate(m.TIMEOUTS, "instance"), "{{instance}} not answered"),
        )),
        Graph("Not believed", "ops", ((_rate(m.VERIFICATION_FAILURES, "reason"), "{{reason}}"),)),
        Graph("Dropped by the forwarder", "ops", ((_rate(m.F_DROPS, "reason"), "{{reason}}"),)),
    )),
    ("Gateway", (
        Graph("HTTP requests", "ops", ((_rate(m.G_REQUESTS, "route, status"), "{{route}} {{status}}"),)),
        Graph("Time to first token for the reader", "s", _times(m.C_FIRST_TOKEN)),
        Graph("Between two events of an answer", "s", _times(m.C_INTER_TOKEN)),
        Graph("Prompt tokens that nobody computed", "percentunit", (
            (_ratio(m.C_CACHED_TOKENS, m.C_PROMPT_TOKENS), "share"),
        )),
        Graph("Answers rest on", "ops", ((_rate(m.NAMES_USED, "kind, source"), "{{kind}}, {{source}}"),), stacked=True),
        Graph("Requests in work", "short", ((_sel(m.G_ACTIVE), "{{instance}}"),)),
    )),
)  # fmt: skip


def queries(rate: str = "1m", value: str = ".+") -> Iterator[tuple[str, str]]:
    """(title of the panel, query) of all, with these values of the variables."""
    for _, panels in ROWS:
        for panel in panels:
            for query, _ in panel.targets:
                filled = query.replace(_RATE, rate).replace("$model", value).replace("$instance", value)
                yield panel.title, filled


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "title": "ndn-infer", "uid": "ndn-infer", "tags": ["ndn-infer"], "schemaVersion": 39, "editable": True,
        "refresh": "10s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser", "annotations": {"list": []},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
            _variable("model", m.GENERATION_TOKENS), _variable("instance", m.PACKETS),
        ]},
        "panels": list(_panels()),
    }  # fmt: skip


def _variable(label: str, metric: Metric) -> dict[str, Any]:
    return {
        "name": label, "type": "query", "datasource": _SOURCE, "query": f"label_values({label})", "includeAll": True,
        "multi": True, "allValue": ".*", "refresh": 2, "current": {"text": "All", "value": "$__all"},
        "definition": f"label_values({label})",
    }  # fmt: skip


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for title, panels in ROWS:
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        number, y = number + 1, y + 1
        for index, panel in enumerate(panels):
            across, down = index % _A_ROW, index // _A_ROW
            place = {"h": _HEIGHT, "w": _WIDTH, "x": across * _WIDTH, "y": y + down * _HEIGHT}
            yield {**_panel(panel), "id": number, "gridPos": place}
            number += 1
        y += -(-len(panels) // _A_ROW) * _HEIGHT


def _panel(panel: Graph) -> dict[str, Any]:
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 20 if panel.stacked else 5, "showPoints": "never"}
    custom["stacking"] = {"mode": "normal" if panel.stacked else "none"}
    return {
        "type": "timeseries", "title": panel.title, "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for index, (query, legend) in enumerate(panel.targets)
        ],
    }  # fmt: skip
