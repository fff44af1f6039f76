"""The forwarder that the gateway stands on, and who produces behind it, as one document.

Owns: this document, and rates from the differences of counters. Pure. Must not know: how datasets and offers are had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ndn_infer import ndn
from ndn_infer.ndn.name import Name
from ndn_infer.offers.book import OfferEntry

MAX_FACES: Final = 128
MAX_ROUTES: Final = 2048
MAX_PRODUCERS: Final = 64

FACE_RATES: Final = (
    "in_interests", "in_data", "in_nacks", "out_interests", "out_data", "out_nacks", "in_bytes", "out_bytes",
)  # fmt: skip
STORE_RATES: Final = ("hits", "misses")


@dataclass(frozen=True, slots=True)
class MapReading:
    """What the datasets said at `at` (clock.monotonic). `models`: alias of a digest, where it is known."""

    at: float
    uri: str
    general: Mapping[str, Any]
    store: Mapping[str, Any]
    faces: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    offers: Sequence[OfferEntry] = ()
    models: Mapping[str, str] = field(default_factory=dict)


def map_document(now: MapReading, before: MapReading | None) -> dict[str, Any]:
    """Rates are per second, since `before`; null where that is not there, or counters went back."""
    seconds = now.at - before.at if before is not None else 0.0
    old_faces = {face.get("face_id"): face for face in before.faces} if before is not None else {}
    old_store = before.store if before is not None else None
    by_face = _prefixes(now.routes)
    faces = [
        {
            **face, "kind": _kind(face), "prefixes": by_face.get(face.get("face_id"), [])[:32],
            "rates": _rates(FACE_RATES, face, old_faces.get(face.get("face_id")), seconds),
        }
        for face in now.faces[:MAX_FACES]
    ]  # fmt: skip
    return {
        "forwarder": {"uri": now.uri, **now.general},
        "store": {**now.store, "rates": _rates(STORE_RATES, now.store, old_store, seconds)},
        "faces": faces, "faces_in_all": len(now.faces), "routes": len(now.routes),
        "producers": [_producer(entry, now) for entry in now.offers[:MAX_PRODUCERS]],
    }  # fmt: skip


def _rates(
    names: Sequence[str], now: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float
) -> dict[str, float | None]:
    rates: dict[str, float | None] = {}
    for name in names:
        new, old = now.get(name), before.get(name) if before is not None else None
        known = isinstance(new, int) and isinstance(old, int) and new >= old and seconds > 0
        rates[name] = round((new - old) / seconds, 2) if known and new is not None and old is not None else None
    return rates


def _kind(face: Mapping[str, Any]) -> str:
    scheme = str(face.get("uri", "")).partition(":")[0]
    if scheme in ("internal", "contentstore", "null"):
        return "internal"
    return "application" if scheme in ("fd", "unix") or face.get("scope") == 1 else "network"


def _prefixes(routes: Sequence[Mapping[str, Any]]) -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for route in routes[:MAX_ROUTES]:
        prefixes = found.setdefault(route.get("face_id"), [])
        if route.get("prefix") not in prefixes:
            prefixes.append(str(route.get("prefix")))
    return found


def _producer(entry: OfferEntry, now: MapReading) -> dict[str, Any]:
    offer = entry.offer
    return {
        "identity": ndn.to_uri(entry.identity), "hint": ndn.to_uri(entry.hint),
        "face_id": _face_of(entry.hint, now.routes),
        "functions": [
            {"function": one.function, "subject": one.subject, "model": now.models.get(one.subject, one.subject[:12])}
            for one in offer.functions
        ],
        "queue": entry.queue, "free": offer.free, "places": offer.places, "load": offer.load, "engine": offer.engine,
        "decode_tps": round(offer.decode_tps, 1), "prefill_tps": round(offer.prefill_tps, 1),
        "round_trip_ms": None if entry.round_trip_s is None else round(entry.round_trip_s * 1000, 2),
        "gone": entry.gone_since is not None,
    }  # fmt: skip


def _face_of(hint: Name, routes: Sequence[Mapping[str, Any]]) -> int | None:
    """The face of the longest route that leads there."""
    best, length = None, -1
    for route in routes[:MAX_ROUTES]:
        prefix = ndn.from_uri(str(route.get("prefix", "/")))
        if hint.startswith(prefix) and len(prefix) > length:
            best, length = route.get("face_id"), len(prefix)
    return best
