"""Tools' credentials: kept, sealed, and refreshed by one process at a time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.openapi.models import OAuth2, OAuthFlowAuthorizationCode, OAuthFlows
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, OAuth2Auth
from google.adk.auth.auth_tool import AuthConfig

from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.errors import SealError
from keys import fresh_seal
from seal.support import places_of
from servers import run_sql

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from servers import Database

SCHEME = OAuth2(
    flows=OAuthFlows(
        authorizationCode=OAuthFlowAuthorizationCode(
            authorizationUrl="https://example.org/auth",
            tokenUrl="https://example.org/token",
            scopes={"read": "r"},
        )
    )
)


def credential(
    token: str = "access-0", *, expires_in: float = 3600, refresh: str = "refresh-0"
) -> AuthCredential:
    """An OAuth2 credential that expires in so many seconds."""
    return AuthCredential(
        auth_type=AuthCredentialTypes.OAUTH2,
        oauth2=OAuth2Auth(
            client_id="client",
            client_secret="client-secret",
            access_token=token,
            refresh_token=refresh,
            expires_at=int(time.time() + expires_in),
        ),
    )


def context(app_name: str = "app", user_id: str = "user") -> Any:
    """As much of ADK's context as a credential service may look at."""
    return SimpleNamespace(_invocation_context=SimpleNamespace(app_name=app_name, user_id=user_id))


def auth_config(exchanged: AuthCredential | None = None) -> AuthConfig:
    """The configuration of one tool."""
    raw = AuthCredential(
        auth_type=AuthCredentialTypes.OAUTH2,
        oauth2=OAuth2Auth(client_id="client", client_secret="client-secret"),
    )
    return AuthConfig(auth_scheme=SCHEME, raw_auth_credential=raw, exchanged_auth_credential=exchanged)


def service(config: PsqlpyConfig, **settings: Any) -> PsqlpyCredentialService:
    """A service of a process of its own."""
    return PsqlpyCredentialService(config, fresh_seal(), **settings)


async def test_what_was_saved_is_loaded(config: PsqlpyConfig, database: Database) -> None:
    """By another process, for the same app and user alone; nothing of it can be read in the table."""
    given = credential()
    await service(config).save_credential(auth_config(given), context())
    other = service(config)
    assert await other.load_credential(auth_config(), context()) == given
    assert await other.load_credential(auth_config(), context(user_id="other")) is None
    assert await other.load_credential(auth_config(), context(app_name="other")) is None
    for secret in ("access-0", "refresh-0", "client-secret"):
        assert places_of(secret, database.dsn) == set()


async def test_saving_again_and_saving_none(config: PsqlpyConfig) -> None:
    """The last one counts; none deletes it."""
    own = service(config)
    for token in ("a", "b"):
        await own.save_credential(auth_config(credential(token)), context())
    loaded = await own.load_credential(auth_config(), context())
    assert loaded is not None
    assert loaded.oauth2 is not None
    assert loaded.oauth2.access_token == "b"
    await own.save_credential(auth_config(None), context())
    assert await own.load_credential(auth_config(), context()) is None


async def test_all_of_a_user(config: PsqlpyConfig) -> None:
    """They can be deleted together."""
    own = service(config)
    for key in ("a", "b"):
        await own.save("app", "user", key, credential())
    await own.save("app", "other", "a", credential())
    assert await own.delete_user("app", "user") == 2
    assert await own.load("app", "user", "a") is None
    assert await own.load("app", "other", "a") is not None


class TokenServer:
    """An OAuth server whose refresh tokens can be spent once."""

    def __init__(self) -> None:
        self.valid = "refresh-0"
        self.refreshed = 0
        self.refused = 0

    async def refresh(self, old: AuthCredential) -> AuthCredential:
        assert old.oauth2 is not None
        spent = old.oauth2.refresh_token
        await asyncio.sleep(0)  # the request is under way: others may run
        if spent != self.valid:
            self.refused += 1
            raise AssertionError(f"{spent} was spent already")
        self.refreshed += 1
        self.valid = f"refresh-{self.refreshed}"
        return credential(f"access-{self.refreshed}", refresh=self.valid)


async def test_a_refresh_token_is_spent_once(config: PsqlpyConfig) -> None:
    """16 processes find an expired credential at once: one refreshes it, the others get what it saved."""
    await service(config).save("app", "user", "key", credential(expires_in=-10))
    server = TokenServer()

    async def use() -> str | None:
        # What ADK's CredentialManager does: load, refresh if expired, save.
        own = service(config)
        loaded = await own.load("app", "user", "key")
        assert loaded is not None
        assert loaded.oauth2 is not None
        if (loaded.oauth2.expires_at or 0) < time.time():
            loaded = await server.refresh(loaded)
            await own.save("app", "user", "key", loaded)
        assert loaded.oauth2 is not None
        return loaded.oauth2.access_token

    assert await asyncio.gather(*(use() for _ in range(16))) == ["access-1"] * 16
    assert (server.refreshed, server.refused) == (1, 0)


async def test_a_process_that_dies_while_it_refreshes(config: PsqlpyConfig) -> None:
    """Its lease ends by itself, and the next one tries."""
    await service(config).save("app", "user", "key", credential(expires_in=-10))
    assert (
        await service(config, lease_sec=0.5).load("app", "user", "key") is not None
    )  # and is never seen again
    begun = time.monotonic()
    assert await service(config).load("app", "user", "key") is not None
    assert time.monotonic() - begun >= 0.4


async def test_what_needs_no_refresh_waits_for_nobody(config: PsqlpyConfig) -> None:
    """An API key, or a token that nobody can refresh, is everybody's at once."""
    own = service(config)
    without = AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key="k")
    await own.save("app", "user", "api", without)
    await own.save("app", "user", "expired", credential(expires_in=-10, refresh=""))
    for _ in range(3):
        assert await own.load("app", "user", "api") == without
        assert await own.load("app", "user", "expired") is not None


async def test_a_moved_row(config: PsqlpyConfig, database: Database) -> None:
    """Nobody gets another's token."""
    own = service(config)
    await own.save("app", "ann", "key", credential("anns"))
    run_sql(database.dsn, "UPDATE adk_credentials SET user_id = 'bob'")
    with pytest.raises(SealError, match=r"credential 'key' of user 'bob' in app 'app': .*does not open"):
        await own.load("app", "bob", "key")


async def test_what_is_refused(config: PsqlpyConfig) -> None:
    """Without a seal there is no such service; a key has to fit."""
    with pytest.raises(ValueError, match="seal must be a Seal, not NoneType"):
        PsqlpyCredentialService(config, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lease_sec must be more than 0"):
        service(config, lease_sec=0)
    with pytest.raises(ValueError, match="credential_key must be a text of 1 to 256"):
        await service(config).load("app", "user", "k" * 257)
    with pytest.raises(ValueError, match="user_id"):
        await service(config).load("app", "u" * 129, "k")
