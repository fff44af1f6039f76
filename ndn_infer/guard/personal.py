"""Personal data that has a form: what it looks like, and what tells it from other numbers.

Owns: these patterns, each of a bounded width. Must not know: how a pattern is looked for. Names, streets and the like
have no form: a classifier of the network finds them, or nobody does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple


class PersonalForm(NamedTuple):
    pattern: str
    holds: Callable[[str], bool]


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def luhn(text: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1)."""
    digits = [int(char) for char in _digits(text)]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [value * 2 - 9 * (value > 4) for value in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """The check digits of account numbers (ISO 13616)."""
    plain = re.sub(r"[^A-Za-z0-9]", "", text).upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _ssn(text: str) -> bool:
    area, group, serial = re.split(r"[- ]", text)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _phone(text: str) -> bool:
    """What is written as numbers to call are: with the country's, with the area's in brackets or after 0, or 3-3-4."""
    if not 8 <= len(_digits(text)) <= 15 or re.match(r"(19|20)\d\d[-. ]\d\d?[-. ]\d\d?\b", text):
        return False
    groups = [len(part) for part in re.split(r"[^\d]+", text.strip("()")) if part]
    return text[0] in "+(" or text[0] == "0" or groups == [3, 3, 4]


def _octets(text: str) -> bool:
    return all(int(part) <= 255 for part in text.split("."))


FORMS: Final[dict[str, PersonalForm]] = {
    "email": PersonalForm(
        r"(?<![\w.+-])[A-Za-z0-9._%+-]{1,64} ?(?:@|\(at\)|\[at\]) ?"
        r"(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![\w-])",
        lambda text: True,
    ),
    "phone": PersonalForm(
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{1,5}(?:[ .-]\d{2,5}){1,5}(?![\w-])(?!\.\d)"
        r"|(?<![\w.+-])\+\d{9,15}(?!\w)",
        _phone,
    ),
    "card": PersonalForm(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])(?!\.\d)", luhn),
    "iban": PersonalForm(r"(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,3})?(?!\w)", iban),
    "ssn": PersonalForm(r"(?<![\w-])\d{3}[- ]\d{2}[- ]\d{4}(?![\w-])", _ssn),
    "ip": PersonalForm(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])", _octets),
}

TYPES: Final = tuple(FORMS)
