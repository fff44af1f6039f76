"""The fields of a JSON request, each read once, as what it has to be.

Owns: bytes to JSON (strictly), and JSON values to Python values with an error that names the field. Pure. Must not
know: which fields a request has.

A field that nobody read is an error: what the gateway does not do is said, never skipped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from ndn_infer.gateway.refusal import Refusal, bad

MAX_NAME: Final = 80
"""Characters of a field's name, or of a value, that an error shows."""


def read_json(body: bytes) -> dict[str, Any]:
    """The object in a body. Raises Refusal: not UTF-8, not JSON (NaN and infinity are not), nested too deep, a key
    twice, no object."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except UnicodeDecodeError as error:
        raise bad(f"the body is not UTF-8 (byte {error.start + 1})") from error
    except RecursionError as error:
        raise bad("the body is nested too deep") from error
    except ValueError as error:
        raise bad(f"the body is not JSON: {shown(str(error))}") from error
    if not isinstance(value, dict):
        raise bad("the body must be a JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def shown(value: object) -> str:
    """A value in an error's text: printable and short."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: MAX_NAME + 1])
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 3]}..."


def text_of(value: object, where: str, most: int = 1 << 20) -> str:
    """A text. Raises Refusal for what is none, has lone surrogates or is too long."""
    if not isinstance(value, str):
        raise bad(f"{where} must be a string", where)
    if len(value) > most:
        raise bad(f"{where} has {len(value)} characters, and {most} are the most", where)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise bad(f"{where} is not Unicode text (character {error.start + 1})", where) from error
    return value


def number_of(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad(f"{where} must be a number", where)
    try:
        number = float(value)
    except OverflowError as error:
        raise bad(f"{where} is too large", where) from error
    if not math.isfinite(number):
        raise bad(f"{where} must be finite", where)
    return number


def integer_of(value: object, where: str) -> int:
    """An int, or a float that is one (1.0), as JSON does not tell them apart."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(f"{where} must be an integer", where)
    return value


class Fields:
    """A JSON object whose fields are taken one after the other. null is as good as absent, as OpenAI's clients send it.
    `where` is the path of the object in the request, with a dot at its end, for errors."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self._left = dict(values)
        self._where = where

        self._given: dict[str, str] = {}

    @classmethod
    def of(cls, value: Any, where: str) -> Fields:
        """The object at the path `where`. Raises Refusal for what is none."""
        if not isinstance(value, dict):
            raise bad(f"{where} must be an object", where)
        return cls(value, f"{where}.")

    def path(self, name: str) -> str:
        return f"{self._where}{self._given.get(name, name)}"

    def take(self, name: str) -> Any:
        """The value, None when it is absent."""
        return self._left.pop(self._given.get(name, name), None)

    def look(self, name: str) -> Any:
        """The value, which stays to be taken."""
        return self._left.get(self._given.get(name, name))

    def known_as(self, given: str, name: str) -> None:
        """From here on `name` is what the request calls `given`."""
        self._given[name] = given

    def expect(self, names: Collection[str]) -> None:
        """Raises Refusal for a field that is none of these. For a form whose readers share some with another form, and
        so know fields that this one has not."""
        for name in self._left:
            if name not in names:
                raise self._unknown(name)

    def text(self, name: str, most: int = 1 << 20) -> str | None:
        value = self.take(name)
        return None if value is None else text_of(value, self.path(name), most)

    def number(self, name: str) -> float | None:
        value = self.take(name)
        return None if value is None else number_of(value, self.path(name))

    def integer(self, name: str) -> int | None:
        value = self.take(name)
        return None if value is None else integer_of(value, self.path(name))

    def flag(self, name: str, absent: bool = False) -> bool:
        """`absent` when it is absent."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise bad(f"{self.path(name)} must be true or false", self.path(name))
        return absent if value is None else value

    def items(self, name: str, most: int) -> list[Any] | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise bad(f"{self.path(name)} must be an array", self.path(name))
        if len(value) > most:
            raise bad(f"{self.path(name)} has {len(value)} items, and {most} are the most", self.path(name))
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise bad(f"{self.path(name)} must be an object", self.path(name))
        return value

    def only(self, name: str, *allowed: Any, instead: str = "") -> None:
        """A parameter that is not supported, but for values that ask for nothing. `instead`: what to use."""
        value = self.take(name)
        if value is None or any(type(value) is type(one) and value == one for one in allowed):
            return
        words = f"{self.path(name)} is not supported"
        if allowed:
            words += f" but as {' or '.join(map(repr, allowed))}"
        if instead:
            words += f": use {instead}"
        raise bad(words, self.path(name), "unsupported_parameter")

    def end(self) -> None:
        """Raises Refusal for fields that nobody took."""
        for name in self._left:
            raise self._unknown(name)

    def _unknown(self, name: str) -> Refusal:
        path = shown(f"{self._where}{name}")
        return bad(f"there is no parameter {path} here", path, "unknown_parameter")
