"""No stranger gets a byte that depends on what a tenant asked: the short form of tests/load/strangers.py, and a proof
that it would notice."""

from __future__ import annotations

import pytest

from ndn_infer.functions.function_server import FunctionServer
from ndn_infer.functions.intake import Intake
from ndn_infer.functions.work import ReceivedCall, WorkKey
from ndn_infer.security.domains import PUBLIC, Domain
from tests.load import strangers


async def test_hundreds_of_attempts_give_a_stranger_nothing(seed: int = 11) -> None:
    report = await strangers.campaign(500, seed)
    assert report.tried == 500 and report.answered > 100
    assert report.leaks == [], str(report)


async def test_the_attempts_find_work_that_is_known_by_its_digest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was once: whoever says the digest gets the answer, sealed for nobody when it is asked as shared."""
    original = Intake._with_request

    def by_digest_alone(self: Intake, asked: ReceivedCall) -> None:
        desk = self._desk
        assert isinstance(desk, FunctionServer)
        for key in [*desk._work, *desk._answers._answers]:
            if key.call.request == asked.call.request and not asked.caller:
                desk.from_known(asked, key, PUBLIC)
                return
        original(self, asked)

    monkeypatch.setattr(Intake, "_with_request", by_digest_alone)
    report = await strangers.campaign(200, 12, (strangers.changed,))
    assert any("holds the secret" in leak for leak in report.leaks), str(report)


def test_work_has_a_key_of_all_that_tells_it_from_other_work() -> None:
    call = strangers.Call(*strangers.MODEL, "generate", strangers.CallClass.PRIVATE, "ab" * 32)
    keys = {
        WorkKey(call, domain, caller)
        for domain in ("public", strangers.MEMBER.newest.label, strangers.MEMBER.at(1).label)
        for caller in (b"", strangers.role("user"), strangers.role("rag"))
    }
    domain: Domain = PUBLIC
    assert len(keys) == 9 and WorkKey(call).domain == domain.label and WorkKey(call).caller == b""
