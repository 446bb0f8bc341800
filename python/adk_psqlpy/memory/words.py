"""Text into the words that are indexed, and a query into what is looked for.

This happens here and not in PostgreSQL's parser because that one goes by the locale of the database, keeps
Chinese or Japanese sentences in one piece, and folds accents only with an extension; an index must not depend
on which of these a server has. What is left to the server is the language: stemming and stop words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

LONGEST_TEXT: Final = 262_144
"""Bytes of words that are indexed of one memory. A tsvector holds 1 MiB (manual, 11.2), and a word takes up
to four bytes more there than its letters."""

LONGEST_WORD: Final = 255
"""Characters of a word that are indexed. A lexeme holds 2,046 bytes (manual, 11.2)."""

LONGEST_QUERY: Final = 65_536
"""Characters of a query that are read."""

MOST_TERMS: Final = 64
"""Terms of a query that are looked for: the longest ones, since short words are the common ones."""

# Scripts written without spaces between words, and Hangul, whose particles stick to the word before: cut into
# pairs of characters that overlap. Han, kana, bopomofo, Hangul; Thai, Lao, Myanmar, Khmer.
_PAIRED: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003fffd\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)
# Signs that belong to a word and that `\w` leaves out: above all the vowel signs of the Indic scripts.
_SIGNS: Final = "\u06d6-\u06dc\u06df-\u06e4\u06e7-\u06ed\u0900-\u0963\u0966-\u0dff\u0f18-\u0fbc"
_PIECES: Final = re.compile(f"([{_PAIRED}]+)|([a-z0-9]+)|(?:[^\\W_a-z0-9{_PAIRED}]|[{_SIGNS}])+")
# Marks over letters, and the vowel points of Hebrew and Arabic, which are mostly left out. Cyrillic keeps
# those that make another letter (й, ї), but no stress.
_MARKS: Final = re.compile(
    "(?<![\u0400-\u052f])[\u0300-\u036f]+|(?<=[\u0400-\u052f])[\u0300\u0301]+|(?<=[\u0415\u0435])\u0308"
    "|[\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670]+"
)
_ASCII: Final = re.compile("[a-z0-9]+")
_NAMED: Final = re.compile("LATIN SMALL (?:LETTER|LIGATURE) (?:DOTLESS )?([A-Z]|AE|OE|IJ)(?: WITH .+)?")
_CHUNKS: Final = re.compile('((?<!\\S)-)?"([^"]*)"|([^\\s"]+)')


@cache
def _letters() -> dict[int, str | None]:
    """Latin letters that have no decomposition, such as ø and đ, by what their Unicode names say they are.

    Also what is not seen: the soft hyphen, and the joiners of Persian and the Indic scripts.
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
    """Lower case, no accents, compatibility form: what is to be found by one word becomes one word."""
    if text.isascii():
        return text.lower()
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare).casefold().translate(_letters())


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The words of a text in order, and whether each is a run of a script without spaces."""
    for piece in _PIECES.finditer(fold(text)):
        yield piece[0][:LONGEST_WORD] if not piece[1] else piece[0], bool(piece[1])


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]


def words(text: str) -> str:
    """The words of a text as they are indexed, separated by blanks.

    A run of a script without spaces is its pairs and its last character: any part of it of two characters or
    more is a sequence of pairs, and any single character begins one.
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
    """The characters that begin a pair of `words`, each once.

    A query of one character finds the pairs that it begins. Hashes of words have no beginnings, so where
    words are hashed these are indexed as well.
    """
    if text.isascii():
        return []
    runs = (piece for piece, paired in _pieces(text[:LONGEST_TEXT]) if paired)
    return list(dict.fromkeys(character for run in runs for character in run[:-1]))


@dataclass(frozen=True, slots=True)
class Terms:
    """What a query looks for: `any` of these, `none` of those. Each is in the syntax of `to_tsquery`."""

    any: list[str]
    none: list[str]


def terms(query: str) -> Terms:
    """Read a query as a search engine does: words, "quoted phrases", and -excluded ones.

    Every word counts for itself, since agents search with whole sentences, which no memory holds in full. A
    minus means something before a letter or a quote, at the beginning of a word; where nothing else is
    looked for, it means nothing.
    """
    wanted: dict[str, int] = {}
    unwanted: dict[str, int] = {}
    for minus, phrase, chunk in _CHUNKS.findall(query[:LONGEST_QUERY]):
        if chunk == "OR":  # what is said anyway
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
    """A term a word, with its length in characters."""
    found: dict[str, int] = {}
    for piece, paired in _pieces(text):
        if paired and len(piece) == 1:
            found[f"'{piece}':*"] = 1
        else:
            found |= {f"'{word}'": len(word) for word in (_pairs(piece) if paired else [piece])}
    return found


def _phrase(text: str) -> dict[str, int]:
    """One term for all the words, one behind the other."""
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
