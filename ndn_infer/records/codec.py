"""The canonical encoding of records: msgpack maps with sorted string keys, decoded as the class that was expected.

Owns: the encoding whose SHA-256 is a request's name, and its decoder. The only module that imports msgpack. Must not
know: any one record, what a field may hold (bounds.py, forms.py). Callers decode a record only from bytes that were
verified (a request's bytes are covered by the digest in its name).

Fields at their default are left out, so adding a field with a default keeps old digests. Decoding names the expected
class: the wire never picks one. Unknown fields are rejected in requests; in replies they are skipped, without building
what they hold, within the bytes that the class may have (forms.py). Bytes are read as the types say, one value after
another: what no type names is never built, so a record takes the memory of what it holds and no multiple of its bytes.
"""

from __future__ import annotations

from typing import TypeVar

import msgpack

from ndn_infer.errors import BadRecord
from ndn_infer.records.forms import Record, RecordForm

R = TypeVar("R", bound=Record)


def encode(record: Record) -> bytes:
    """Canonical bytes of a record. Raises BadRecord where a field is out of its bounds, or all of it too large."""
    cls = type(record)
    form = RecordForm.of(cls)
    try:
        wire: bytes = msgpack.packb(form.write(record), use_bin_type=True)
    except UnicodeEncodeError as error:
        raise BadRecord(f"{cls.__name__} holds text that is not Unicode: {error.reason}") from error
    _check_size(form, len(wire))
    return wire


def decode(cls: type[R], wire: bytes | memoryview) -> R:
    """The record of class `cls` in `wire`. Raises BadRecord for anything else, including unknown fields of a
    Request."""
    form = RecordForm.of(cls)
    _check_size(form, len(wire))
    # No value that is read in one piece may be a container: forms read those element by element.
    source = msgpack.Unpacker(
        raw=False, max_array_len=0, max_map_len=0, max_ext_len=0, read_size=len(wire) + 1, max_buffer_size=len(wire) + 1
    )  # its buffer is as large as it needs; 1 MiB for each record when it is not said
    source.feed(wire)
    try:
        result = form.read(source)
    except (ValueError, msgpack.UnpackException, TypeError) as error:
        raise BadRecord(f"not a {cls.__name__}: {error or 'it ends early'}") from error
    if source.tell() != len(wire):
        raise BadRecord(f"not a {cls.__name__}: bytes follow it")
    assert isinstance(result, cls)
    return result


def most_bytes(cls: type[Record]) -> int:
    """How many bytes a record of this class may have."""
    return RecordForm.of(cls).most


def _check_size(form: RecordForm, size: int) -> None:
    if size > form.most:
        raise BadRecord(f"a {form.kind.__name__} of {size} bytes exceeds {form.most}")
