"""Text into words, queries into terms; and the words against what PostgreSQL does with them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adk_psqlpy.memory.words import LONGEST_TEXT, LONGEST_WORD, MOST_TERMS, Terms, fold, terms, words
from servers import Database, run_sql
from where import makes_tables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("don't e-mail me_at 3.14 foo@bar.com", "don t e mail me at 3 14 foo bar com"),
        ("Café Łódź STRASSE straße Ørsted İstanbul", "cafe lodz strasse strasse orsted istanbul"),
        ("за́мок ёлка йога Київ", "замок елка йога київ"),
        ("Ελλάδα ΌΧΙ ᾠδή", "ελλαδα οχι ωδη"),
        ("سَلَام می\u200cخواهم שָׁלוֹם", "سلام میخواهم שלום"),
        ("हिन्दी में", "हिन्दी में"),
        ("ﬁn １２３ co\u00adoperate", "fin 123 cooperate"),
        ("東京都", "東京 京都 都"),
        ("犬", "犬"),
        ("私はPythonを使う。犬", "私は は python を使 使う う 犬"),
        ("ｶﾞｷﾞ", "ガギ ギ"),
        ("학교에서", "학교 교에 에서 서"),
        ("Pythonом", "python ом"),
        ("\0 \ud800 ?! 🎉", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    """As they are indexed."""
    assert words(text) == expected


@pytest.mark.parametrize(
    ("query", "wanted", "unwanted"),
    [
        ("new shoes", ["'shoes'", "'new'"], []),
        ('"New York" shoes', ["'new' <-> 'york'", "'shoes'"], []),
        ("shoes -red", ["'shoes'"], ["'red'"]),
        ('shoes -"dark red"', ["'shoes'"], ["'dark' <-> 'red'"]),
        ("shoes -e-mail", ["'shoes'"], ["'e' <-> 'mail'"]),
        ("-red -blue", ["'blue'", "'red'"], []),
        ("-5 a - b --verbose e-mail", ["'verbose'", "'mail'", "'5'", "'a'", "'b'", "'e'"], []),
        ("cats OR dogs", ["'cats'", "'dogs'"], []),
        ("東京都", ["'東京'", "'京都'"], []),
        ('"東京都"', ["'東京' <-> '京都'"], []),
        ('"東京都 tower"', ["'東京' <-> '京都' <-> '都' <-> 'tower'"], []),
        ("犬", ["'犬':*"], []),
        ('"犬" -猫', ["'犬':*"], ["'猫':*"]),
        ('"unclosed quote', ["'unclosed'", "'quote'"], []),
        ('"" "!" -', [], []),
        ("", [], []),
    ],
)
def test_terms(query: str, wanted: list[str], unwanted: list[str]) -> None:
    """Words, phrases and what is excluded; the longest first."""
    found = terms(query)
    assert (sorted(found.any), sorted(found.none)) == (sorted(wanted), sorted(unwanted))
    assert found.any == sorted(found.any, key=lambda term: -len(term.replace("' <-> '", "")))


def test_bounds() -> None:
    """Long texts, words and queries are cut, at the end of a word."""
    assert words("x" * 1_000) == "x" * LONGEST_WORD
    assert terms("x" * 1_000) == Terms([f"'{'x' * LONGEST_WORD}'"], [])
    for text in (" ".join(f"w{n}" for n in range(200_000)), "é " * 200_000, "東京都" * 100_000):
        indexed = words(text)
        assert LONGEST_TEXT - 20 < len(indexed.encode()) <= LONGEST_TEXT
        assert words(text[:1_000]).split(" ")[:150] == indexed.split(" ")[:150]
    many = terms(" ".join(f"w{n}" for n in range(5_000)) + " zanzibar")
    assert len(many.any) == MOST_TERMS
    assert many.any[0] == "'zanzibar'"


@given(st.text())
def test_words_are_plain(text: str) -> None:
    """No word holds what means something in a tsquery, and words of words are the same words."""
    indexed = words(text)
    assert not set(indexed) & set("'\\\"&|!():*<>\0\t\n")
    indexed.encode()
    assert fold(indexed) == indexed


@makes_tables
def test_accents_are_folded_as_the_extension_would(database: Database) -> None:
    """Of all letters of the alphabets of living languages, those that `unaccent` folds; it is not needed."""
    (available,) = run_sql(database.dsn, "SELECT name FROM pg_available_extensions WHERE name = 'unaccent'")
    if not available:
        pytest.skip("this server has no unaccent to compare with")
    blocks = [*range(0xC0, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x2000)]
    letters = [chr(code) for code in blocks if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lt")]
    run_sql(database.dsn, "CREATE EXTENSION unaccent")
    (rows,) = run_sql(
        database.dsn,
        f"SELECT x, unaccent(x) AS bare FROM unnest(string_to_array('{' '.join(letters)}', ' ')) AS x",
    )
    assert len(rows) == len(letters) > 900
    others = {row["x"] for row in rows if fold(row["x"]) != fold(row["bare"])}
    # Of medieval or phonetic use; and ŀ, which is written as l and a middle dot, is folded to that.
    assert others <= set("ĿŀƐƕƖƢƣȸȹɄẚẜẝỺỻỼỽ"), others


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "builtin"])
def test_words_survive_the_servers_parser(database: Database, locale: str) -> None:
    """Whatever the locale thinks a letter is: each word of a text is found again in its tsvector."""
    options = f"LC_COLLATE '{locale}' LC_CTYPE '{locale}'"
    if locale == "builtin":
        if database.server.version < 170000:
            pytest.skip("PostgreSQL 17 brought the builtin provider")
        options = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
    other = f"{database.name}_{locale.replace('.', '').replace('-', '').lower()}"
    run_sql(database.dsn, f"CREATE DATABASE {other} TEMPLATE template0 ENCODING 'UTF8' {options}")
    try:
        text = (
            "東京都 犬 ガギ 학교에서 привет ελλαδα हिन्दी สวัสดี cafe abc123 1e5 0x1f سلام " + "ɛ ƕ 𠮷野家 1st"
        )
        for config in ("simple", "english"):
            for term in terms(text).any:
                (rows,) = run_sql(
                    database.server.database_dsn(other),
                    f"SELECT to_tsvector('{config}', '{words(text)}') @@ to_tsquery('{config}', $${term}$$) "
                    "AS hit",
                )
                assert rows[0]["hit"], (config, term)
    finally:
        run_sql(database.dsn, f"DROP DATABASE {other} WITH (FORCE)")
