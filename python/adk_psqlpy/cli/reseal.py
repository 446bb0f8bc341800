"""`adk-psqlpy reseal`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from adk_psqlpy.cli.keys import VARIABLE, keys_option, seal_of
from adk_psqlpy.cli.options import Target, examples, json_option, server_options
from adk_psqlpy.cli.output import note, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.reseal import Resealed

_COUNTED: Final = {
    "events": "events",
    "states": "states",
    "memories": "memories",
    "artifacts": "versions of artifacts",
    "contents": "contents of artifacts",
    "credentials": "credentials",
    "texts": "streamed texts",
}


@click.command(
    epilog=examples(
        "adk-psqlpy reseal --key-file /run/secrets/agent-keys",
        "adk-psqlpy reseal --keys-variable AGENT_KEYS --plain-state 'user:theme'",
    )
)
@click.option(
    "--keys-variable",
    metavar="NAME",
    help=f"The environment variable that holds the keys, if not {VARIABLE}.",
)
@click.option("--key-file", type=click.Path(path_type=Path), help="A file of keys instead.")
@keys_option(else_variable=False)
@click.option(
    "--state", "state", multiple=True, metavar="PATTERN", help="State keys to seal; all if not given."
)
@click.option("--plain-state", multiple=True, metavar="PATTERN", help="State keys that stay as they are.")
@click.option(
    "--portion",
    type=click.IntRange(1, 100_000),
    default=500,
    show_default=True,
    metavar="N",
    help="How many rows are read at a time.",
)
@server_options(
    "session_table", "events_table", "memory_table", "artifact_table", "credential_table", "key_table"
)
@json_option
def command(
    target: Target,
    keys_variable: str | None,
    key_file: Path | None,
    keys: str | None,
    state: tuple[str, ...],
    plain_state: tuple[str, ...],
    portion: int,
    as_json: bool,
) -> None:
    """Seal what is stored with the current key: after a rotation, or when sealing begins.

    Events, states, streamed texts, memories, artifacts and credentials. Keys are written id:base64, the
    current one first; the others open what is sealed already. Agents may work meanwhile. It may be stopped
    and begun anew at any time.
    """
    import asyncio

    from adk_psqlpy.admin.reseal import Resealed, reseal

    where = _where(keys, key_file, keys_variable)
    done = Resealed()

    def progress(so_far: Resealed) -> None:
        nonlocal done
        done = so_far

    async def run() -> Resealed:
        async with target.config() as config:
            seal = await seal_of(where, target, config, state=state or ("*",), plain_state=plain_state)
            assert seal is not None, "it is said where the keys are"
            return await reseal(
                config,
                seal,
                target.table("session_table"),
                target.table("events_table"),
                memory_table=target.table("memory_table"),
                artifact_table=target.table("artifact_table"),
                credential_table=target.table("credential_table"),
                portion=portion,
                progress=progress,
            )

    try:
        done = asyncio.run(run())
    except KeyboardInterrupt:
        note(f"interrupted; {_told(done)} so far")
        raise
    if as_json:
        write_json(asdict(done))
    else:
        write(_told(done))
    for table in done.left:
        note(f"left as it is: {table}")


def _where(keys: str | None, key_file: Path | None, keys_variable: str | None) -> str:
    """Where the keys are, in the form of `--keys`.

    Raises:
        click.UsageError: more than one option says so.
    """
    given = {
        "--keys": keys,
        "--key-file": None if key_file is None else f"file:{key_file}",
        "--keys-variable": None if keys_variable is None else f"env:{keys_variable}",
    }
    ways = {option: where for option, where in given.items() if where is not None}
    if len(ways) > 1:
        raise click.UsageError(f"{', '.join(ways)} each say where the keys are: give one of them")
    return next(iter(ways.values()), f"env:{VARIABLE}")


def _told(done: Resealed) -> str:
    counts = ", ".join(f"{getattr(done, name):,} {what}" for name, what in _COUNTED.items())
    return f"looked at {done.seen:,} rows; sealed anew: {counts}"
