"""Meters, their names and their text; promtool and promql-parser judge where they are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ndn_infer.functions.answer_meter import AnswerMeter
from ndn_infer.functions.receipts import prompt_tokens
from ndn_infer.metrics import catalogue as m
from ndn_infer.metrics.dashboard import ROWS, dashboard, queries
from ndn_infer.metrics.exposition import Exposition
from ndn_infer.metrics.meters import MAX_SERIES, OTHER, Histogram, Meters, Sample, collect
from ndn_infer.metrics.rules import prometheus_file, rules_file, vllm_rules
from ndn_infer.records import KvSources

MODEL = "0123456789abcdef" * 4
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not on PATH")


def value(meters: Meters, metric: m.Metric, *labels: str) -> float:
    found = collect([meters])[metric][labels]
    assert not isinstance(found, Histogram)
    return found


def everything() -> Meters:
    """Meters in which each metric has a series."""
    meters = Meters()
    for metric in m.ALL.values():
        labels = tuple(f"{label}-1" for label in metric.labels)
        if metric.kind == "histogram":
            meters.observe(metric, metric.buckets[0], *labels)
        elif metric.kind == "counter":
            meters.add(metric, *labels)
        else:
            meters.read_from(metric.name, lambda metric=metric, labels=labels: [Sample(metric, labels, 1)])  # type: ignore[misc]
    return meters


@given(st.lists(st.floats(0, 1000)), st.lists(st.floats(0, 1000)))
def test_histograms_count_every_value_once(first: list[float], second: list[float]) -> None:
    one, two = Histogram(m.LATENCY), Histogram(m.LATENCY)
    for number in first:
        one.observe(number)
    for number in second:
        two.observe(number)
    one.include(two)
    for bound, count in one.cumulative:
        assert count == sum(number <= float(bound) for number in [*first, *second])
    assert one.sum == pytest.approx(sum(first) + sum(second))


def test_series_are_bounded() -> None:
    meters = Meters()
    for number in range(2 * MAX_SERIES):
        meters.add(m.EVENTS, f"event{number}")
    series = collect([meters])[m.EVENTS]
    assert len(series) == MAX_SERIES + 1 and series[(OTHER,)] == MAX_SERIES


def test_equal_series_are_added_up_and_a_source_is_read_once() -> None:
    one, two = Meters(), Meters()
    one.add(m.CALLS)
    two.add(m.CALLS, by=2)
    for meters in (one, two):
        meters.read_from("the same engine", lambda: [Sample(m.STEPS, (MODEL,), 5)])
        meters.read_from(id(meters), lambda: [Sample(m.STREAMS_OPEN, (), 1)])
    found = collect([one, two])
    assert found[m.CALLS][()] == 3 and found[m.STEPS][(MODEL,)] == 5 and found[m.STREAMS_OPEN][()] == 2


def test_the_text_has_aliases_and_short_digests() -> None:
    meters = Meters()
    meters.add(m.GENERATION_TOKENS, MODEL)
    meters.add(m.GENERATION_TOKENS, "f" * 64)
    meters.observe(m.FIRST_TOKEN, 0.3, MODEL)
    text, media_type = Exposition([meters], {MODEL: "small"}.get).text()  # type: ignore[arg-type]
    lines = text.decode().splitlines()
    assert 'ndn_infer_generation_tokens_total{model="small"} 1.0' in lines
    assert f'ndn_infer_generation_tokens_total{{model="{"f" * 12}"}} 1.0' in lines
    assert 'ndn_infer_time_to_first_token_seconds_bucket{le="0.5",model="small"} 1.0' in lines
    assert "0.0.4" in media_type and not any("_created" in line for line in lines)
    text, media_type = Exposition([meters]).text("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in media_type and text.endswith(b"# EOF\n")


def test_names_follow_the_rules() -> None:
    text, _ = Exposition([everything()]).text()
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    for metric in m.ALL.values():
        assert re.fullmatch(r"ndn_infer_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.name.removesuffix("_total") in names
        assert list(metric.buckets) == sorted(set(metric.buckets))


@needs_promtool
def test_promtool_finds_nothing() -> None:
    assert PROMTOOL is not None
    text, _ = Exposition([everything()]).text()
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_promtool
def test_promtool_takes_rules_and_configuration(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    (tmp_path / "rules.yml").write_text(rules_file())
    (tmp_path / "prometheus.yml").write_text(prometheus_file(["127.0.0.1:1", "[::1]:2"], "rules.yml"))
    done = subprocess.run([PROMTOOL, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list(vllm_rules()))} rules found" in done.stdout


def test_every_query_is_one_and_asks_for_metrics_that_there_are() -> None:
    import promql_parser

    known = {metric.name for metric in m.ALL.values()}
    parts = {f"{name}{part}" for name in known for part in ("_bucket", "_sum", "_count")}
    asked = [query for _, query in queries()] + [expression for _, expression, _ in vllm_rules()]
    for query in asked:
        promql_parser.parse(query)
        assert "$" not in query.replace('"$1"', "")
        for name in re.findall(r"ndn_infer_\w+", query):
            assert name in known | parts, query


def test_the_dashboard_has_every_panel_once() -> None:
    made = json.loads(json.dumps(dashboard()))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert len(set(places)) == len(places) == sum(1 + len(panels) for _, panels in ROWS)
    assert len({panel["id"] for panel in made["panels"]}) == len(places)


def test_an_answer_counts_each_token_of_its_prompt_once() -> None:
    meters = Meters()
    meter = AnswerMeter(meters, MODEL, 100)
    meter.turn()
    sources = KvSources(local=1, named=3, content_store=2, prefilled=1, recomputed=1, tail_tokens=4)
    meter.prompt_from(prompt_tokens(100, sources, 16))
    for _ in range(3):
        meter.token()
    meter.ended("stop")
    meter.ended("cancelled")  # the stream is closed too: no second end
    expected = {"content_store": 32, "peer": 16, "producer": 16, "local": 16, "recompute": 20}
    assert {source: value(meters, m.PROMPT_TOKENS, MODEL, source) for source in expected} == expected
    assert value(meters, m.REQUESTS, MODEL, "stop") == 1 and (MODEL, "cancelled") not in collect([meters])[m.REQUESTS]
    gaps = collect([meters])[m.INTER_TOKEN][(MODEL,)]
    assert isinstance(gaps, Histogram) and sum(gaps.counts) == 2


def test_nothing_of_a_prompt_beyond_its_length_is_counted() -> None:
    meters = Meters()
    AnswerMeter(meters, MODEL, 10).prompt_from(prompt_tokens(10, KvSources(named=5, local=5), 16))
    assert sum(value(meters, m.PROMPT_TOKENS, MODEL, source) for source in ("peer", "local", "recompute")) == 10
