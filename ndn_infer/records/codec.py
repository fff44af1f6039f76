"""The canonical encoding of records: msgpack maps with sorted string keys, decoded as the class that was expected.

Owns: the encoding whose SHA-256 is a request's name, and its decoder. The only module that imports msgpack. Must not
know: any one record. Callers decode a record only from bytes that were verified (a request's bytes are covered by the
digest in its name).

Fields at their default are left out, so adding a field with a default keeps old digests. Decoding names the expected
class: the wire never picks one. Unknown fields are refused.
"""

from __future__ import annotations

import hashlib
import types
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from ndn_infer.errors import BadRecord

MAX_RECORD_BYTES: Final = 16 << 20

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records: frozen dataclasses of str, bytes, int, float, bool, None, tuples and records."""


def encode(record: Record) -> bytes:
    """Canonical bytes of a record."""
    wire: bytes = msgpack.packb(_to_plain(record), use_bin_type=True)
    return wire


def request_digest(record: Record) -> str:
    """SHA-256, in hex, of the canonical bytes: the <request> component of a call's name."""
    return hashlib.sha256(encode(record)).hexdigest()


def decode(cls: type[R], wire: bytes | memoryview) -> R:
    """The record of class `cls` in `wire`. Raises BadRecord for anything else, including unknown fields."""
    if len(wire) > MAX_RECORD_BYTES:
        raise BadRecord(f"a record of {len(wire)} bytes exceeds {MAX_RECORD_BYTES}")
    try:
        plain = msgpack.unpackb(wire, raw=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError) as error:
        raise BadRecord(f"not a {cls.__name__}: {error}") from error
    result = _from_plain(cls, plain, cls.__name__)
    assert isinstance(result, cls)
    return result


def _to_plain(value: Any) -> Any:
    if isinstance(value, Record):
        plain = {}
        for item in sorted(fields(value), key=lambda item: item.name):
            current = getattr(value, item.name)
            if item.default is MISSING or current != item.default:
                # An int given for a float field must not make another digest.
                plain[item.name] = float(current) if _hints(type(value))[item.name] is float else _to_plain(current)
        return plain
    if isinstance(value, tuple):
        return [_to_plain(element) for element in value]
    return value


_HINTS: Final[dict[type, dict[str, Any]]] = {}


def _hints(cls: type) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def _from_plain(expected: Any, plain: Any, where: str) -> Any:
    """`plain` as `expected`; raises BadRecord naming the field that does not fit."""
    origin = get_origin(expected)
    if origin is tuple:
        return _tuple_from_plain(expected, plain, where)
    if origin in (Union, types.UnionType):
        options = get_args(expected)
        if plain is None and type(None) in options:
            return None
        return _from_plain(next(option for option in options if option is not type(None)), plain, where)
    if isinstance(expected, type) and issubclass(expected, Record):
        return _record_from_plain(expected, plain, where)
    if expected is float and type(plain) is int:
        return float(plain)
    if type(plain) is not expected:
        raise BadRecord(f"{where} is not of type {getattr(expected, '__name__', expected)}")
    return plain


def _tuple_from_plain(expected: Any, plain: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise BadRecord(f"{where} is not a list")
    arguments = get_args(expected)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        element = arguments[0]
        if element is int:  # long lists of token ids: one pass, no call per id
            if not all(type(item) is int for item in plain):
                raise BadRecord(f"{where} is not a list of integers")
            return tuple(plain)
        return tuple(_from_plain(element, item, where) for item in plain)
    if len(arguments) != len(plain):
        raise BadRecord(f"{where} has {len(plain)} elements, expected {len(arguments)}")
    return tuple(_from_plain(kind, item, where) for kind, item in zip(arguments, plain, strict=True))


def _record_from_plain(cls: type[Record], plain: Any, where: str) -> Record:
    if not isinstance(plain, dict):
        raise BadRecord(f"{where} is not a {cls.__name__}")
    hints = _hints(cls)
    unknown = plain.keys() - hints.keys()
    if unknown:
        raise BadRecord(f"{where} has unknown fields: {', '.join(sorted(map(str, unknown)))}")
    values = {key: _from_plain(hints[key], value, f"{where}.{key}") for key, value in plain.items()}
    missing = [item.name for item in fields(cls) if item.default is MISSING and item.name not in values]
    if missing:
        raise BadRecord(f"{where} lacks {', '.join(missing)}")
    return cls(**values)
