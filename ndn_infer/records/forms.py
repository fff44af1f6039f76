"""Forms: how a value of one type is written, read and checked against its bounds.

Owns: the two kinds of records, one form for each kind of type, and the rule that every field has a bound. Must not
know: any one record, msgpack's bytes (codec.py).

A form is made once from a field's type. Its `most` is the number of bytes that its largest value takes; `says` are the
bounds in words. `write` and `read` raise BadRecord with the field's name.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, ClassVar, Final, Protocol, Union, get_args, get_origin, get_type_hints

from ndn_infer.errors import BadRecord
from ndn_infer.records.bounds import AtMost, Between, Bound, Clipped, Hex, OneOf, Packed

_HEADER: Final = 5
"""Bytes that msgpack puts before a string, a list or a map, at most."""
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records: frozen dataclasses of str, bytes, int, float, bool, None, tuples and records, each field
    with a bound in its type. `max_bytes`: what all of it may take, where that is less than all fields at their most.
    Every record is a Request or a Reply, and so are the records in it."""

    max_bytes: ClassVar[int] = 2 << 20
    tolerant: ClassVar[bool]
    """Whether a reader skips fields that it does not know."""


@dataclass(frozen=True, slots=True)
class Request(Record):
    """A record that asks for something. Unknown fields are rejected: whoever answers understands the whole question,
    and equal questions have equal bytes, whose digest is the name of a call."""

    tolerant: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Reply(Record):
    """A record that tells something: answers, events, status, catalogue, content of objects. Fields of newer senders
    are skipped, so a class may gain fields with a default. A new field adds to what the others say and does not change
    their meaning."""

    tolerant: ClassVar[bool] = True


NEWER_BYTES: Final = 1024
"""What a reply may have beyond its known fields at their most, for fields of newer senders."""


class Source(Protocol):
    """Where values are read from: msgpack.Unpacker."""

    def unpack(self) -> Any: ...

    def read_array_header(self) -> int: ...

    def read_map_header(self) -> int: ...

    def skip(self) -> None: ...


class Form:
    """A bool; base of the others."""

    kind: type[Any] = bool
    most = 1
    says = ""

    def __init__(self, where: str) -> None:
        self.where = where

    def write(self, value: Any) -> Any:
        self.check(value)
        return value

    def read(self, source: Source) -> Any:
        value = source.unpack()
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise self.mistyped()

    def mistyped(self) -> BadRecord:
        return BadRecord(f"{self.where} is not of type {self.kind.__name__}")

    def refuse(self, given: object) -> BadRecord:
        return BadRecord(f"{self.where} is {self.says}, not {given}")


class IntForm(Form):
    kind: type[Any] = int
    most = 9

    def __init__(self, where: str, bound: Between) -> None:
        super().__init__(where)
        self.bound, self.says = bound, str(bound)

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise self.mistyped()
        if not self.bound.low <= value <= self.bound.high:
            raise self.refuse(value)


class FloatForm(IntForm):
    """Ints are taken too, and written as the float that they are: equal requests have equal names."""

    kind: type[Any] = float

    def write(self, value: Any) -> Any:
        return self._taken(value)

    def read(self, source: Source) -> Any:
        return self._taken(source.unpack())

    def _taken(self, value: Any) -> float:
        # An int too large for a float is out of every bound.
        taken = float(value) if isinstance(value, float) or (type(value) is int and abs(value) < 1 << 64) else value
        self.check(taken)
        return taken


class LengthForm(Form):
    """A str or bytes."""

    def __init__(self, where: str, kind: type, bound: AtMost) -> None:
        super().__init__(where)
        self.kind, self.bound = kind, bound
        self.says = f"{bound} {'characters' if kind is str else 'bytes'}"
        self.most = _HEADER + bound.most * (4 if kind is str else 1)

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise self.mistyped()
        if not self.bound.least <= len(value) <= self.bound.most:
            raise self.refuse(len(value))


class ClippedForm(LengthForm):
    def __init__(self, where: str, bound: Clipped) -> None:
        super().__init__(where, str, AtMost(bound.most))
        self.says = str(bound)

    def write(self, value: Any) -> Any:
        return super().write(value[: self.bound.most].encode(errors="replace").decode())


class WordForm(Form):
    kind = str

    def __init__(self, where: str, bound: OneOf) -> None:
        super().__init__(where)
        self.bound, self.says = bound, str(bound)
        self.most = _HEADER + max(len(word.encode()) for word in bound.words)

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise self.mistyped()
        if value not in self.bound.words:
            raise self.refuse(repr(value[:32]))


class HexForm(Form):
    kind = str

    def __init__(self, where: str, bound: Hex) -> None:
        super().__init__(where)
        self.size, self.says = 2 * bound.size, str(bound)
        self.most = _HEADER + self.size

    def check(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise self.mistyped()
        if len(value) != self.size or not _HEX.issuperset(value):
            raise self.refuse(repr(value[:80]))


class PackedForm(Form):
    """Token ids: their number and their range are known before any of them is looked at."""

    kind = tuple

    def __init__(self, where: str, bound: Packed) -> None:
        super().__init__(where)
        self.bound, self.says = bound, str(bound)
        self.most = _HEADER + 4 * bound.most

    def write(self, value: Any) -> bytes:
        self.check(value)
        if len(value) > self.bound.most:
            raise self.refuse(len(value))
        try:
            return struct.pack(f"<{len(value)}I", *value)
        except struct.error as error:
            raise BadRecord(f"{self.where} holds something other than token ids: {error}") from error

    def read(self, source: Source) -> tuple[int, ...]:
        packed = source.unpack()
        if type(packed) is not bytes or len(packed) % 4:
            raise BadRecord(f"{self.where} is not packed token ids")
        if len(packed) > 4 * self.bound.most:
            raise self.refuse(len(packed) // 4)
        return struct.unpack(f"<{len(packed) // 4}I", packed)


class ListForm(Form):
    kind = tuple

    def __init__(self, where: str, element: Form, bound: AtMost) -> None:
        super().__init__(where)
        self.element, self.bound = element, bound
        self.says = f"{bound}" + (f", each {element.says}" if element.says else "")
        self.most = _HEADER + bound.most * element.most

    def write(self, value: Any) -> list[Any]:
        self.check(value)
        self._check_count(len(value))
        return [self.element.write(item) for item in value]

    def read(self, source: Source) -> tuple[Any, ...]:
        count = source.read_array_header()
        self._check_count(count)
        return tuple(self.element.read(source) for _ in range(count))

    def _check_count(self, count: int) -> None:
        if not self.bound.least <= count <= self.bound.most:
            raise BadRecord(f"{self.where} has {self.bound} elements, not {count}")


class FixedForm(Form):
    """A tuple of so many elements, each with a type of its own."""

    kind = tuple

    def __init__(self, where: str, elements: tuple[Form, ...]) -> None:
        super().__init__(where)
        self.elements = elements
        self.says = "(" + ", ".join(element.says for element in elements) + ")"
        self.most = _HEADER + sum(element.most for element in elements)

    def write(self, value: Any) -> list[Any]:
        self.check(value)
        self._check_count(len(value))
        return [element.write(item) for element, item in zip(self.elements, value, strict=True)]

    def read(self, source: Source) -> tuple[Any, ...]:
        self._check_count(source.read_array_header())
        return tuple(element.read(source) for element in self.elements)

    def _check_count(self, count: int) -> None:
        if count != len(self.elements):
            raise BadRecord(f"{self.where} has {count} elements, expected {len(self.elements)}")


class OptionalForm(Form):
    """None, or a record. None is the default and so never written; what is read is a record."""

    def __init__(self, where: str, inner: Form) -> None:
        super().__init__(where)
        self.inner, self.most, self.says = inner, inner.most, inner.says

    def write(self, value: Any) -> Any:
        return None if value is None else self.inner.write(value)

    def read(self, source: Source) -> Any:
        return self.inner.read(source)


class RecordForm(Form):
    """A record: a map of the fields that are not at their default."""

    def __init__(self, cls: type[Record], where: str = "") -> None:
        super().__init__(where or cls.__name__)
        self.kind = cls
        hints = get_type_hints(cls, include_extras=True)
        items = sorted(fields(cls), key=lambda item: item.name)
        self.forms = {item.name: form_of(hints[item.name], f"{cls.__name__}.{item.name}") for item in items}
        self.defaults = {item.name: item.default for item in items}
        self._required = [item.name for item in items if item.default is MISSING]
        self.tolerant = _tolerance(cls, self.forms.values())
        known = sum(1 + len(name) + form.most for name, form in self.forms.items())
        self.most = min(cls.max_bytes, _HEADER + known + (NEWER_BYTES if self.tolerant else 0))
        self.says = f"a {cls.__name__}"

    @staticmethod
    def of(cls: type[Record]) -> RecordForm:
        form = _OF_RECORDS.get(cls)
        if form is None:
            form = _OF_RECORDS[cls] = RecordForm(cls)
        return form

    def write(self, value: Any) -> dict[str, Any]:
        self.check(value)
        plain = {}
        for name, form in self.forms.items():
            current = getattr(value, name)
            if current != self.defaults[name]:
                plain[name] = form.write(current)
        return plain

    def read(self, source: Source) -> Any:
        values: dict[str, Any] = {}
        for _ in range(self._entries(source)):
            name = source.unpack()
            form = self.forms.get(name) if type(name) is str else None
            if form is None:
                if not self.tolerant or type(name) is not str:
                    raise BadRecord(f"{self.where} has unknown fields: {str(name)[:64]}")
                source.skip()
                continue
            if name in values:
                raise BadRecord(f"{self.where} has the field {name} twice")
            values[name] = form.read(source)
        missing = [name for name in self._required if name not in values]
        if missing:
            raise BadRecord(f"{self.where} lacks {', '.join(missing)}")
        return self.kind(**values)

    def _entries(self, source: Source) -> int:
        try:
            return source.read_map_header()
        except ValueError as error:
            raise BadRecord(f"{self.where} is not a {self.kind.__name__}") from error


def _tolerance(cls: type[Record], forms: Iterable[Form]) -> bool:
    """Whether `cls` is a Reply. Raises TypeError where it is no kind of record, or holds one of the other kind."""
    if not issubclass(cls, Request | Reply):
        raise TypeError(f"{cls.__name__} is neither a Request nor a Reply (records/forms.py)")
    inner = list(forms)
    while inner:
        match inner.pop():
            case RecordForm() as form if form.tolerant != cls.tolerant:
                kind = "Reply" if cls.tolerant else "Request"
                raise TypeError(f"{cls.__name__} is a {kind}, and {form.where} is not")
            case ListForm(element=element) | OptionalForm(inner=element):
                inner.append(element)
            case FixedForm(elements=elements):
                inner.extend(elements)
    return cls.tolerant


_OF_RECORDS: Final[dict[type[Record], RecordForm]] = {}


def form_of(hint: Any, where: str) -> Form:
    """The form of a field's type. Raises TypeError for a type without a bound: a defect of whoever wrote it."""
    bound: Bound | None = None
    if get_origin(hint) is Annotated:
        hint, bound = get_args(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(option for option in arguments if option is not type(None))
        return OptionalForm(where, form_of(inner, where))
    if origin is tuple:
        return _of_tuple(where, arguments, bound)
    if isinstance(hint, type) and issubclass(hint, Record):
        return RecordForm(hint, where)
    if hint is bool:
        return Form(where)
    return _of_scalar(where, hint, bound)


def _of_tuple(where: str, arguments: tuple[Any, ...], bound: Bound | None) -> Form:
    match bound:
        case Packed() if arguments == (int, ...):
            return PackedForm(where, bound)
        case AtMost() if arguments[1:] == (...,):
            return ListForm(where, form_of(arguments[0], where), bound)
        case None if ... not in arguments:
            return FixedForm(where, tuple(form_of(argument, where) for argument in arguments))
    raise TypeError(f"{where}: a tuple needs a bound, as in Annotated[tuple[...], AtMost(8)] (records/bounds.py)")


def _of_scalar(where: str, hint: Any, bound: Bound | None) -> Form:
    match bound:
        case Between() if hint is int:
            return IntForm(where, bound)
        case Between() if hint is float:
            return FloatForm(where, bound)
        case AtMost() if hint in (str, bytes):
            return LengthForm(where, hint, bound)
        case Clipped() if hint is str:
            return ClippedForm(where, bound)
        case OneOf() if hint is str:
            return WordForm(where, bound)
        case Hex() if hint is str:
            return HexForm(where, bound)
    raise TypeError(f"{where}: {hint} needs a bound, as in Annotated[str, AtMost(64)] (records/bounds.py)")
