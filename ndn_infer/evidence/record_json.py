"""Records as JSON, and back: for predicates that repeat what a record says.

Owns: that form: an object of the fields that are not at their default. Must not know: any one record.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from ndn_infer import records
from ndn_infer.errors import BadRecord
from ndn_infer.evidence.plain_json import Json
from ndn_infer.records import Record
from ndn_infer.records.forms import FixedForm, Form, ListForm, OptionalForm, RecordForm

R = TypeVar("R", bound=Record)


def plain_of(record: Record) -> dict[str, Json]:
    """Fields that are not at their default."""
    defaults = RecordForm.of(type(record)).defaults
    found = {item.name: getattr(record, item.name) for item in fields(record)}
    return {name: _plain(value) for name, value in found.items() if value != defaults[name]}


def record_of(cls: type[R], value: Any) -> R:
    """The record that `plain_of` made this of. Raises BadRecord for other fields, types and bounds."""
    made: R = _record(RecordForm.of(cls), value)
    records.encode(made)  # looks at all bounds
    return made


def _plain(value: Any) -> Json:
    if isinstance(value, Record):
        return plain_of(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _record(form: RecordForm, value: Any) -> Any:
    if type(value) is not dict or not set(value) <= set(form.forms):
        raise BadRecord(f"{form.where} is an object of its fields")
    try:
        return form.kind(**{name: _read(form.forms[name], item) for name, item in value.items()})
    except TypeError as error:
        raise BadRecord(f"{form.where} lacks a field") from error


def _read(form: Form, value: Any) -> Any:
    match form:
        case RecordForm():
            return _record(form, value)
        case OptionalForm(inner=inner):
            return _read(inner, value)
        case ListForm(element=element) if type(value) is list:
            return tuple(_read(element, item) for item in value)
        case FixedForm(elements=elements) if type(value) is list and len(value) == len(elements):
            return tuple(_read(element, item) for element, item in zip(elements, value, strict=True))
    if form.kind is tuple and type(value) is list:  # packed token ids
        return tuple(value)
    if form.kind is bytes and type(value) is str:
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise BadRecord(f"{form.where} is hex") from error
    return float(value) if form.kind is float and type(value) is int else value
