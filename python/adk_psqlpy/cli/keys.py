"""`--keys`: where a verb finds the keys of what is sealed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from adk_psqlpy.cli.options import Target

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.seal import KeyRing, Seal

_Function = TypeVar("_Function", bound=Callable[..., Any])

VARIABLE: Final = "ADK_PSQLPY_KEYS"
"""Where keys are looked for if `--keys` is not given."""

_FORMS: Final = "file:PATH or env:NAME; users+file:PATH or users+env:NAME where each user has keys of his own"


_OF_USERS: Final = "users+"


def keys_option(
    name: str = "--keys", *, of: str = "what is sealed", else_variable: bool = True
) -> Callable[[_Function], _Function]:
    """The option `name`, as the argument of that name.

    `else_variable` says whether `VARIABLE` is used where the option is not given.
    """
    otherwise = f" Else the variable {VARIABLE}, if it is set." if else_variable else ""
    return click.option(name, metavar="WHERE", help=f"The keys of {of}: {_FORMS}.{otherwise}")


def are_of_users(where: str) -> bool:
    """Whether `where`, the value of such an option, asks for the table of users' keys."""
    return where.startswith(_OF_USERS)


async def seal_of(where: str | None, target: Target, config: PsqlpyConfig, **settings: Any) -> Seal | None:
    """The seal of `--keys`, or of the variable; `None` where neither is given.

    Args:
        where: what `--keys` gave.
        target: names the table of users' keys.
        config: the server, where that table is.
        settings: of the `Seal`.

    Raises:
        click.UsageError: the keys are not there, or are none.
    """
    from adk_psqlpy.seal import EnvironmentKeys, FileKeys, Seal, UserKeys

    if where is None:
        if not os.environ.get(VARIABLE):
            return None
        where = f"env:{VARIABLE}"
    form, colon, rest = where.partition(":")
    form = form.removeprefix(_OF_USERS)
    if not colon or not rest or form not in ("file", "env"):
        raise click.UsageError(f"the keys cannot be read from {where!r}: write {_FORMS}")
    ring: KeyRing = FileKeys(rest) if form == "file" else EnvironmentKeys(rest)
    try:
        await ring.key_ids("", "")
    except (ValueError, OSError) as error:
        raise click.UsageError(f"the keys cannot be read: {error}") from None
    return Seal(
        UserKeys(config, ring, target.table("key_table")) if are_of_users(where) else ring, **settings
    )
