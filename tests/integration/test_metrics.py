"""Metrics and traces of a whole network: every daemon is scraped by a real Prometheus, which answers each query of the
dashboard and has each of vLLM's names; a collector gets the spans of one question from all processes.

One network, one gateway, one Prometheus (Debian's package) for all tests; those that need it skip where it is not.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from ndn_infer.metrics.dashboard import queries
from ndn_infer.metrics.rules import vllm_rules
from ndn_infer.models.store import ModelFolder
from tests.daemons import RunningNetwork, run_network, stop, wait_ready

pytestmark = pytest.mark.model

MODEL = "smollm2-135m-instruct"
LONG = "Tell me about rivers. " * 12
PROMETHEUS = shutil.which("prometheus")
PROCESSES = 3
"""A forwarder, a producer of tokenize, and one of prefill and decode, which share an engine."""
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus (Debian's package) is not on PATH")


@dataclass(frozen=True)
class Watched:
    network: RunningNetwork
    gateway: str
    """Its address."""
    targets: list[str]
    spans: list[dict[str, Any]]
    """What the collector got; `service` is of the process."""

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=f"http://{self.gateway}/v1", api_key="none", max_retries=0)

    def load(self, word: str) -> None:
        """A few questions: one long enough for KV blocks, one twice, so that it is stored."""
        for text in (f"{word}: {LONG}", f"Say {word}.", f"Say {word}."):
            stream = self.client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=12, stream=True
            )
            assert list(stream)[-1].choices[0].finish_reason in ("length", "stop")


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(20000, 32000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


@contextlib.contextmanager
def collector(spans: list[dict[str, Any]]) -> Iterator[str]:
    """A collector of traces, OTLP over HTTP; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/traces"
            for resource in body["resourceSpans"]:
                (service,) = (item["value"]["stringValue"] for item in resource["resource"]["attributes"])
                for scope in resource["scopeSpans"]:
                    spans.extend({**span, "service": service} for span in scope["spans"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def watched(smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    first = free_ports(PROCESSES + 1)
    listen = f"127.0.0.1:{first}"
    functions = ("--functions", "tokenize,prefill,decode")
    directory = tmp_path_factory.mktemp("net")
    spans: list[dict[str, Any]] = []
    with contextlib.ExitStack() as ends:
        options = {
            "NDN_INFER_METRICS_LISTEN": listen,
            "NDN_INFER_TELEMETRY_OTLP_ENDPOINT": ends.enter_context(collector(spans)),
            "NDN_INFER_TELEMETRY_SHARE": "0",
            "NDN_INFER_ENGINE_PREFILL_ELSEWHERE": "always",  # however slow this machine is at the moment
        }
        network = ends.enter_context(run_network(directory, model_cache, *functions, **options))
        gateway = f"127.0.0.1:{first + PROCESSES}"
        log = (network.home / "gateway.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "ndn_infer", "gateway", "--listen", gateway],
            env=network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            wait_ready(process, [], network.home / "gateway.log")
            targets = [*(f"127.0.0.1:{first + number}" for number in range(PROCESSES)), gateway]
            yield Watched(network, gateway, targets, spans)
        finally:
            stop(process)
            log.close()


def get(url: str, **query: str) -> bytes:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}" if query else url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def scraped(target: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Series of a daemon: name -> labels -> value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(get(f"http://{target}/metrics").decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(series: dict[tuple[tuple[str, str], ...], float], **labels: str) -> float:
    return sum(value for key, value in series.items() if set(labels.items()) <= set(key))


def test_what_a_question_costs_is_counted_where_it_is_done(watched: Watched) -> None:
    before = {target: scraped(target) for target in watched.targets}
    watched.load("lamp")
    after = {target: scraped(target) for target in watched.targets}
    forwarder, *producers, gateway = watched.targets

    def grown(target: str, name: str, **labels: str) -> float:
        return total(after[target].get(name, {}), **labels) - total(before[target].get(name, {}), **labels)

    decode = next(target for target in producers if grown(target, "ndn_infer_generation_tokens_total"))
    # Two answers were decoded, three were read: the third one was stored.
    assert grown(decode, "ndn_infer_time_to_first_token_seconds_count", model=MODEL) == 2
    assert grown(decode, "ndn_infer_requests_total", model=MODEL) == 2
    decoded = grown(decode, "ndn_infer_generation_tokens_total", model=MODEL)
    assert grown(decode, "ndn_infer_inter_token_latency_seconds_count") == decoded - 2
    assert grown(gateway, "ndn_infer_client_answers_total", model=MODEL) == 3
    assert grown(gateway, "ndn_infer_client_stored_answers_total") == 1
    # Each token of the prompts has one source, and most of the long one came by name.
    prompts = grown(gateway, "ndn_infer_client_prompt_tokens_total")
    twice = grown(gateway, "ndn_infer_client_cached_tokens_total")
    by_source = grown(decode, "ndn_infer_prompt_tokens_total")
    assert 0 < prompts - by_source <= twice
    assert grown(decode, "ndn_infer_prompt_tokens_total", source="producer") > 0
    assert grown(gateway, "ndn_infer_gateway_requests_total", route="/v1/chat/completions", status="200") == 3
    tokenize = next(target for target in producers if target != decode)
    assert grown(tokenize, "ndn_infer_call_seconds_count", function="tokenize") == 2, "the third one was known"
    # Names and packets.
    assert grown(gateway, "ndn_infer_names_used_total", kind="call") == 3
    assert grown(forwarder, "ndn_infer_forwarder_cs_kind_hits_total", kind="result") > 0
    for target in (*producers, gateway):
        assert grown(target, "ndn_infer_packets_total", direction="in") > 0
        assert total(after[target]["ndn_infer_verification_failures_total"]) == 0
        assert total(after[target]["ndn_infer_forwarder_connections"]) >= 1
    assert grown(forwarder, "ndn_infer_forwarder_packets_total", type="data") > 0
    promtool = shutil.which("promtool")
    for target in watched.targets if promtool else ():
        text = get(f"http://{target}/metrics")
        done = subprocess.run([promtool or "", "check", "metrics"], input=text, capture_output=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, b""), target


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes all of the network each second; its URL."""
    directory, port = tmp_path_factory.mktemp("prometheus"), free_ports(1)
    of_this = ("--set=producer.functions=tokenize,prefill,decode", f"--set=gateway.listen={watched.gateway}")
    rules, configuration = (watched.network.run("metrics", *what) for what in (("rules",), ("prometheus", *of_this)))
    assert rules.returncode == configuration.returncode == 0
    assert all(target in configuration.stdout for target in watched.targets), "those that are there are the default"
    (directory / "ndn-infer.rules.yml").write_text(rules.stdout)
    (directory / "prometheus.yml").write_text(configuration.stdout.replace("5s", "1s"))
    log = (directory / "log").open("w")
    process = subprocess.Popen(
        [PROMETHEUS or "", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        log.close()


def asked(prometheus: str, query: str) -> list[float]:
    """Values now, those that are numbers."""
    try:
        answer: dict[str, Any] = json.loads(get(f"{prometheus}/api/v1/query", query=query))
    except (OSError, ConnectionError):
        return []
    values = [float(series["value"][1]) for series in answer["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def wait_for(prometheus: str, wanted: dict[str, str], within_s: float) -> dict[str, str]:
    """What has no value after so long; {} as soon as everything has one."""
    until = time.monotonic() + within_s
    while wanted and time.monotonic() < until:
        wanted = {title: query for title, query in wanted.items() if not asked(prometheus, query)}
        if wanted:
            time.sleep(0.5)
    return wanted


@needs_prometheus
def test_a_real_prometheus_answers_every_query(watched: Watched, prometheus: str) -> None:
    watched.load("brook")
    up = f'count(up{{job="ndn-infer"}} == 1) == {len(watched.targets)}'
    seen = 'ndn_infer_requests_total{finish="length"}'
    assert wait_for(prometheus, {"up": up, "seen": seen}, 30) == {}
    watched.load("hill")  # rates need a value before and one after
    every = {f"{title}: {query}": query for title, query in queries("30s")}
    every |= {name: name for name, _, labels in vllm_rules() if not labels}
    every |= {
        'vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}': "",
        'vllm:request_success_total{finished_reason="length",model_name="smollm2-135m-instruct"}': "",
    }
    assert wait_for(prometheus, {title: query or title for title, query in every.items()}, 20) == {}
    ours = 'sum(ndn_infer_time_to_first_token_seconds_count{model="smollm2-135m-instruct"})'
    theirs = 'sum(vllm:time_to_first_token_seconds_count{model_name="smollm2-135m-instruct"})'
    # A recording rule is computed each second, from what was scraped before.
    assert wait_for(prometheus, {"some": f"{ours} > 0", "equal": f"{theirs} == {ours}"}, 20) == {}


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


def traced(watched: Watched, trace_id: str, text: str, steps: set[tuple[str, int]]) -> list[Any]:
    """Ask as part of a trace; its spans, as soon as all steps (name, kind) are there."""
    watched.client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=8,
        extra_headers={"traceparent": f"00-{trace_id}-00000000000000aa-01"},
    )  # fmt: skip
    until = time.monotonic() + 20
    while True:
        found = [span for span in watched.spans if span["traceId"] == trace_id]
        if steps <= {(span["name"], span["kind"]) for span in found}:
            return found
        assert time.monotonic() < until, [(span["service"], span["name"]) for span in found]
        time.sleep(0.1)


def test_a_trace_goes_through_the_network(watched: Watched) -> None:
    question = f"Write of the sea. {LONG}"
    before = {target: scraped(target) for target in watched.targets}
    steps = {(name, kind) for name in ("tokenize", "generate", "prefill") for kind in (2, 3)}
    steps.add(("POST /v1/chat/completions", 2))
    found = traced(watched, "1" * 32, question, steps)
    one = {(span["name"], span["kind"]): span for span in found}
    assert len(one) == len(found), "each step once"
    root, generate, prefill = one["POST /v1/chat/completions", 2], one["generate", 2], one["prefill", 2]
    chain = [root, one["generate", 3], generate, one["prefill", 3], prefill]
    assert root["parentSpanId"] == "00000000000000aa"
    assert all(lower["parentSpanId"] == upper["spanId"] for upper, lower in pairwise(chain))
    assert one["tokenize", 3]["parentSpanId"] == root["spanId"]
    assert root["service"] == "ndn-infer gateway" and "decode" in generate["service"]
    assert all(int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) for span in found)
    said, asked_for = attributes(generate), attributes(root)
    assert said["gen_ai.usage.output_tokens"] == asked_for["gen_ai.usage.output_tokens"] == "8"
    assert asked_for["gen_ai.request.model"] == MODEL and asked_for["http.response.status_code"] == "200"
    assert [event["name"] for event in generate["events"]] == ["turn", "kv loaded", "first token"]
    assert "river" not in json.dumps(found), "what was asked is nobody's but the caller's"

    # The same question in another trace: one piece of work, to which the second trace is linked.
    again = traced(watched, "2" * 32, question, steps - {("prefill", 2), ("prefill", 3)})
    second = next(span for span in again if (span["name"], span["kind"]) == ("generate", 2))
    assert attributes(second)["ndn.call.shared"] is True and not any(span["name"] == "prefill" for span in again)
    assert second["links"] == [{"traceId": "1" * 32, "spanId": generate["spanId"]}]
    after = {target: scraped(target) for target in watched.targets}
    decoded = [sum(total(side[one].get("ndn_infer_requests_total", {})) for one in side) for side in (before, after)]
    assert decoded[1] - decoded[0] == 1
    watched.load("stone")
    traced(watched, "3" * 32, "Say stone.", {("POST /v1/chat/completions", 2)})
    assert {span["traceId"][0] for span in watched.spans} == {"1", "2", "3"}, "who brings no trace gets none: share 0"


def test_a_repo_gives_its_own(watched: Watched) -> None:
    target, log = f"127.0.0.1:{free_ports(1)}", (watched.network.home / "repo.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "ndn_infer", "repo", "serve", f"--set=metrics.listen={target}"],
        env=watched.network.environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_ready(process, [], watched.network.home / "repo.log")
        found = scraped(target)
        assert total(found["ndn_infer_repo_items"], item="repo_objects") == 0
        assert total(found["ndn_infer_packets_total"], direction="out", type="interest") > 0
    finally:
        assert stop(process) == 0
        log.close()
    with pytest.raises(OSError):
        scraped(target)


def test_what_the_command_prints(watched: Watched) -> None:
    wrong, drawn = (watched.network.run("metrics", *what) for what in (("prometheus", "--target=x"), ("dashboard",)))
    assert json.loads(drawn.stdout)["uid"] == "ndn-infer"
    assert wrong.returncode == 2 and "expected host:port" in wrong.stderr
