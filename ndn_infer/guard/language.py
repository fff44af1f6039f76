"""In which language a text is, as far as scripts and common words tell.

Owns: this guess. Must not know: what follows from it. Languages that share a script are told apart by the words that
most of their sentences have; a text too short to tell is of no language.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

_COMMON: Final = {
    "en": "the of and to in is that it for was on are with as be this have from or by not you at which but they we an",
    "de": "der die und das ist nicht ein eine zu den mit von auf für im dem sich des auch es an wird sind wie ich als",
    "fr": "le la les de des et est une un que dans pour pas sur qui au du ce il elle avec sont par plus nous vous ne",
    "es": "el la los las de y que en es un una por con para no se del al como más lo su pero son este está muy",
    "it": "il la di e che è un una per non con del si le dei nel della sono come più anche gli da questo lo ma al",
    "pt": "o a os as de e que é um uma para não com do da em no na por se mais como ao dos das são mas foi",
    "nl": "de het een en van is dat in te niet op zijn voor met die aan er ook als bij maar worden naar wat dit ik",
    "pl": "i w nie na się z że do to jest jak o ale od po są tak przez dla co czy który tego oraz być",
    "tr": "ve bir bu da de için ile çok olan olarak daha ne gibi ama en kadar var değil ben sonra",
}
_SCRIPTS: Final = {
    "CYRILLIC": "ru", "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko",
    "CJK": "zh", "DEVANAGARI": "hi", "THAI": "th",
}  # fmt: skip
LANGUAGES: Final = tuple(sorted({*_COMMON, *_SCRIPTS.values()}))
LEAST_WORDS: Final = 8
_LEAST_SHARE: Final = 0.12
_WORD: Final = re.compile(r"[^\W\d_]+")
_SETS: Final = {language: frozenset(words.split()) for language, words in _COMMON.items()}


@lru_cache(4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0].partition("-")[0]


def language_of(text: str) -> str:
    """ISO 639-1, one of LANGUAGES; "" where it cannot be told."""
    letters = Counter(_script(char) for char in text if char.isalpha())
    total = sum(letters.values())
    if not total:
        return ""
    script, count = letters.most_common(1)[0]
    if script in _SCRIPTS and count * 2 > total and total >= LEAST_WORDS:
        return "ja" if script == "CJK" and letters["HIRAGANA"] * 10 > total else _SCRIPTS[script]
    words = [word.lower() for word in _WORD.findall(text)]
    if script != "LATIN" or len(words) < LEAST_WORDS:
        return ""
    shares = {language: sum(word in common for word in words) / len(words) for language, common in _SETS.items()}
    best, second = sorted(shares, key=shares.__getitem__, reverse=True)[:2]
    return best if shares[best] >= _LEAST_SHARE and shares[best] >= 1.3 * shares[second] else ""
