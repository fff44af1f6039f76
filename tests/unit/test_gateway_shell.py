"""The gateway's shell without a network: keys and quotas, TLS, readiness, requests that are ended from outside."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st

from ndn_infer import errors
from ndn_infer.config import GatewayConfig
from ndn_infer.gateway import tenants as tenants_module
from ndn_infer.gateway import tls as tls_module
from ndn_infer.gateway.exchange import Exchange, HttpRoute
from ndn_infer.gateway.keys import ApiKeys
from ndn_infer.gateway.quotas import AT_ONCE_S, KeyLimits, Quota
from ndn_infer.gateway.refusal import Refusal
from ndn_infer.gateway.routes import ROUTES
from ndn_infer.gateway.served import Served
from ndn_infer.gateway.server import GatewayServer
from ndn_infer.gateway.service import Service
from ndn_infer.gateway.tenants import Tenants
from ndn_infer.gateway.uplink import Uplink
from tests.certificates import certificate_files

FIRST, SECOND = "secret-number-one", "secret-number-two"


def key_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# ---------------------------------------------------------------- keys


def test_keys_are_found_by_both_headers_and_nothing_else(tmp_path: Path) -> None:
    hashed = hashlib.sha256(SECOND.encode()).hexdigest()
    text = f"# ours\n\n{FIRST}\nsha256:{hashed} domain=acme name=al requests=2 tokens_per_minute=60\n"
    keys = ApiKeys.read(key_file(tmp_path / "keys", text))
    plain = keys.find({"X-Api-Key": FIRST})
    limited = keys.find({"Authorization": f"Bearer {SECOND}"})
    assert plain is not None and (plain.domain, plain.limits) == ("", KeyLimits())
    assert limited is not None and (limited.name, limited.domain) == ("al", "acme")
    assert limited.limits == KeyLimits(requests=2, tokens_per_minute=60) and limited.owner != plain.owner
    wrong: list[dict[str, str]] = [
        {}, {"Authorization": "Bearer "}, {"Authorization": f"Basic {FIRST}"}, {"X-Api-Key": "# ours"},
        {"X-Api-Key": f"sha256:{hashed}"}, {"X-Api-Key": hashed}, {"X-Api-Key": "\udcff"},
    ]  # fmt: skip
    assert not any(keys.find(headers) for headers in wrong)
    nobody = ApiKeys.read(None).find({})
    assert nobody is not None and nobody.owner == "" and not ApiKeys.read(None)


@pytest.mark.parametrize("text", [
    "", "# none\n", "short\n", "long-enough requests=0\n", "long-enough requests=-1\n", "long-enough requests=1.5\n",
    "long-enough colour=red\n", "long-enough domain=\n", "long-enough domain\n", "long-enough requests=1 requests=2\n",
    "sha256:abc\n", "long-enough\nlong-enough domain=acme\n", f"long-enough requests={10**13}\n",
])  # fmt: skip
def test_a_key_file_that_says_something_else_is_refused_and_shows_no_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.ConfigError) as found:
        ApiKeys.read(key_file(tmp_path / "keys", text))
    assert "long-enough" not in str(found.value)


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o606])
def test_a_key_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(errors.ConfigError, match="others"):
        ApiKeys.read(key_file(tmp_path / "keys", f"{FIRST}\n", mode))


@given(st.binary(max_size=300))
def test_any_bytes_are_keys_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-keys"
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        assert ApiKeys.read(path).keys
    except errors.ConfigError:
        pass


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants_module, "LOOK_S", 0.0)
    known = {"acme"}

    def domain_known(name: str) -> None:
        if name not in known:
            raise errors.UsageError(f"no domain {name}")

    path = key_file(tmp_path / "keys", f"{FIRST} tokens_per_minute=60\n")
    tenants = Tenants(path, domain_known)
    first = tenants.find({"X-Api-Key": FIRST})
    assert first is not None and not tenants.find({"X-Api-Key": SECOND})
    first.spend(1000)
    key_file(path, f"{FIRST} tokens_per_minute=60\n{SECOND} domain=acme\n")
    again, second = tenants.find({"X-Api-Key": FIRST}), tenants.find({"X-Api-Key": SECOND})
    assert second is not None and second.key.domain == "acme"
    assert again is not None and again.quota is first.quota, "what was used stays used"
    for broken in ("", f"{FIRST} domain=other\n"):
        key_file(path, broken)
        assert tenants.find({"X-Api-Key": SECOND}) is second
    path.unlink()
    assert tenants.find({"X-Api-Key": SECOND}) is second
    with pytest.raises(errors.UsageError, match="other"):
        Tenants(key_file(path, f"{FIRST} domain=other\n"), domain_known)


# ---------------------------------------------------------------- quotas


def test_requests_at_a_time_and_a_minute() -> None:
    quota = Quota()
    quota.change(KeyLimits(requests=2, requests_per_minute=3), 100.0)
    assert [quota.begin(100.0) for _ in range(3)] == [0, 0, AT_ONCE_S]
    quota.end()
    assert quota.begin(100.0) == 0
    quota.end()
    assert quota.begin(100.0) == 20.0, "one of three a minute every 20 seconds"
    assert quota.begin(110.0) == pytest.approx(10.0) and quota.begin(120.0) == 0
    assert quota.working == 2


def test_tokens_are_spent_when_they_are_there_and_the_debt_is_waited_for() -> None:
    quota = Quota()
    quota.change(KeyLimits(tokens_per_minute=60), 0.0)
    assert quota.begin(0.0) == 0
    quota.spend(160, 0.0)
    assert quota.begin(0.0) == 101.0 and quota.begin(100.5) == pytest.approx(0.5) and quota.begin(101.0) == 0
    assert quota.begin(10_000.0) == 0
    quota.spend(60, 10_000.0)
    assert quota.begin(10_000.0) > 0, "an idle hour fills one minute's worth and no more"


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 500)), max_size=40))
def test_no_more_tokens_than_the_quota_and_one_request_over_it(steps: list[tuple[float, int]]) -> None:
    quota, now, spent, last = Quota(), 0.0, 0, 0
    quota.change(KeyLimits(tokens_per_minute=600), now)
    for wait_s, tokens in steps:
        now += wait_s
        if quota.begin(now) == 0:
            quota.end()
            quota.spend(tokens, now)
            spent, last = spent + tokens, tokens
    assert spent - last <= 600 + now * 10 + 1


# ---------------------------------------------------------------- a server


class Link:
    """What Uplink needs of an endpoint, here by hand."""

    def __init__(self) -> None:
        self.connected = True
        self.lost: Any = None

    def on_lost(self, action: Any) -> None:
        self.lost = action


class Offering:
    """What Uplink needs of a client: nothing is offered."""

    def __init__(self) -> None:
        self.offers = self

    async def ready(self) -> None: ...

    def entries(self) -> list[Any]:
        return []


async def slow(exchange: Exchange) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.json_response({})


async def quick(exchange: Exchange) -> web.StreamResponse:
    exchange.service.spend(exchange.document.get("tokens", 0))
    return web.json_response({"domain": exchange.service._domain()})


MORE = (HttpRoute("POST", "/slow", slow, body=True), HttpRoute("POST", "/quick", quick, body=True))


def label_of(name: str) -> str:
    if name == "missing":
        raise errors.UsageError("no such domain")
    return f"{name}.1"


@asynccontextmanager
async def served(
    tenants: Tenants | None = None, uplink: Uplink | None = None, **settings: Any
) -> AsyncIterator[tuple[ClientSession, GatewayServer]]:
    service = object.__new__(Service)
    service._domain, service.spend = (lambda: "public"), (lambda tokens: None)
    config = GatewayConfig(listen="127.0.0.1:0", **{"ready_s": 0.0, "drain_s": 0.05, **settings})
    server = GatewayServer(Served(service, label_of, uplink), config, tenants or Tenants(), [*ROUTES, *MORE])
    await server.open()
    async with ClientSession(server.url.removesuffix("v1")) as session:
        try:
            yield session, server
        finally:
            await server.close()


async def post(session: ClientSession, path: str, key: str = "", **body: Any) -> tuple[int, dict[str, str], Any]:
    async with session.post(path, json=body, headers={"X-Api-Key": key}) as answer:
        return answer.status, dict(answer.headers), await answer.json()


async def test_a_key_has_its_domain_and_its_quota(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys", f"{FIRST} domain=acme tokens_per_minute=60\n{SECOND}\n")
    async with served(Tenants(path)) as (session, _):
        assert (await post(session, "/quick"))[0] == 401
        assert (await post(session, "/quick", FIRST, tokens=300))[2] == {"domain": "acme.1"}
        assert (await post(session, "/quick", SECOND))[2] == {"domain": "public"}
        status, headers, document = await post(session, "/quick", FIRST)
        assert status == 429 and 200 < int(headers["Retry-After"]) <= 241
        assert document["error"]["code"] == "rate_limit_exceeded" and document["error"]["type"] == "rate_limit_error"
        async with session.get("/health") as answer:
            assert answer.status == 200


async def test_a_cache_salt_is_a_domain_that_the_key_may_ask_in(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys", f"{FIRST} domain=acme salts=blue,red\n{SECOND}\n")
    async with served(Tenants(path)) as (session, _):
        for key, salt, label in (
            (FIRST, "red", "red.1"), (FIRST, "acme", "acme.1"), (FIRST, None, "acme.1"), (SECOND, None, "public"),
        ):  # fmt: skip
            assert (await post(session, "/quick", key, cache_salt=salt))[2] == {"domain": label}
        for key, wrong in (
            (FIRST, "green"),
            (SECOND, "red"),
            (FIRST, "public"),
            (FIRST, ""),
            (FIRST, 7),
            (FIRST, ["red"]),
        ):
            status, _, document = await post(session, "/quick", key, cache_salt=wrong)
            assert (status, document["error"]["param"]) == (400, "cache_salt")
    async with served() as (session, _):
        assert (await post(session, "/quick", cache_salt="red"))[2] == {"domain": "red.1"}, "no keys: any that is here"
        assert (await post(session, "/quick", cache_salt="missing"))[0] == 400


async def test_a_forwarder_that_is_gone_ends_what_waits_and_refuses_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndn_infer.gateway.uplink.GONE_S", 0.05)
    link = Link()
    uplink = Uplink(cast(Any, link), cast(Any, Offering()))
    async with served(uplink=uplink) as (session, _):
        waiting = asyncio.ensure_future(post(session, "/slow"))
        await asyncio.sleep(0.1)
        link.connected = False
        link.lost()
        status, headers, document = await waiting
        assert (status, document["error"]["code"], headers["Retry-After"]) == (503, "network", "1")
        assert (await post(session, "/quick"))[0] == 503
        async with session.get("/ready") as answer:
            assert answer.status == 503 and (await answer.json())["status"] == "no forwarder"
        link.connected = True
        assert (await post(session, "/quick"))[0] == 200
        async with session.get("/ready") as answer:
            assert answer.status == 503 and (await answer.json())["status"] == "no producer"


async def test_readiness_goes_first_then_listening_then_what_is_in_work() -> None:
    async with served(ready_s=0.3) as (session, server):
        waiting = asyncio.ensure_future(post(session, "/slow"))
        await asyncio.sleep(0.05)
        ending = asyncio.ensure_future(server.close())
        await asyncio.sleep(0.05)
        async with session.get("/ready") as answer:
            assert answer.status == 503 and (await answer.json())["status"] == "stopping"
        async with session.get("/health") as answer:
            assert answer.status == 200
        assert (await post(session, "/quick"))[0] == 200, "who has not heard of it is still served"
        status, _, document = await waiting
        assert status == 503 and document["error"]["code"] == "stopping"
        await ending
        with pytest.raises(OSError):
            await post(session, "/quick")


async def test_a_request_has_its_time_and_no_more() -> None:
    async with served(request_s=0.1) as (session, server):
        status, _, document = await post(session, "/slow")
        assert status == 504 and document["error"]["code"] == "timeout"
        assert server._state.working == 0 and not server._interruptions


# ---------------------------------------------------------------- TLS


async def test_tls_and_a_certificate_that_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "LOOK_S", 0.0)
    certificate, key = certificate_files(tmp_path, "first")
    async with served(tls_cert=str(certificate), tls_key=str(key)) as (_, server):
        assert server.url.startswith("https://127.0.0.1:")

        async def seen(trusted: Path) -> int:
            context = ssl.create_default_context(cafile=str(trusted))
            async with ClientSession() as session:  # a connection of its own
                async with session.get(server.url.replace("/v1", "/health"), ssl=context) as answer:
                    return answer.status

        assert await seen(certificate) == 200
        old = certificate.rename(tmp_path / "old.pem")
        new, new_key = certificate_files(tmp_path, "second")
        os.replace(new_key, key)
        os.replace(new, certificate)
        assert await seen(certificate) == 200
        with pytest.raises(OSError):
            await seen(old)
        key.write_text("damaged")
        assert await seen(certificate) == 200, "the one that was read before holds on"


def test_tls_files_that_cannot_be_used_are_refused_at_the_start(tmp_path: Path) -> None:
    certificate, key = certificate_files(tmp_path, "first")
    _, other = certificate_files(tmp_path, "second")
    key_paths = [tmp_path / "missing", other, certificate]
    for path in key_paths:
        with pytest.raises(errors.ConfigError):
            tls_module.TlsFiles(certificate, path)
    key.chmod(0o644)
    with pytest.raises(errors.ConfigError, match="others"):
        tls_module.TlsFiles(certificate, key)
    with pytest.raises(errors.ConfigError, match="two files"):
        tls_module.TlsFiles.of(GatewayConfig(tls_cert="x"))


def test_retry_after_is_whole_seconds_upwards() -> None:
    assert Refusal(429, "x", retry_after_s=0.2).headers["Retry-After"] == "1"


async def test_pages_of_any_origin_may_ask_with_a_key_and_none_without(tmp_path: Path) -> None:
    page = {"Origin": "https://chat.example"}
    asked = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with served(Tenants(key_file(tmp_path / "keys", f"{FIRST}\n"))) as (session, _):
        async with session.options("/quick", headers=asked) as answer:
            assert answer.status == 200 and answer.headers["Access-Control-Allow-Headers"] == "authorization"
            assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        for key, status in ((FIRST, 200), ("wrong", 401)):
            async with session.post("/quick", json={}, headers={**page, "X-Api-Key": key}) as answer:
                assert answer.status == status, "a page may read why it was refused"
                assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        async with session.post("/quick", json={}, headers={"X-Api-Key": FIRST}) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers
    async with served() as (session, _):
        for ask in (session.options("/quick", headers=asked), session.post("/quick", json={}, headers=page)):
            async with ask as answer:
                assert answer.status >= 400 and "Access-Control-Allow-Origin" not in answer.headers
