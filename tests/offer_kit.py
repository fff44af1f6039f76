"""Made-up offers and books of them, for tests without a network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import Book, OfferEntry
from ndn_infer.offers.choice import Wanted
from ndn_infer.records.offer import OfferedFunction, ProducerOffer

NET: Final = ndn.from_uri("/ndn-infer/local")
MODEL: Final = "ab" * 32
WALL_US: Final = 1_700_000_000_000_000
GENERATE: Final = OfferedFunction("generate", "model", MODEL, True)


def identity(node: str = "n1", role: str = "decode") -> Name:
    return NET + ndn.from_uri(f"/home/{node}/{role}")


def hint(node: str = "n1", instance: str = "0a") -> Name:
    return identity(node) + ndn.from_uri(f"/instance/{instance}")


def offer(node: str = "n1", *, instance: str = "0a", **fields: Any) -> ProducerOffer:
    plain = ProducerOffer(
        ndn.to_uri(identity(node)), ndn.to_uri(hint(node, instance)), WALL_US, WALL_US + 30_000_000, (GENERATE,),
        engine="bf16.class", codec="raw.bf16", context=8192, places=8, free=8, call_s=4.0, prompt_s=0.2,
        prefill_tps=500.0, decode_tps=30.0,
    )  # fmt: skip
    return replace(plain, **fields)


def book_of(*offers: ProducerOffer, now: float = 0.0) -> Book:
    book = Book(NET)
    for one in offers:
        assert book.take(one, ndn.from_uri(one.identity), now, WALL_US) is not None
    return book


def entry_of(one: ProducerOffer, now: float = 0.0) -> OfferEntry:
    (entry,) = book_of(one, now=now).entries(now)
    return entry


def chain_of(tokens: int, of: str = "prompt") -> list[bytes]:
    return [hashlib.sha256(f"{of} {number}".encode()).digest() for number in range(tokens // 16)]


def wanted(tokens: int = 1040, *, seed: str = "call", of: str = "prompt", **fields: Any) -> Wanted:
    plain = Wanted("generate", ("model", MODEL), seed.encode(), tokens=tokens, values={16: chain_of(tokens, of)})
    return replace(plain, **fields)
