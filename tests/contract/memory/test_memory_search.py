"""search_memory: what is found, in which order, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contract.events import called, said

from .backends import differs
from .told import found as search
from .told import session, text_of, texts

if TYPE_CHECKING:
    from google.adk.memory import BaseMemoryService

REX = "My dog is called Rex and loves carrots."
OTHERS = ("We talked about the weather.", "The train to Hamburg was late.", "She bought new shoes yesterday.")


@pytest.mark.parametrize("query", ["Rex", "rex", "REX", "carrots", "Rex!", "  rex  ", "rex and nothing else"])
async def test_a_word_finds_what_was_said(memory: BaseMemoryService, query: str) -> None:
    """One word is enough, in any case, with any punctuation about it."""
    await memory.add_session_to_memory(session(REX, *OTHERS))
    assert (await texts(memory, query))[0] == REX


async def test_a_sentence_finds_what_shares_a_word_with_it(memory: BaseMemoryService) -> None:
    """ADK's preload_memory searches with what the user says, which no memory holds in full."""
    await memory.add_session_to_memory(session(REX, *OTHERS))
    assert (await texts(memory, "Could you please remind me what food my dog prefers?"))[0] == REX


async def test_more_words_come_first(memory: BaseMemoryService) -> None:
    """What holds more words of the query comes before what holds fewer."""
    said_before = ["red apples", "green apples and red pears", "pears", "red pears and apples"]
    await memory.add_session_to_memory(session(*said_before))
    assert (await texts(memory, "red apples pears green"))[0] == "green apples and red pears"


@differs(in_memory="every word of the query counts the same")
async def test_a_rare_word_weighs_more_than_common_ones(memory: BaseMemoryService) -> None:
    """Words that stand in nearly all memories say little about one of them."""
    common = [f"what is the thing that you said to me about {n}" for n in range(30)]
    await memory.add_session_to_memory(session(*common, "Zanzibar trip in June"))
    assert (await texts(memory, "what is the thing you said about Zanzibar"))[0] == "Zanzibar trip in June"


async def test_words_are_found_whole(memory: BaseMemoryService) -> None:
    """A part of a word is another word."""
    await memory.add_session_to_memory(session("a concatenation of things"))
    assert await texts(memory, "cat") == []


@pytest.mark.parametrize("query", ["", "   ", "\n\t", "?!", "...", "。？", "- \" ' () & | ! :* <-> \\"])
async def test_a_query_without_words_finds_nothing(memory: BaseMemoryService, query: str) -> None:
    """An empty query, or one of punctuation, is no error."""
    await memory.add_session_to_memory(session(REX, *OTHERS))
    assert await texts(memory, query) == []


@pytest.mark.parametrize(
    "query", ["it's (great) & | ! :* <->", "a\\b 'q", 'a "b', "%_*", "'; DROP TABLE x; --", "\0", "\ud800 x"]
)
async def test_a_query_is_text_and_nothing_else(memory: BaseMemoryService, query: str) -> None:
    """Characters that mean something to a database mean nothing."""
    await memory.add_session_to_memory(session("great", "b", "q", "x", "table", "zebra"))
    assert "zebra" not in await texts(memory, query)


async def test_nobody_elses_memories_are_found(memory: BaseMemoryService) -> None:
    """App and user both have to be the same, whatever the names look like when put together."""
    scopes = [
        ("a", "u"),
        ("a", "v"),
        ("b", "u"),
        ("a/u", ""),
        ("", "a/u"),
        ("a", "u/x"),
        ("a/u", "x"),
        ("A", "U"),
        ("%", "%"),
    ]
    for n, (app, user) in enumerate(scopes):
        await memory.add_session_to_memory(session(f"secret {n}", app=app, user=user))
    for n, (app, user) in enumerate(scopes):
        assert await texts(memory, "secret", app=app, user=user) == [f"secret {n}"]
    assert await texts(memory, "secret", app="nowhere", user="u") == []


async def test_all_sessions_of_a_user_are_searched(memory: BaseMemoryService) -> None:
    """A memory is the user's, whichever session it came from."""
    await memory.add_session_to_memory(session("one fish", session_id="s1"))
    await memory.add_session_to_memory(session("two fish", session_id="s2"))
    assert sorted(await texts(memory, "fish")) == ["one fish", "two fish"]


@differs(sqlite="gives up to 50")
async def test_at_most_ten_are_given(memory: BaseMemoryService) -> None:
    """All that is found goes into a prompt, so it is bounded."""
    await memory.add_session_to_memory(session(*(f"fish {n}" for n in range(30))))
    assert len(await texts(memory, "fish")) == 10


@differs(in_memory="finds thoughts as well")
async def test_thoughts_and_calls_are_not_searched(memory: BaseMemoryService) -> None:
    """Only what was said is found: not what the model thought, called or got from a tool."""
    from google.genai import types

    thought = said("fish")
    assert thought.content is not None
    thought.content.parts = [types.Part(text="fish", thought=True), types.Part(text="soup")]
    await memory.add_session_to_memory(session(thought, called({"what": "fish"})))
    assert await texts(memory, "fish") == []
    assert [text_of(m) for m in await search(memory, "soup")] == ["fish soup"]


JAPANESE = "東京都に住んでいます。私はPythonを使います。"
CHINESE = "我的狗叫旺财，它喜欢吃胡萝卜。"
KOREAN = "우리 강아지는 당근을 좋아합니다."


IN_ONE_PIECE = differs(sqlite="keeps a run of Chinese, Japanese or Korean in one piece")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("東京都", JAPANESE, id="a Japanese word", marks=IN_ONE_PIECE),
        pytest.param("Python", JAPANESE, id="a Latin word in Japanese"),
        pytest.param("旺财", CHINESE, id="a Chinese name", marks=IN_ONE_PIECE),
        pytest.param("胡萝卜", CHINESE, id="a Chinese word", marks=IN_ONE_PIECE),
        pytest.param("狗", CHINESE, id="one character", marks=IN_ONE_PIECE),
        pytest.param("강아지", KOREAN, id="Korean", marks=IN_ONE_PIECE),
    ],
)
async def test_text_without_spaces_is_found(memory: BaseMemoryService, query: str, expected: str) -> None:
    """A word inside a sentence of a script without spaces is found."""
    await memory.add_session_to_memory(session(JAPANESE, CHINESE, KOREAN, *OTHERS))
    assert await texts(memory, query) == [expected]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("我的狗喜欢吃什么？", CHINESE, id="Chinese"),
        pytest.param("東京の天気はどうですか", JAPANESE, id="Japanese"),
    ],
)
@differs(in_memory="looks for the whole sentence", sqlite="looks for the whole sentence")
async def test_a_sentence_without_spaces_finds_what_shares_a_part(
    memory: BaseMemoryService, query: str, expected: str
) -> None:
    """A question finds what it shares a word with, as in scripts with spaces."""
    await memory.add_session_to_memory(session(JAPANESE, CHINESE, KOREAN, *OTHERS))
    assert (await texts(memory, query))[:1] == [expected]


NO_FOLDING = differs(in_memory="folds no accents")
ONLY_MARKS = differs(in_memory="folds no accents", sqlite="folds only accents that are a mark of their own")


@pytest.mark.parametrize(
    ("told", "query"),
    [
        pytest.param("Café", "cafe", marks=NO_FOLDING),
        pytest.param("cafe", "CAFÉ", marks=NO_FOLDING),
        ("Cafe\u0301", "caf\u00e9"),
        pytest.param("Łódź", "lodz", marks=ONLY_MARKS),
        pytest.param("straße", "STRASSE", marks=ONLY_MARKS),
        pytest.param("Ørsted", "orsted", marks=ONLY_MARKS),
    ],
)
async def test_accents_make_no_difference(memory: BaseMemoryService, told: str, query: str) -> None:
    """A word is found with its accents or without, in the memory or in the query."""
    await memory.add_session_to_memory(session(told, *OTHERS))
    assert await texts(memory, query) == [told]


@differs(in_memory="has no operators", sqlite="has no operators")
async def test_quotes_and_minus(memory: BaseMemoryService) -> None:
    """Quoted words are found one behind the other only; a word behind a minus excludes memories."""
    await memory.add_session_to_memory(session("new york city", "york is new to me", "new shoes"))
    assert await texts(memory, '"new york"') == ["new york city"]
    assert sorted(await texts(memory, "new -york")) == ["new shoes"]
    assert sorted(await texts(memory, 'new -"new york"')) == ["new shoes", "york is new to me"]


async def test_a_long_query_is_read(memory: BaseMemoryService) -> None:
    """100 KB of query are no error, and what it begins with is found."""
    await memory.add_session_to_memory(session("zanzibarian holiday", *OTHERS))
    assert (await texts(memory, "zanzibarian " + "blah " * 20_000))[0] == "zanzibarian holiday"
