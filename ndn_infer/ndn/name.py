"""An NDN name as bytes, and its URI form.

A name is held as the TLV-VALUE of its Name element: the encoded components one after the other, nothing else. TLVs
delimit themselves, so names compare, hash and nest as plain bytes: `name.startswith(prefix)` is exactly "prefix is a
name prefix of name". Owns: components and URIs (NDN Packet Format 0.3, sections 2 and 2.1; Naming Conventions rev 3).
Must not know: which names this project uses (see namespace.py).
"""

from __future__ import annotations

from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from ndn_infer.errors import BadName, BadPacket
from ndn_infer.ndn.tlv import Buffer, decode_nonneg, encode_nonneg, encode_number, encode_tlv, read_header

Name: TypeAlias = bytes
"""Concatenated encoded components, without the Name TLV's own type and length."""

Component: TypeAlias = bytes
"""One encoded component: type, length and value."""

IMPLICIT_DIGEST: Final = 1
PARAMETERS_DIGEST: Final = 2
GENERIC: Final = 8
KEYWORD: Final = 32
SEGMENT: Final = 50
BYTE_OFFSET: Final = 52
VERSION: Final = 54
TIMESTAMP: Final = 56
SEQUENCE: Final = 58

_NUMBERED: Final = {"seg": SEGMENT, "off": BYTE_OFFSET, "v": VERSION, "t": TIMESTAMP, "seq": SEQUENCE}
_NUMBERED_BY_TYPE: Final = {number: text for text, number in _NUMBERED.items()}
DIGEST_BYTES: Final = 34
"""An implicit digest as a component: type, length and SHA-256."""
_DIGEST_HEAD: Final = bytes((IMPLICIT_DIGEST, 32))
_DIGESTS: Final = {"sha256digest": IMPLICIT_DIGEST, "params-sha256": PARAMETERS_DIGEST}
_DIGESTS_BY_TYPE: Final = {number: text for text, number in _DIGESTS.items()}
_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

METADATA: Final[Component] = encode_tlv(KEYWORD, b"metadata")
PROGRESS: Final[Component] = encode_tlv(KEYWORD, b"progress")
"""The `32=metadata` component of RDR discovery."""

ROOT: Final[Name] = b""


def generic(value: str | bytes) -> Component:
    return encode_tlv(GENERIC, value.encode() if isinstance(value, str) else value)


def keyword(value: str) -> Component:
    return encode_tlv(KEYWORD, value.encode())


def segment(number: int) -> Component:
    return encode_tlv(SEGMENT, encode_nonneg(number))


def version(number: int) -> Component:
    return encode_tlv(VERSION, encode_nonneg(number))


def timestamp(number: int) -> Component:
    """`number` in microseconds of the Unix epoch."""
    return encode_tlv(TIMESTAMP, encode_nonneg(number))


def sequence(number: int) -> Component:
    """A SequenceNumNameComponent."""
    return encode_tlv(SEQUENCE, encode_nonneg(number))


def parameters_digest(digest: bytes) -> Component:
    return encode_tlv(PARAMETERS_DIGEST, digest)


def implicit_digest(digest: bytes) -> Component:
    return encode_tlv(IMPLICIT_DIGEST, digest)


def components(name: Name) -> list[Component]:
    """The encoded components of a name. Raises BadPacket when the bytes are not whole components."""
    parts = []
    offset, end = 0, len(name)
    while offset < end:
        after = offset + 2  # names are cut for every packet: the common case (see read_header) without a call
        if after <= end and 0 < name[offset] < 253 and name[offset + 1] < 253 and after + name[offset + 1] <= end:
            after += name[offset + 1]
        else:
            after = read_header(name, offset, end)[2]
        parts.append(name[offset:after])
        offset = after
    return parts


def component_type(component: Component) -> int:
    return read_header(component, 0, len(component))[0]


def component_value(component: Component) -> bytes:
    _, value, after = read_header(component, 0, len(component))
    return component[value:after]


def component_number(component: Component, expected_type: int) -> int:
    """The number of a segment, version, timestamp or sequence component. Raises BadPacket for any other."""
    type_number, value, after = read_header(component, 0, len(component))
    if type_number != expected_type:
        raise BadPacket(f"expected a name component of type {expected_type}, got {type_number}")
    return decode_nonneg(component[value:after])


def ends_in_digest(name: Name) -> bool:
    """Whether the last component is an implicit digest: the last DIGEST_BYTES bytes. A longer component may have
    the same bytes there, so what looks like a digest is parsed."""
    return name[-DIGEST_BYTES : 2 - DIGEST_BYTES] == _DIGEST_HEAD and prefix_ends(name)[-2] == len(name) - DIGEST_BYTES


def prefix(name: Name, count: int) -> Name:
    """The first `count` components (all but the last -count when negative)."""
    return b"".join(components(name)[:count])


def prefix_ends(name: Name) -> list[int]:
    """Byte offsets after 0, 1, ... all components: `name[:ends[i]]` is the prefix of i components."""
    ends = [0]
    offset, end = 0, len(name)
    while offset < end:
        after = offset + 2  # as in `components`
        if after <= end and 0 < name[offset] < 253 and name[offset + 1] < 253 and after + name[offset + 1] <= end:
            offset = after + name[offset + 1]
        else:
            offset = read_header(name, offset, end)[2]
        ends.append(offset)
    return ends


def encode_name(name: Name) -> bytes:
    """The Name TLV."""
    length = len(name)
    if length < 253:
        return bytes((0x07, length)) + name
    return b"\x07" + encode_number(length) + name


def decode_name(buffer: Buffer, value: int, end: int) -> Name:
    """Check that the bytes of a Name's value are whole components and return them. Raises BadPacket."""
    name = bytes(buffer[value:end])
    offset, size = 0, len(name)
    while offset < size:
        after = offset + 2  # as in `components`; types 1 and 2 are digests
        if after <= size and 2 < name[offset] < 253 and name[offset + 1] < 253 and after + name[offset + 1] <= size:
            offset = after + name[offset + 1]
            continue
        type_number, start, offset = read_header(name, offset, size)
        if type_number > 0xFFFF or (type_number in _DIGESTS_BY_TYPE and offset - start != 32):
            raise BadPacket("a name component has a bad type or a digest of the wrong size")
    return name


def last_version(name: Name) -> int:
    """The version that a name ends in. Raises BadPacket where it ends otherwise."""
    return component_number(components(name)[-1], VERSION)


def from_uri(uri: str) -> Name:
    """Parse `/a/b`, `ndn:/a/b`, `v=1`, `32=metadata`, `seg=0`, `params-sha256=<hex>` and percent escapes.

    Raises BadName with the offending component.
    """
    text = uri.removeprefix("ndn:")
    if not text.startswith("/"):
        raise BadName(f"a name starts with '/': {uri!r}")
    text = text.strip("/")
    return b"".join(component_from_uri(part) for part in text.split("/")) if text else ROOT


def component_from_uri(text: str) -> Component:
    label, separator, rest = text.partition("=")
    try:
        if separator and label in _NUMBERED:
            return encode_tlv(_NUMBERED[label], encode_nonneg(_unsigned(rest)))
        if separator and label in _DIGESTS:
            digest = bytes.fromhex(rest)
            if len(digest) != 32:
                raise ValueError("a digest has 32 bytes")
            return encode_tlv(_DIGESTS[label], digest)
        if separator and label.isascii() and label.isdigit():
            number = int(label)
            if not 0 < number < 0x10000:
                raise ValueError("component types are 1 to 65535")
            value = _unescape(rest)
            if number in _DIGESTS_BY_TYPE and len(value) != 32:
                raise ValueError("a digest has 32 bytes")
            return encode_tlv(number, value)
        return encode_tlv(GENERIC, _unescape(text))
    except (ValueError, OverflowError) as error:
        raise BadName(f"bad name component {text!r}: {error}") from error


def _unsigned(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("not a number")
    number = int(text)
    if number >= 1 << 64:
        raise ValueError("out of range")
    return number


def _unescape(text: str) -> bytes:
    value = unquote_to_bytes(text)
    if not value.strip(b"."):
        # "...": n dots stand for n-3 dots, so that "." and ".." stay free for relative paths.
        if len(value) < 3:
            raise ValueError("empty components are written '...'")
        return value[3:]
    return value


def component_to_uri(component: Component) -> str:
    type_number, value_at, after = read_header(component, 0, len(component))
    value = component[value_at:after]
    if type_number in _NUMBERED_BY_TYPE:
        number = int.from_bytes(value[:8], "big")
        if value == encode_nonneg(number):  # a longer form of the number is another component
            return f"{_NUMBERED_BY_TYPE[type_number]}={number}"
    if type_number in _DIGESTS_BY_TYPE and len(value) == 32:
        return f"{_DIGESTS_BY_TYPE[type_number]}={value.hex()}"
    if value.translate(None, _PLAIN):
        text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value)
    else:
        text = value.decode("ascii")
    if not value.strip(b"."):
        text += "..."
    return text if type_number == GENERIC else f"{type_number}={text}"


def to_uri(name: Name) -> str:
    """The canonical URI of a name; `from_uri(to_uri(name)) == name`."""
    return "/" + "/".join(component_to_uri(part) for part in components(name))


def split_version(name: Name) -> tuple[Name, int | None]:
    """(base name, version) of a name that ends in a version component; (the name, None) for others."""
    parts = components(name)
    if parts and component_type(parts[-1]) == VERSION:
        return name[: -len(parts[-1])], component_number(parts[-1], VERSION)
    return name, None
