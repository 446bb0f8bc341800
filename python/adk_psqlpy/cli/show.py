"""`adk-psqlpy show`."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from adk_psqlpy.cli.keys import keys_option, seal_of
from adk_psqlpy.cli.options import Target, examples, json_option, server_options
from adk_psqlpy.cli.output import console, printable, table, write, write_json

if TYPE_CHECKING:
    from google.adk.events.event import Event

    from adk_psqlpy.admin.conversations import Conversation, SessionSummary
    from adk_psqlpy.admin.transcript import Entry

_STYLES: Final = {
    "text": "",
    "thought": "italic dim",
    "call": "cyan",
    "answer": "cyan",
    "code": "cyan",
    "file": "magenta",
    "state": "yellow",
    "action": "blue",
    "error": "bold red",
}
_LEADS: Final = {
    "text": "",
    "thought": "(thinks) ",
    "call": "calls ",
    "answer": "",
    "code": "runs ",
    "file": "file: ",
    "state": "state: ",
    "action": "",
    "error": "error ",
}


@click.command(
    epilog=examples(
        "adk-psqlpy show                              # which sessions there are, the newest first",
        "adk-psqlpy show s-42 --app cafe --user alice",
        "adk-psqlpy show s-42 --last 20 --follow",
        "adk-psqlpy show s-42 --json | jq '.events[].author'",
    )
)
@click.argument("session", required=False)
@click.option("--app", metavar="APP", help="The app, where several have such a session.")
@click.option("--user", metavar="USER", help="The user, likewise.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest N events (or sessions).")
@click.option("--follow", is_flag=True, help="Go on and show what is appended, until Ctrl-C.")
@click.option("--full", is_flag=True, help="Cut no value of a call, an answer or a state.")
@keys_option()
@server_options("session_table", "events_table", "artifact_table", "key_table")
@json_option
def command(
    target: Target,
    session: str | None,
    app: str | None,
    user: str | None,
    last: int | None,
    follow: bool,
    full: bool,
    keys: str | None,
    as_json: bool,
) -> None:
    """Show a session for people to read; without SESSION, list the sessions.

    It shows who said what and when, calls of tools and their answers, changes of state, and files. With
    --json it prints the session as one document; with --json --follow, one line for each event. Times are
    local.
    """
    import asyncio

    from google.adk.errors.session_not_found_error import SessionNotFoundError

    from adk_psqlpy.admin import conversations, transcript

    tables = (target.table("session_table"), target.table("events_table"))

    async def run() -> None:
        async with target.config() as config:
            if session is None:
                found = await conversations.find_sessions(
                    config, *tables, app_name=app, user_id=user, limit=last or 20
                )
                _list(found, as_json)
                return
            summary = await conversations.find_session(config, session, *tables, app_name=app, user_id=user)
            artifact_table = target.table("artifact_table")
            seal = await seal_of(keys, target, config)
            conversation = await conversations.read_conversation(
                config, summary, *tables, artifact_table=artifact_table, last=last, seal=seal
            )
            longest = None if full else transcript.SHOWN
            screen = _Screen(longest, follow and as_json)
            if as_json and not follow:
                write_json(_document(conversation))
                return
            screen.begin(conversation)
            if not follow:
                screen.end(conversation)
                return
            async for event in conversations.follow_conversation(config, conversation, *tables, seal=seal):
                screen.event(event)
                sys.stdout.flush()
            screen.deleted()

    if follow and session is None:
        raise click.UsageError("--follow: say which SESSION")
    try:
        asyncio.run(run())
    except SessionNotFoundError as error:
        raise click.ClickException(str(error)) from None


def _list(found: list[SessionSummary], as_json: bool) -> None:
    if as_json:
        write_json([_summary(each) for each in found])
        return
    if not found:
        write("There is no session.")
        return
    table(
        ("session", "app", "user", "events", "updated"),
        [
            (each.id, each.app_name, each.user_id, each.events, _moment(each.update_time.timestamp()))
            for each in found
        ],
    )


def _summary(summary: SessionSummary) -> dict[str, Any]:
    from dataclasses import asdict

    times = {name: getattr(summary, name).astimezone().isoformat() for name in ("create_time", "update_time")}
    return asdict(summary) | times


def _document(conversation: Conversation) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **_summary(conversation.summary),
        "state": conversation.state,
        "files": [
            asdict(each) | {"create_time": each.create_time.isoformat()} for each in conversation.files
        ],
        "events": [_as_json(event) for event in conversation.events],
    }


def _as_json(event: Event) -> Any:
    # Not model_dump_json, which refuses lone surrogates.
    return event.model_dump(mode="json", exclude_none=True)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class _Screen:
    """Writes a conversation, event by event."""

    def __init__(self, longest: int | None, lines_of_json: bool) -> None:
        self._longest = longest
        self._json = lines_of_json
        self._day = ""
        self._turn: tuple[str, str] = ("", "")
        self._console = None if lines_of_json else console()

    def begin(self, conversation: Conversation) -> None:
        """Write the head, and the events that exist already."""
        summary = conversation.summary
        left_out = summary.events - len(conversation.events)
        if self._console is not None:
            counted = f"{summary.events:,} event{'' if summary.events == 1 else 's'}"
            newest = f", the newest {len(conversation.events):,} of them" if left_out > 0 else ""
            of = f"of user {summary.user_id} in app {summary.app_name}"
            self._styled(f"Session {summary.id} {of}: {counted}{newest}", "bold")
            self._styled(
                f"made {_moment(summary.create_time.timestamp())}, "
                f"last written {_moment(summary.update_time.timestamp())}",
                "dim",
            )
        for event in conversation.events:
            self.event(event)
        sys.stdout.flush()

    def event(self, event: Event) -> None:
        """One event."""
        if self._json:
            write_json(_as_json(event), indent=None)
            return
        from adk_psqlpy.admin.transcript import entries

        for entry in entries(event, longest=self._longest):
            self._entry(entry)

    def end(self, conversation: Conversation) -> None:
        """Write what belongs to the session beside its events."""
        from adk_psqlpy.admin.transcript import shown

        if conversation.files:
            write()
            self._styled("Files", "bold")
            for each in conversation.files:
                size = "a reference" if each.size is None else f"{each.size:,} bytes"
                kind = each.mime_type or "unknown type"
                self._styled(f"  {each.filename}, version {each.version}, {kind}, {size}", "")
        if conversation.state:
            write()
            self._styled("State", "bold")
            for name, value in conversation.state.items():
                self._styled(f"  {name} = {shown(value, self._longest)}", "")

    def deleted(self) -> None:
        """The session is gone."""
        if not self._json:
            self._styled("The session was deleted.", "bold")

    def _entry(self, entry: Entry) -> None:
        moment = datetime.fromtimestamp(entry.time).astimezone()
        day, clock = moment.strftime("%A %Y-%m-%d"), moment.strftime("%H:%M:%S")
        if day != self._day:
            write()
            self._styled(day, "bold")
            self._day, self._turn = day, ("", "")
        turn = (clock, entry.author)
        head = f"{clock}  {entry.author:<12}  " if turn != self._turn else " " * 24
        self._turn = turn
        lines = printable(f"{_LEADS[entry.kind]}{entry.text}").split("\n")
        self._line(printable(head), lines[0], entry)
        for line in lines[1:]:
            self._line(" " * 24, line, entry)

    def _line(self, head: str, text: str, entry: Entry) -> None:
        if not sys.stdout.isatty():
            write(f"{head}{text}".rstrip())
            return
        from rich.table import Table
        from rich.text import Text

        style = _STYLES[entry.kind] or ("green" if entry.author == "user" else "")
        grid = Table.grid(padding=0)
        grid.add_column(width=max(24, len(head)), no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(head, style="dim"), Text(text, style=style))
        assert self._console is not None
        self._console.print(grid, soft_wrap=False)

    def _styled(self, text: str, style: str) -> None:
        from rich.text import Text

        assert self._console is not None
        self._console.print(Text(printable(text), style=style))
