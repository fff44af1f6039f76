"""A tenant's prompts through real forwarders, processes and the real model: the same tokens as in public, KV shared
among members by name, and nothing shared with anybody else."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ndn_infer.client import Client, Conversation
from ndn_infer.models.store import ModelFolder
from ndn_infer.node.keys import ensure_keys, role_identity
from ndn_infer.node.node import Node
from ndn_infer.security import domain_store
from ndn_infer.security.domain_store import DomainStore, tenant_of
from tests.daemons import RunningNetwork
from tests.integration.test_forwarder_clients import forwarder
from tests.integration.test_kv_chat import BLOCK, Peer, config_in, peer, published, turn

pytestmark = pytest.mark.model

PROMPT = tuple(range(1000, 1000 + 5 * BLOCK + 3))
TOKENS = 8


@dataclass
class Line:
    prefill: Peer
    near: Peer
    far: Peer
    client: Conversation
    shop: DomainStore

    def ask_in(self, label: str) -> None:
        self.client.domain = label


async def line(stack: AsyncExitStack, directory: Path, model: ModelFolder) -> Line:
    """Prefill and two decode nodes with a domain's keys, and somebody who asks."""
    keys, user = directory / "data", config_in(directory / "data", "near")
    keychain = ensure_keys(user, ("user",))
    shop = DomainStore(user.keys_dir)
    with shop.locked():
        shop.save(domain_store.create("acme", role_identity(user, "user")))
    enter = stack.enter_async_context
    one = await enter(forwarder(directory, "one"))
    prefill = await enter(peer(one, keys, "near", "prefill", model))
    near = await enter(peer(one, keys, "near", "decode", model))
    far = await enter(peer(one, keys, "far", "decode", model))
    node = await Node.join(user, keychain, uri=f"unix://{one.options.unix_path}")
    stack.push_async_callback(node.close)
    client = await enter(Client(node))
    return Line(prefill, near, far, client.conversation(), shop)


async def test_members_share_kv_and_nobody_else_gains_by_it(tmp_path: Path, smollm2: ModelFolder) -> None:
    near, far = config_in(tmp_path / "data", "near"), config_in(tmp_path / "data", "far")
    async with AsyncExitStack() as stack:
        all_ = await line(stack, tmp_path, smollm2)
        shop = all_.shop
        public = await turn(all_.client, smollm2, PROMPT, TOKENS, near)
        made = all_.prefill.counter("prefill_blocks_computed")
        assert made == 5

        # Nothing of the public one is known in the domain, nor in its next epoch; the tokens are the same.
        first = tenant_of(shop.find("acme")).newest.label
        for number in (1, 2):
            all_.ask_in(tenant_of(shop.find("acme")).newest.label)
            private = await turn(all_.client, smollm2, PROMPT, TOKENS, near)
            assert private.ids == public.ids
            assert private.last is not None and private.last.kv is not None
            assert private.last.kv.prefilled == 5 and private.last.kv.local == private.last.kv.named == 0
            assert all(f"/kv/{all_.client.domain}/" in name for name in private.last.kv_names)
            assert all_.prefill.counter("prefill_blocks_computed") == (1 + number) * made
            with shop.locked():
                shop.save(domain_store.remove(shop.find("acme"), ()))

        # A longer one on another node takes what there is by name, in the epoch it is asked in.
        all_.ask_in(first)
        await published(all_.prefill, 15)
        more = (*PROMPT, *public.ids, *range(2000, 2000 + BLOCK))
        answer = await turn(all_.client, smollm2, more, TOKENS, far)
        assert answer.last is not None and answer.last.kv is not None and answer.last.kv.named >= 5
        assert all_.far.blocks_computed == 0
        assert all_.near.counter("failed") == all_.far.counter("failed") == 0


def test_asking_in_a_domain_from_the_command_line(network: RunningNetwork) -> None:
    """Keys that are made while the network runs are found."""
    prompt = ("Name the largest ocean.", "--max-tokens", "8")
    public = network.ask(*prompt)
    created = network.run("domain", "create", "ocean")
    assert created.returncode == 0, created.stderr
    private, again = (network.ask(*prompt, "--domain", "ocean") for _ in range(2))
    assert private["text"] == again["text"] == public["text"]
    listed = json.loads(network.run("domain", "list", "--json").stdout)
    domain = next(item for item in listed if item["name"] == "ocean")
    assert private["domain"].startswith(domain["id"]) and public["domain"] == "public"
    blocks = len(private["prompt_token_ids"]) // BLOCK
    assert private["kv_blocks"]["prefilled"] == blocks == again["kv_blocks"]["local"]
    sources = {use["source"] for use in again["names"] if use["kind"] in ("call", "result")}
    assert "Content Store" not in sources, "a private call is never answered by what somebody asked before"

    told = network.run("ask", "--no-embedded", "--domain", "ocean", "--max-tokens", "4", "Hello")
    assert f"sealed in domain {private['domain']}" in told.stderr
    for arguments, words in (
        (("--domain", "nowhere"), "no domain 'nowhere' here"),
        (("--domain", "ocean", "--rag", "ledgers"), "no corpus called 'ledgers' is offered in this domain"),
    ):
        refused = network.run("ask", "--no-embedded", *arguments, "Hello")
        assert refused.returncode in (2, 5) and words in refused.stderr and "Traceback" not in refused.stderr
