"""Who sees an artifact: sessions, users, apps, and the `user:` namespace."""

from __future__ import annotations

import pytest
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types

from .backends import Artifacts, differs

NO_SESSION = "wants a session for a name without user:"
A, B = types.Part(text="a"), types.Part(text="b")


async def test_a_session_has_its_own(artifacts: Artifacts) -> None:
    """One name in two sessions is two artifacts."""
    await artifacts.save("x", A, session_id="s1")
    assert await artifacts.load("x", session_id="s2") is None
    assert await artifacts.save("x", B, session_id="s2") == 0
    assert await artifacts.load("x", session_id="s1") == A
    assert await artifacts.keys(session_id="s1") == ["x"]
    await artifacts.delete("x", session_id="s1")
    assert await artifacts.load("x", session_id="s2") == B


async def test_the_users_own_is_seen_from_every_session(artifacts: Artifacts) -> None:
    """`user:` names belong to the user, whatever session is named."""
    assert await artifacts.save("user:x", A, session_id="s1") == 0
    assert await artifacts.save("user:x", B, session_id="s2") == 1
    for scope in ({"session_id": "s3"}, {"session_id": None}):
        assert await artifacts.load("user:x", **scope) == B
        assert await artifacts.versions("user:x", **scope) == [0, 1]
        assert await artifacts.keys(**scope) == ["user:x"]
    await artifacts.delete("user:x", session_id="s4")
    assert await artifacts.load("user:x", session_id="s1") is None


async def test_a_name_is_not_the_users_of_that_name(artifacts: Artifacts) -> None:
    """`x` and `user:x` are two artifacts."""
    await artifacts.save("x", A)
    await artifacts.save("user:x", B)
    assert (await artifacts.load("x"), await artifacts.load("user:x")) == (A, B)
    assert await artifacts.keys() == ["user:x", "x"]
    await artifacts.delete("x")
    assert await artifacts.load("user:x") == B


async def test_users_and_apps_are_apart(artifacts: Artifacts) -> None:
    """Same names, four owners."""
    owners = [(app, user) for app in ("a1", "a2") for user in ("u1", "u2")]
    for app, user in owners:
        for name in ("x", "user:x"):
            part = types.Part(text=f"{app}{user}{name}")
            assert await artifacts.save(name, part, app_name=app, user_id=user) == 0
    for app, user in owners:
        for name in ("x", "user:x"):
            found = await artifacts.load(name, app_name=app, user_id=user)
            assert found == types.Part(text=f"{app}{user}{name}")
    await artifacts.delete("user:x", app_name="a1", user_id="u1")
    assert await artifacts.keys(app_name="a1", user_id="u1") == ["x"]
    assert await artifacts.keys(app_name="a1", user_id="u2") == ["user:x", "x"]


@differs(in_memory=NO_SESSION, raises=InputValidationError)
async def test_without_a_session_it_is_the_users(artifacts: Artifacts) -> None:
    """`BaseArtifactService.save_artifact`: with no session the artifact is user-scoped."""
    assert await artifacts.save("x", A, session_id=None) == 0
    assert await artifacts.load("x", session_id=None) == A
    assert await artifacts.load("user:x", session_id="any") == A
    assert await artifacts.load("x", session_id="any") is None
    assert await artifacts.save("user:x", B) == 1
    assert await artifacts.versions("x", session_id=None) == [0, 1]
    assert (await artifacts.describe("x", session_id=None)).version == 1
    await artifacts.delete("x", session_id=None)
    assert await artifacts.keys() == []


@differs(in_memory=NO_SESSION, raises=InputValidationError)
async def test_a_list_without_a_session_names_them_as_they_were_saved(artifacts: Artifacts) -> None:
    """So whoever saved `x` finds `x`."""
    await artifacts.save("x", A, session_id=None)
    await artifacts.save("user:y", B, session_id=None)
    await artifacts.save("z", B, session_id="s1")
    assert await artifacts.keys(session_id=None) == ["user:y", "x"]


@differs(in_memory=NO_SESSION, raises=InputValidationError)
@differs(file="lists the user's x as x, which loads only with user: before it")
async def test_every_listed_name_loads(artifacts: Artifacts) -> None:
    """The list is complete, and each name in it loads where it was listed."""
    await artifacts.save("x", A, session_id=None)
    await artifacts.save("user:y", A)
    await artifacts.save("z", A)
    for session_id in (None, "s1", "s2"):
        names = await artifacts.keys(session_id=session_id)
        assert len(names) == (3 if session_id == "s1" else 2)
        for name in names:
            assert await artifacts.load(name, session_id=session_id) == A


async def test_lists_are_sorted(artifacts: Artifacts) -> None:
    """By code point."""
    names = ["b", "a", "B", "a/b", "é", "user:a", "10", "9"]
    for name in names:
        await artifacts.save(name, A)
    assert await artifacts.keys() == sorted(names)


@pytest.mark.parametrize("session_id", ["users", "me", "user-1"])
async def test_session_ids_that_resemble_the_namespace(artifacts: Artifacts, session_id: str) -> None:
    """A session whose id resembles the namespace's name is a session like others."""
    await artifacts.save("x", A, session_id=session_id)
    await artifacts.save("user:x", B)
    assert await artifacts.load("x", session_id=session_id) == A


@differs(in_memory="keeps the user's artifacts under that path", raises=InputValidationError)
async def test_a_session_called_user(artifacts: Artifacts) -> None:
    """It is a session, not the user's namespace."""
    await artifacts.save("x", A, session_id="user")
    await artifacts.save("user:x", B)
    assert await artifacts.load("x", session_id="user") == A
    assert await artifacts.load("user:x") == B
    assert await artifacts.keys(session_id="user") == ["user:x", "x"]
