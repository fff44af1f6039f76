"""The live page in a real browser, on a real gateway in front of a real network."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from ndn_infer import ndn, records
from ndn_infer.models.store import ModelFolder
from ndn_infer.ndn.packet import decode_data
from ndn_infer.records import TokenEvent
from tests.browser_kit import CHROMIUM, Relay, Visit, browser, gateway, visit
from tests.daemons import RunningNetwork, run_network

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser: apt-get install chromium"),
]

PARIS = "What is the capital of France?"
LONG = "Tell me a long story about a lighthouse."
KEYS = ("first-key-of-this-test", "second-key-of-this-test")


@pytest.fixture(scope="module")
def network(
    smollm2: ModelFolder, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNetwork]:
    functions = ("--functions", "tokenize,prefill,decode")
    with run_network(tmp_path_factory.mktemp("net"), model_cache, *functions) as running:
        yield running


@pytest.fixture(scope="module")
def relay(network: RunningNetwork) -> Iterator[Relay]:
    made = Relay(network.runtime, network.socket)
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(network: RunningNetwork, relay: Relay) -> Iterator[str]:
    with gateway(network, "--port", "0", "--set", f"network.transport=unix://{relay.path}") as (url, _):
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def seen(chromium: Browser, url: str) -> Iterator[Visit]:
    """A page that says nothing wrong until its end."""
    with visit(chromium, url) as opened:
        yield opened
        assert opened.said == []


def told(seen: Visit, path: str) -> Any:
    answer = seen.page.request.get(path)
    assert answer.ok, answer.text()
    return answer.json()


def newest(seen: Visit, url: str) -> Any:
    """The record of the newest answer."""
    return told(seen, f"{url}network/answers/{told(seen, f'{url}network/answers')['answers'][0]['id']}")


def serious(page: Any) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def test_an_answer_streams_and_shows_the_names_that_it_rests_on(seen: Visit, url: str, network: RunningNetwork) -> None:
    seen.ask(PARIS)
    asked = network.ask(PARIS, "--max-tokens", "1024")
    assert seen.page.locator(".answer").inner_text() == asked["text"]
    record = newest(seen, url)
    rows = {(row["kind"], row["uri"]): row for row in record["rows"]}
    for use in asked["names"]:
        if use["kind"] == "KV block":
            continue
        base = re.sub(r"(/32=metadata)?(/v=\d+)?(/seg=\d+)?$", "", use["example"])
        kind = "token stream" if use["kind"] == "result" else use["kind"]
        assert rows[kind, base]["signer"] == use["signers"][0] and rows[kind, base]["bytes"] > 0
    shown = seen.page.locator(".row .what")
    for place, text in enumerate(("catalogue record", "call tokenize", "call generate", "token stream generate")):
        expect(shown.nth(place)).to_have_text(text)
    stream = next(row for row in record["rows"] if row["kind"] == "token stream")
    assert [packet["packet"] for packet in stream["new_packets"]] == list(range(len(stream["new_packets"])))
    assert [number for token in record["new_tokens"] for number in token["ids"]] == asked["token_ids"]
    seen.page.click(".foot button:has-text('again')")
    expect(seen.page.locator(".foot")).to_contain_text("Content Store of this machine")
    assert {row["origin"] for row in newest(seen, url)["rows"] if row["kind"] in ("call", "token stream")} == {"store"}


def test_a_token_leads_to_its_packet_and_who_signed_it(seen: Visit, url: str, network: RunningNetwork) -> None:
    seen.ask(PARIS)
    token = seen.page.locator(".token", has_text="Paris")  # an event may carry several tokens
    word = token.evaluate("token => token.textContent")
    token.click()
    expect(seen.page.locator(".carried q")).to_have_text(word)
    lines = seen.page.locator(".hex .pairs").all_inner_texts()
    data = decode_data(bytes.fromhex("".join(lines)))
    assert records.decode(TokenEvent, data.content).text == word, "the bytes shown are those that carried it"
    assert ndn.to_uri(data.name) == seen.page.locator(".bigname .name").inner_text()
    chain = seen.page.locator(".chain b").all_inner_texts()
    assert chain[0] == "this packet" and chain[1].endswith("/decode") and chain[-1] == "/ndn-infer/local"
    elements = seen.page.locator(".element b").all_inner_texts()
    assert elements[:2] == ["Data", "Name"] and {"Content", "SignatureValue", "KeyLocator"} <= set(elements)
    seen.page.locator(".element", has_text="SignatureValue").hover()
    lit = "".join(seen.page.locator(".run.lit").all_inner_texts())
    assert bytes.fromhex(lit).endswith(data.signature), "the bytes of an element are lit"


def test_a_forged_packet_shows_red_and_the_answer_is_right(seen: Visit, url: str, relay: Relay) -> None:
    forged: list[bytes] = []

    def forge(packet: bytes) -> bytes:
        if forged or b"\x06result\x08\x08generate" not in packet or ndn.segment(1) not in packet:
            return packet
        forged.append(packet)
        return packet[:-1] + bytes((packet[-1] ^ 1,))  # the last byte of the signature

    relay.forge = forge
    seen.ask("What is the capital of Italy?")
    relay.forge = lambda packet: packet
    assert forged and "Rome" in seen.page.locator(".answer").inner_text()
    red = seen.page.locator(".item.o-refused")
    expect(red).to_have_count(1)
    expect(red).to_contain_text("refused")
    expect(seen.page.locator(".foot")).to_contain_text("1 packet refused")
    red.locator(".row").click()
    expect(red.locator(".box")).to_contain_text("the signature is not one of the key")
    record = newest(seen, url)
    assert [row["uri"].split("/")[-2] for row in record["rows"] if row["refused"]] == ["generate"]


def test_the_network_map(seen: Visit, network: RunningNetwork) -> None:
    seen.go_to("network")
    expect(seen.page.locator(".face.makes")).to_have_count(3)
    status = network.status()
    offered = seen.page.locator(".producers b").all_inner_texts()
    assert set(offered) == {producer["identity"] for producer in status["producers"]}
    expect(seen.page.locator("table")).to_contain_text("/s")
    shown = {int(text) for text in seen.page.locator("tbody td:first-child").all_inner_texts()}
    assert len(shown) >= 3


def test_keyboard_alone(seen: Visit) -> None:
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.type(PARIS)
    page.keyboard.press("Enter")
    seen.complete()
    expect(page.locator("#live")).to_contain_text("Answer complete")
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.classList.contains('token')"):
            break
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    word = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    expect(page.locator(".carried q")).to_have_text(word)
    expect(page.locator("#packet-title")).to_be_focused()
    page.focus("[data-goto=names]")
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('row')"):
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".row[aria-expanded=true]")).to_be_focused()
    expect(page.locator(".detail .grammar")).to_contain_text("the function that is called")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(chromium: Browser, url: str, scheme: Any) -> None:
    width = 1280 if scheme == "light" else 360
    with visit(chromium, url, width=width, color_scheme=scheme, reduced_motion="reduce") as seen:
        assert serious(seen.page) == []
        seen.ask(PARIS)
        assert serious(seen.page) == []
        seen.page.locator(".token", has_text="Paris").click()
        seen.page.wait_for_selector(".hex")
        assert serious(seen.page) == []
        for view in ("names", "network", "packet"):
            seen.go_to(view)
            if view == "names":
                seen.page.locator(".row").first.click()
            if view == "network":
                seen.page.wait_for_selector(".picture")
            assert serious(seen.page) == [], view
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert seen.said == []


def test_a_key_is_asked_for_and_shows_only_its_own_answers(
    chromium: Browser, network: RunningNetwork, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("\n".join(KEYS))
    keys.chmod(0o600)
    with gateway(network, "--port", "0", "--api-key-file", str(keys)) as (url, _), visit(chromium, url) as seen:
        seen.page.wait_for_selector("#key-dialog[open]")
        seen.page.fill("#key", KEYS[0])
        seen.page.press("#key", "Enter")
        seen.page.wait_for_selector("[data-state=good]")
        seen.page.wait_for_selector("#model option[value^=smol]", state="attached")
        seen.ask(PARIS)
        assert seen.said == []
        for key, count in zip(KEYS, (1, 0), strict=True):
            listed = seen.page.request.get(f"{url}network/answers", headers={"Authorization": f"Bearer {key}"})
            assert len(listed.json()["answers"]) == count
        assert seen.page.request.get(f"{url}network/answers").status == 401


def test_who_may_ask_without_keys(url: str) -> None:
    where = urlsplit(url).netloc
    port = where.rpartition(":")[2]
    for path, headers, status in (
        ("/network/answers", {}, 200), ("/network/answers", {"Host": f"localhost:{port}"}, 200),
        ("/network/answers", {"Host": f"rebound.example:{port}"}, 403),
        ("/network/map", {"Host": "rebound.example"}, 403), ("/v1/models", {"Origin": f"http://{where}"}, 200),
        ("/v1/models", {"Origin": "http://evil.example"}, 403), ("/v1/models", {"Origin": "null"}, 403),
        ("/v1/models", {"Host": f"rebound.example:{port}", "Origin": f"http://rebound.example:{port}"}, 403),
        ("/network/answers/none", {}, 404), ("/network/answers/none/packets/0/0", {}, 404), ("/", {}, 200),
    ):  # fmt: skip
        connection = http.client.HTTPConnection(where, timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == status, (path, headers, body[:200])
        if path == "/":
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert b"style=" not in body and not re.search(rb"<script(?! type=\"module\" src=)", body)
        connection.close()


def test_events_resume_where_they_were(seen: Visit, url: str) -> None:
    seen.ask(PARIS)
    whole = newest(seen, url)
    where = urlsplit(url).netloc
    cut = whole["revision"] - 3
    connection = http.client.HTTPConnection(where, timeout=10)
    connection.request("GET", f"/network/answers/{whole['id']}/events", headers={"Last-Event-ID": str(cut)})
    text = connection.getresponse().read().decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith('data: {"')]
    assert text.startswith("retry: ") and text.rstrip().endswith("event: end\ndata: {}")
    assert events[0]["since"] == cut and 0 < len(events[0]["rows"]) < len(whole["rows"])
    connection.close()


def test_a_producer_that_is_killed_and_a_gateway_that_starts_again(chromium: Browser, network: RunningNetwork) -> None:
    """With the page open: the answer goes on at whoever comes back, and the page finds the new gateway."""
    with gateway(network, "--port", "0") as (url, process), visit(chromium, url) as seen:
        page = seen.page
        page.wait_for_selector("[data-state=good]")
        page.wait_for_selector("#model option[value^=smol]", state="attached")
        page.fill("#prompt", LONG)
        page.press("#prompt", "Enter")
        page.wait_for_selector(".token >> nth=8", timeout=60_000)
        os.kill(network.pid("decode"), signal.SIGKILL)
        before = page.locator(".token").count()
        page.wait_for_selector(f".token >> nth={before + 2}", timeout=90_000)
        page.click("#stop")
        expect(page.locator(".foot")).to_contain_text("stopped")
        expect(page.locator(".row .what", has_text="token stream")).to_have_count(2)
        assert seen.said == [], "the page saw nothing of it"
        assert newest(seen, url)["state"] == "left"
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        page.wait_for_selector("[data-state=bad]")
        with gateway(network, "--port", url.rstrip("/").rpartition(":")[2]):
            page.wait_for_selector("[data-state=good]", timeout=20_000)
            seen.ask(PARIS)
            assert "Paris" in page.locator(".answer").last.inner_text()
        assert all("ERR_" in line for line in seen.said), "a browser itself tells of connections that are refused"
