"""Splitting text into the words that are indexed, and a query into terms.

PostgreSQL's own parser is not used. It depends on the locale of the database, keeps Chinese or Japanese
sentences in one piece, and removes accents only with an extension; an index must not depend on the server's
settings. The server does what depends on the language: stemming and stop words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

LONGEST_TEXT: Final = 262_144
"""The most bytes of words that are indexed for one memory. A tsvector holds 1 MiB (manual, 11.2). In it a
word takes up to four bytes more than its letters.
"""

LONGEST_WORD: Final = 255
"""The most characters of a word that are indexed. A lexeme holds 2,046 bytes (manual, 11.2)."""

LONGEST_QUERY: Final = 65_536
"""The most characters of a query that are read."""

MOST_TERMS: Final = 64
"""The most terms of a query that are looked for. The longest ones are taken, since short words are common."""

# Scripts that have no spaces between words, and Hangul, where particles are written together with the word
# before. They are cut into overlapping pairs of characters. Han, kana, bopomofo, Hangul; Thai, Lao, Myanmar,
# Khmer.
_PAIRED: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003fffd\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)
# Signs that belong to a word but do not match `\w`, mainly the vowel signs of the Indic scripts.
_SIGNS: Final = "\u06d6-\u06dc\u06df-\u06e4\u06e7-\u06ed\u0900-\u0963\u0966-\u0dff\u0f18-\u0fbc"
_PIECES: Final = re.compile(f"([{_PAIRED}]+)|([a-z0-9]+)|(?:[^\\W_a-z0-9{_PAIRED}]|[{_SIGNS}])+")
# Marks over letters, and the vowel points of Hebrew and Arabic, which people mostly do not write. Cyrillic
# keeps marks that make another letter (й, ї), but no stress marks.
_MARKS: Final = re.compile(
    "(?<![\u0400-\u052f])[\u0300-\u036f]+|(?<=[\u0400-\u052f])[\u0300\u0301]+|(?<=[\u0415\u0435])\u0308"
    "|[\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670]+"
)
_ASCII: Final = re.compile("[a-z0-9]+")
_NAMED: Final = re.compile("LATIN SMALL (?:LETTER|LIGATURE) (?:DOTLESS )?([A-Z]|AE|OE|IJ)(?: WITH .+)?")
_CHUNKS: Final = re.compile('((?<!\\S)-)?"([^"]*)"|([^\\s"]+)')


@cache
def _letters() -> dict[int, str | None]:
    """Base letters of Latin letters that have no decomposition, such as ø and đ.

    They are taken from the letters' Unicode names. Invisible characters are removed: the soft hyphen, and the
    joiners of Persian and the Indic scripts.
    """
    table: dict[int, str | None] = {0xAD: None, 0x200B: None, 0x200C: None, 0x200D: None, 0x2060: None}
    table |= {ord("ð"): "d", ord("þ"): "th", ord("ŋ"): "n", ord("ĸ"): "q", ord("ʼ"): "'"}
    for code in (*range(0xC0, 0x250), *range(0x250, 0x2B0), *range(0x1E00, 0x1F00), *range(0x2C60, 0x2C80)):
        letter = chr(code)
        named = _NAMED.fullmatch(unicodedata.name(letter, ""))
        if named and unicodedata.normalize("NFKD", letter) == letter:
            table[code] = named[1].lower()
    return table


def fold(text: str) -> str:
    """Lower case, without accents, in compatibility form, so that different spellings become one word."""
    if text.isascii():
        return text.lower()
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare).casefold().translate(_letters())


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the words of a text in order, and whether each is a run of a script without spaces."""
    for piece in _PIECES.finditer(fold(text)):
        yield piece[0][:LONGEST_WORD] if not piece[1] else piece[0], bool(piece[1])


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]


def words(text: str) -> str:
    """The words of a text that are indexed, separated by blanks.

    A run of a script without spaces becomes its overlapping pairs, and its last character. So each part of it
    with two characters or more is a sequence of pairs, and each single character begins one.
    """
    text = text[:LONGEST_TEXT]
    if text.isascii():
        found = [word[:LONGEST_WORD] for word in _ASCII.findall(text.lower())]
    else:
        found = []
        for piece, paired in _pieces(text):
            found += (*_pairs(piece), piece[-1]) if paired else (piece,)
    joined = " ".join(found)
    if len(joined.encode()) > LONGEST_TEXT:
        joined = joined.encode()[:LONGEST_TEXT].decode(errors="ignore").rpartition(" ")[0]
    return joined


def beginnings(text: str) -> list[str]:
    """The first characters of the pairs in `words`, each once.

    A query of one character finds the pairs that begin with it. A hash has no beginning, so these characters
    are indexed as well if words are hashed.
    """
    if text.isascii():
        return []
    runs = (piece for piece, paired in _pieces(text[:LONGEST_TEXT]) if paired)
    return list(dict.fromkeys(character for run in runs for character in run[:-1]))


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a query: memories must have one of `any`, and none of `none`. Terms are in the syntax of
    `to_tsquery`.
    """

    any: list[str]
    none: list[str]


def terms(query: str) -> Terms:
    """Read a query as a search engine does: words, "quoted phrases", and -excluded ones.

    One matching word is enough, because agents search with whole sentences, which no memory contains in full.
    A minus excludes only at the beginning of a word, before a letter or a quote. If a query has nothing but
    exclusions, they count as ordinary words.
    """
    wanted: dict[str, int] = {}
    unwanted: dict[str, int] = {}
    for minus, phrase, chunk in _CHUNKS.findall(query[:LONGEST_QUERY]):
        if chunk == "OR":  # terms are joined by OR anyway
            continue
        if minus or (chunk[:1] == "-" and chunk[1:2].isalpha()):
            unwanted |= _phrase(phrase or chunk)
        elif phrase:
            wanted |= _phrase(phrase)
        else:
            wanted |= _each(chunk)
    if not wanted:
        wanted, unwanted = unwanted, {}
    return Terms(_longest(wanted), _longest(unwanted))


def _longest(found: dict[str, int]) -> list[str]:
    return sorted(found, key=lambda term: -found[term])[:MOST_TERMS]


def _each(text: str) -> dict[str, int]:
    """A term for each word, with its length in characters."""
    found: dict[str, int] = {}
    for piece, paired in _pieces(text):
        if paired and len(piece) == 1:
            found[f"'{piece}':*"] = 1
        else:
            found |= {f"'{word}'": len(word) for word in (_pairs(piece) if paired else [piece])}
    return found


def _phrase(text: str) -> dict[str, int]:
    """One term for all words, which have to be next to each other in this order."""
    pieces = list(_pieces(text))
    if len(pieces) == 1 and (not pieces[0][1] or len(pieces[0][0]) < 3):
        return _each(text)
    found: list[str] = []
    for place, (piece, paired) in enumerate(pieces):
        if not paired:
            found.append(piece)
            continue
        found += _pairs(piece)
        if place < len(pieces) - 1 or len(piece) == 1:
            found.append(piece[-1])
    return {" <-> ".join(f"'{word}'" for word in found): sum(map(len, found))} if found else {}
