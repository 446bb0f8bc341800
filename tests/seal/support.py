"""What the tests of sealing share: events full of secrets, and a look at all that a database holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.adk.events import Event, EventActions
from google.genai import types

from servers import run_sql

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
    from servers import Database

SECRET = "SECRET-8c1f"
"""Stands in everything that must not be readable in a database."""


@dataclass(frozen=True)
class Sealed:
    """A store that seals, its service, and the database under them."""

    store: PsqlpyADKStore
    service: PsqlpySessionService
    database: Database

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a statement."""
        return run_sql(self.database.dsn, statement)[0]


def secret_event(number: int = 0, **fields: Any) -> Event:
    """An event with a secret in every field that is sealed."""
    given: dict[str, Any] = {
        "id": f"event-{number}",
        "author": "agent",
        "invocation_id": f"invocation-{number}",
        "timestamp": 1_750_000_000.123456 + number,
        "content": types.Content(role="model", parts=[types.Part(text=f"{SECRET} in content {number}")]),
        "actions": EventActions(
            state_delta={
                "own": f"{SECRET} own",
                "user:card": f"{SECRET} user",
                "app:motto": f"{SECRET} app",
                "temp:x": f"{SECRET} temp",
            },
            artifact_delta={f"{SECRET}.txt": 1},
        ),
        "error_code": "CODE",
        "error_message": f"{SECRET} in error message",
        "grounding_metadata": types.GroundingMetadata(web_search_queries=[f"{SECRET} query"]),
        "custom_metadata": {"note": f"{SECRET} metadata"},
        "input_transcription": types.Transcription(text=f"{SECRET} spoken", finished=True),
    }
    return Event(**(given | fields))


def everything_stored(dsn: str) -> dict[tuple[str, str], list[str]]:
    """Every value of every column of every table, by table and column, in the text that a dump has."""
    (columns,) = run_sql(
        dsn,
        """SELECT table_schema::text AS s, table_name::text AS t, column_name::text AS c
        FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')""",
    )
    statements = [f"""SELECT "{row["c"]}"::text AS v FROM "{row["s"]}"."{row["t"]}" """ for row in columns]
    return {
        (column["t"], column["c"]): [row["v"] for row in rows if row["v"] is not None]
        for column, rows in zip(columns, run_sql(dsn, *statements), strict=True)
    }


def places_of(secret: str, dsn: str) -> set[tuple[str, str]]:
    """The tables and columns in which a text can be read, as it is or as bytes."""
    forms = (secret.lower(), secret.encode().hex(), secret.lower().encode().hex())
    return {
        place
        for place, values in everything_stored(dsn).items()
        if any(form in value.lower() for value in values for form in forms)
    }
