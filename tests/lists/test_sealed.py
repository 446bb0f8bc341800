"""Lists of a store that seals: what the server cannot compare is refused, the rest is as ever."""

from __future__ import annotations

import pytest
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from keys import fresh_seal


async def test_a_store_that_seals(config: PsqlpyConfig) -> None:
    """Lists by state and of calls that wait are refused; by time and in both orders they are as ever."""
    store = PsqlpyADKStore(config, seal=fresh_seal())
    await store.create_tables()
    service = PsqlpySessionService(store)
    for name in ("a", "b"):
        await service.create_session(app_name="app", user_id="u", session_id=name, state={"k": name})
    listed = (await service.list_sessions(app_name="app", newest_first=True)).sessions
    assert [(each.id, each.state) for each in listed] == [("b", {"k": "b"}), ("a", {"k": "a"})]
    with pytest.raises(NotSupportedError, match="lists by state"):
        await service.list_sessions(app_name="app", state={"k": "a"})
    with pytest.raises(NotSupportedError):
        await service.list_sessions(app_name="app", waiting=True)
    with pytest.raises(NotSupportedError, match="waiting calls"):
        await service.list_paused(app_name="app")
