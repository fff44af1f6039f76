"""Policies as people write them: TOML or JSON.

Owns: both readings. Must not know: where files are.
"""

from __future__ import annotations

import tomllib

from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import parse
from ndn_infer.guard.policy import GuardPolicy
from ndn_infer.guard.policy_form import policy_of
from ndn_infer.records.guard import MAX_POLICY


def read_policy(content: bytes) -> GuardPolicy:
    """Raises BadRecord."""
    if len(content) > MAX_POLICY:
        raise BadRecord(f"a policy of {len(content)} bytes; {MAX_POLICY} are the most")
    if content.lstrip()[:1] == b"{":
        return policy_of(parse(content, MAX_POLICY))
    try:
        return policy_of(tomllib.loads(content.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"this is neither TOML nor JSON: {error}") from error
