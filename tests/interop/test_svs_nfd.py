"""Sync groups through an unmodified NFD: members at one NFD, and across a link to our forwarder, by its multicast."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from ndn_infer import ndn
from ndn_infer.namespace import Sync
from ndn_infer.security.keychain import Keychain
from ndn_infer.security.trust import TrustSchema
from ndn_infer.security.validator import Validator
from ndn_infer.storage.memory import ObjectStore
from ndn_infer.sync.fetching import Publication
from ndn_infer.sync.group import SyncGroup, SyncOptions
from ndn_infer.transport.link.endpoint import Endpoint
from ndn_infer.transport.link.links import connect
from ndn_infer.transport.link.registration import Registrar
from ndn_infer.transport.objects.serve import Server
from ndn_infer.transport.trust.certificates import certificate_fetcher
from tests.harness import NET, keychain_in, role
from tests.interop.ndnts_kit import until
from tests.interop.peers import needs, nfd, our_forwarder
from tests.interop.test_nfd_link import linked

pytestmark = needs("nfd", "nfdc", "ndnpeek")

GROUP = Sync("offers").to_name(NET)
LABELS = ("decode", "prefill", "tokenize")


@contextlib.asynccontextmanager
async def member(uri: str, keychain: Keychain, label: str) -> AsyncIterator[tuple[SyncGroup, list[Publication]]]:
    me, told = role(label), list[Publication]()
    endpoint = Endpoint(lambda: connect(uri, 3.0))
    await endpoint.open()
    registrar = Registrar(endpoint)
    validator = Validator(TrustSchema.load(NET), keychain.anchor, certificate_fetcher(endpoint))
    Server(endpoint, ObjectStore(1 << 20)).answer_certificates(me, keychain.certificates)
    await registrar.register(me)
    group = SyncGroup(
        endpoint, validator, GROUP, me=me, signer=keychain.signer_for(me), registrar=registrar,
        on_publication=told.append, options=SyncOptions(seed=3),
    )  # fmt: skip
    await group.open()
    try:
        yield group, told
    finally:
        await group.close()
        await registrar.close()
        await validator.aclose()
        await endpoint.close()


async def test_members_at_one_nfd(tmp_path: Path) -> None:
    """Three: NFD's best-route would give an Interest to one of the other two only."""
    keychain = keychain_in(tmp_path / "keys", *LABELS)
    with nfd(tmp_path / "nfd") as peer:
        async with contextlib.AsyncExitStack() as stack:
            made = [await stack.enter_async_context(member(peer.uri("unix"), keychain, label)) for label in LABELS]
            assert all(group.hears for group, _ in made)
            assert f"prefix={ndn.to_uri(GROUP)} strategy=/localhost/nfd/strategy/multicast" in peer.nfdc("strategy")
            for group, _ in made:
                group.publish(b"of " + ndn.to_uri(group.me).encode())
            await until(lambda: all(len(told) == 2 for _, told in made))
            for group, told in made:
                assert {one.publisher for one in told} == {role(label) for label in LABELS} - {group.me}


async def test_members_at_nfd_and_at_ours(tmp_path: Path) -> None:
    """Across a UDP link: Sync Interests and publications both ways."""
    keychain = keychain_in(tmp_path / "keys", *LABELS)
    with our_forwarder(tmp_path / "ours") as ours, nfd(tmp_path / "nfd") as theirs:
        with linked(theirs, ours, "udp") as link, contextlib.ExitStack() as routes:
            for peer, beyond in ((ours, "decode"), (theirs, "prefill")):
                for prefix in (GROUP, role(beyond)):
                    routes.enter_context(link.routed(peer, ndn.to_uri(prefix)))
            async with (
                member(theirs.uri("unix"), keychain, "decode") as (at_nfd, told_nfd),
                member(ours.uri("unix"), keychain, "prefill") as (at_ours, told_ours),
            ):
                at_nfd.publish(b"behind NFD")
                at_ours.publish(b"behind ours")
                await until(lambda: bool(told_nfd) and bool(told_ours))
                assert told_ours[0].content == b"behind NFD" and told_nfd[0].content == b"behind ours"
                at_nfd.publish(bytes(30_000))
                await until(lambda: len(told_ours) == 2)
                assert told_ours[1].content == bytes(30_000)
