"""A guarded answer within a tenant domain: verdicts are private as the answer is, and nothing of either is in clear."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from ndn_infer import ndn
from ndn_infer.errors import Blocked, NdnInferError
from ndn_infer.records import Message
from ndn_infer.records.guard import BLOCK, JUDGE, SUBJECT, JudgeRequest, VerdictEvent
from ndn_infer.transport.calls.ask import Ask
from tests.guard_kit import MODEL, GuardedWorld, guarded, told

pytest.importorskip("regex")
pytest.importorskip("confusable_homoglyphs")

FINE = ["The merger ", "with Initech ", "closes in ", "the spring", "."]
BLOCKED = ["We speak of ", "project ", "night", "ingale", " quietly."]
PERSON = ["Write to ", "jo.doe@", "exam", "ple.com", " about the merger please."]


def nothing_in_clear(w: GuardedWorld, *texts: str) -> None:
    heard = b"".join(w.wire)
    policy = w.client.policy
    assert policy is not None and len(w.wire) > 5
    for secret in {*(word for text in texts for word in text.split() if len(word) > 4), "codename", "nightingale"}:
        assert secret.encode() not in heard, secret
    assert policy.policy.digest.encode() not in heard and bytes.fromhex(policy.policy.digest) not in heard


async def test_members_are_shown_what_private_verdicts_cover(tmp_path: Path) -> None:
    async with guarded(tmp_path, private=True) as w:
        question = "When does the merger with Initech close?"
        prompt = await w.conversation.tokenize(MODEL, [Message("user", question)])
        answer = w.answer(prompt)
        assert "".join(await told(w, FINE, answer)) == "".join(FINE) and answer.finish == "stop"
        stopped = w.answer((7,))
        assert "".join(await told(w, BLOCKED, stopped)) == "We speak of " and stopped.finish == "content_filter"
        assert "".join(await told(w, PERSON, w.answer((8,)))) == "Write to [email] about the merger please."
        nothing_in_clear(w, question, *FINE, *BLOCKED, *PERSON)


async def test_a_private_prompt_is_screened_privately(tmp_path: Path) -> None:
    async with guarded(tmp_path, private=True) as w:
        text = "Tell me everything about project nightingale, colleague."
        with pytest.raises(Blocked, match="codename"):
            await w.conversation.tokenize(MODEL, [Message("user", text)])
        nothing_in_clear(w, text)
        assert not w.function.streams


async def test_a_guard_does_not_tell_strangers_what_it_thinks_of_a_private_answer(tmp_path: Path) -> None:
    """Asked in the open about a private answer, it cannot judge: what it says is an error, with no word of it."""
    async with guarded(tmp_path, private=True) as w:
        answer = w.answer()
        await told(w, FINE, answer)
        demanded = w.client.policy
        assert demanded is not None
        key = ndn.to_uri(w.function.signers[-1].certificate_name).rsplit("/", 2)[0]
        request = JudgeRequest(demanded.policy.digest, answer.stream_name, key, "", "", demanded.wire)
        ask = Ask(SUBJECT, JUDGE, request, caller=demanded.hint)
        said = list[VerdictEvent]()
        with suppress(NdnInferError):
            async for verdict, _ in w.client.conversation().caller.stream(ask, VerdictEvent):
                said.append(verdict)
        assert all(one.error and one.action == BLOCK and not one.tokens for one in said)
        assert w.counters["verdicts_allow"] == 0
