"""Reading pickled `EventActions` from a database that others may have written to.

A pickle names callables, and an ordinary unpickler calls them. This one looks up only names of an allowlist:
the model classes and enums that `EventActions` can hold, and data types of the standard library that agents
put into state. google-adk 2.13 reads its own old tables in the same way
(`google.adk.sessions._restricted_pickle`); a test compares the two lists.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any, Final, get_args

from google.adk.auth.auth_tool import AuthConfig
from google.adk.events.event_actions import EventActions
from pydantic import BaseModel

_TYPES: Final = frozenset(
    {
        *(
            ("builtins", name)
            for name in ("dict", "list", "set", "frozenset", "tuple", "str", "int", "float")
        ),
        *(("builtins", name) for name in ("bool", "complex", "bytes", "bytearray")),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        *(("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")),
        ("decimal", "Decimal"),
        ("uuid", "UUID"),
        # Python 3.13 moved the classes of pathlib into a private module.
        *(
            (module, name)
            for module in ("pathlib", "pathlib._local")
            for name in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
        ),
        # Models that no annotation names, because it names a base class.
        *(("fastapi.openapi.models", name) for name in ("OAuthFlow", "SecurityBase", "SecurityScheme")),
        *(("google.adk.auth.auth_schemes", name) for name in ("ExtendedOAuth2", "OAuthGrantType")),
    }
)


def _models(roots: list[Any]) -> Iterator[tuple[str, str]]:
    """The model classes and enums that fields of the roots can hold."""
    seen: set[Any] = set()
    waiting = list(roots)
    while waiting:
        annotation = waiting.pop()
        if arguments := get_args(annotation):
            waiting.extend(arguments)
        elif isinstance(annotation, type) and annotation not in seen:
            seen.add(annotation)
            if issubclass(annotation, (BaseModel, Enum)):
                yield annotation.__module__, annotation.__qualname__
            if issubclass(annotation, BaseModel):
                waiting.extend(field.annotation for field in annotation.model_fields.values())


@cache
def allowed() -> frozenset[tuple[str, str]]:
    """Module and name of everything that a pickle may refer to.

    `EventActions.requested_auth_configs` is annotated `dict[str, Any]`, so `AuthConfig` is a root as well.
    """
    return _TYPES | frozenset(_models([EventActions, AuthConfig]))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in allowed():
            raise pickle.UnpicklingError(
                f"the pickled actions refer to {module}.{name}, which EventActions cannot hold: "
                "they were not written by ADK, or the state has a value that is not plain data"
            )
        if (module, name) in _GUARDED:
            return _GUARDED[module, name]
        return super().find_class(module, name)


def _bytes(value: Any = b"", *encoding: str) -> bytes:
    return bytes(_sized(value), *encoding)


def _bytearray(value: Any = b"", *encoding: str) -> bytearray:
    return bytearray(_sized(value), *encoding)


def _sized(value: Any) -> Any:
    if isinstance(value, int):  # bytes(n) makes n zeros
        raise pickle.UnpicklingError(
            "the pickled actions make bytes from a number: ADK never writes that, and a small pickle could "
            "take all memory with it"
        )
    return value


_GUARDED: Final[dict[tuple[str, str], Any]] = {
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
}


def actions_of(pickled: bytes) -> EventActions:
    """The actions that ADK (schema v0) or SQLSpec pickled, as the installed ADK's `EventActions`.

    Raises:
        pickle.UnpicklingError: they refer to something that is not on the allowlist, or are not a pickle of
        actions.
        ValueError: the installed ADK does not accept their values.
    """
    try:
        loaded = _Unpickler(io.BytesIO(pickled)).load()
    except pickle.UnpicklingError:
        raise
    except (EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError) as error:
        raise pickle.UnpicklingError(
            f"the pickled actions cannot be read: {type(error).__name__}: {error}"
        ) from error
    if loaded is None:
        return EventActions()
    if not isinstance(loaded, EventActions):
        raise pickle.UnpicklingError(f"the pickle holds {type(loaded).__name__}, not EventActions")
    # As in ADK, fields that are newer than the pickle get their defaults. Unlike in ADK, requests for
    # credentials are read by alias: by name, the scheme of an API key would become one of another class.
    try:
        values = loaded.model_dump(exclude={"requested_auth_configs"})
        configs = loaded.__dict__.get("requested_auth_configs") or {}
        values["requested_auth_configs"] = {
            name: AuthConfig.model_validate(config.model_dump(by_alias=True))
            if isinstance(config, AuthConfig)
            else config
            for name, config in configs.items()
        }
        return EventActions.model_validate(values)
    except (AttributeError, KeyError, TypeError) as error:
        raise pickle.UnpicklingError(f"the pickled actions are incomplete: {error}") from error
