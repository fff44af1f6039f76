"""Records of the call `detokenize`: token ids to text.

Owns: request and answer. Must not know: tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ndn_infer.records import MAX_TOKEN_BYTES
from ndn_infer.records.bounds import MAX_IDS, MAX_TEXT, AtMost, Ids
from ndn_infer.records.forms import Reply, Request


@dataclass(frozen=True, slots=True)
class DetokenizeRequest(Request):
    """The text of token ids; `special`: with the names of control tokens, which have no text else. `pieces`: also the
    bytes of each token."""

    ids: Ids = ()
    special: bool = False
    pieces: bool = False


@dataclass(frozen=True, slots=True)
class Text(Reply):
    """`pieces`: bytes of each token, not always whole characters, where they were asked for."""

    text: Annotated[str, AtMost(MAX_TEXT)]
    pieces: Annotated[tuple[Annotated[bytes, AtMost(MAX_TOKEN_BYTES)], ...], AtMost(MAX_IDS)] = ()
