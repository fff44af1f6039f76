"""A verdict that an auditor of the network gave is taken for the answer that it was asked about, and for no other."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ndn_infer import ndn
from ndn_infer.apps.audit import check_subject
from ndn_infer.errors import BadRecord
from ndn_infer.evidence.statement import Resource
from ndn_infer.namespace import Result
from tests.unit.test_evidence_verdict import FAILED_ONE, PASSED_ONE

NODE = SimpleNamespace(net=ndn.from_uri("/ndn-infer/local"))


def answer(request: str) -> bytes:
    return Result("model", "ab" * 32, "generate", request * 32).to_name(NODE.net)


def test_one_of_the_answer_or_of_a_version_of_it_is_taken() -> None:
    verdict = replace(PASSED_ONE, subject=Resource(ndn.to_uri(answer("01") + ndn.version(7)), "ab" * 32, "answer"))
    for name in (answer("01"), answer("01") + ndn.version(7)):
        check_subject(verdict, ndn.to_uri(name), NODE)  # type: ignore[arg-type]


def test_one_of_another_answer_is_refused_and_a_fault_speaks_for_itself() -> None:
    asked = ndn.to_uri(answer("01") + ndn.version(8))
    for told in (answer("02") + ndn.version(8), answer("01") + ndn.version(7), answer("01"), ndn.from_uri("/n/block")):
        verdict = replace(PASSED_ONE, subject=Resource(ndn.to_uri(told), "ab" * 32, "answer"))
        with pytest.raises(BadRecord, match="of another answer"):
            check_subject(verdict, asked, NODE)  # type: ignore[arg-type]
    check_subject(replace(FAILED_ONE, subject=Resource("/n/block", "", "kv-block")), "/n/a", NODE)  # type: ignore[arg-type]
