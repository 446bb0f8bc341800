"""Finding out which artifact is meant, by name, scope and reference, before anything is sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from google.adk.artifacts import artifact_util
from google.adk.errors.input_validation_error import InputValidationError
from psqlpy.extra_types import CustomType

from adk_psqlpy.checks import UNSTORABLE, check_identifier
from adk_psqlpy.sql.artifact_tables import USER_SCOPE

NAME_LENGTH: Final = 4096
"""The longest file name in characters, without the prefix `user:`."""

MAX_REFERENCES: Final = 5
"""How many references in a row are followed (google-adk 2.13; 2.9 has no limit)."""

USER_PREFIX: Final = "user:"


@dataclass(frozen=True, slots=True)
class Name:
    """An artifact, and where it was asked for.

    `scope` is its session, or `USER_SCOPE` if it belongs to the user. `filename` is the name as given, `bare`
    the name without `user:`. `session_id` is the caller's session; references may lead only to what that
    session may read.
    """

    app_name: str
    user_id: str
    scope: str
    filename: str
    bare: str
    session_id: str | None

    @property
    def key(self) -> list[Any]:
        """The first four parameters of the statements."""
        name_hash = hashlib.sha256(self.bare.encode()).digest()
        return [self.app_name, self.user_id, self.scope, CustomType(name_hash)]

    @property
    def place(self) -> str:
        """The artifact in an error message."""
        return f"artifact {self.filename!r} of user {self.user_id!r} in app {self.app_name!r}"

    def uri(self, version: int) -> str:
        """An `artifact://` reference to a version, good for the `file_uri` of another artifact."""
        session = self.scope or None
        filename = self.bare if session else USER_PREFIX + self.bare
        return artifact_util.get_artifact_uri(self.app_name, self.user_id, filename, version, session)

    def refer(self, uri: str) -> artifact_util.ParsedArtifactUri:
        """Resolve an `artifact://` reference in this artifact.

        Raises:
            InputValidationError: it is malformed, or leads to another app, user or session.
        """
        target = artifact_util.parse_artifact_uri(uri)
        if target is None:
            target = live_reference(uri, self.app_name, self.user_id, self.session_id)
        if target is None:
            raise InputValidationError(f"Invalid artifact reference URI: {uri}")
        artifact_util.validate_artifact_reference_scope(
            app_name=self.app_name, user_id=self.user_id, session_id=self.session_id, parsed_uri=target
        )
        return target


def live_reference(
    uri: str, app_name: str, user_id: str, session_id: str | None
) -> artifact_util.ParsedArtifactUri | None:
    """Resolve a reference in an event of a live session; `None` if the text is not such a reference.

    ADK writes `artifact://APP/USER/SESSION/_adk_live/FILE#VERSION` into the events of live audio. Its own
    parser does not read this form (google-adk 2.13, `live/_realtime_cache_manager.py`). Ids may contain
    slashes, so the text is compared with the caller's ids. The session is always the caller's, because the
    events of a fork name the session that they were copied from.

    Raises:
        InputValidationError: it leads to another app or user, or the caller names no session.
    """
    if not uri.startswith("artifact://") or artifact_util.parse_artifact_uri(uri) is not None:
        return None
    place, _, file = uri.rpartition("/_adk_live/")
    filename, _, version = file.rpartition("#")
    if not (place and filename and version.isascii() and version.isdigit()):
        return None
    if not place.startswith(f"artifact://{app_name}/{user_id}/"):
        raise InputValidationError("Artifact references must stay within the same app and user scope.")
    if session_id is None:
        raise InputValidationError(
            "Session-scoped artifact references must stay within the same session scope."
        )
    return artifact_util.ParsedArtifactUri(app_name, user_id, session_id, filename, int(version))


def checked_name(app_name: str, user_id: str, filename: str, session_id: str | None, key_length: int) -> Name:
    """Make a `Name` of ADK's four arguments.

    A file name is only a name here. Slashes and `..` are characters like any other, as in ADK's in-memory and
    GCS services, and the name may be empty. App, user and session must be what ADK accepts as path segments.

    Raises:
        InputValidationError: an identifier is refused by ADK or too long, or holds what PostgreSQL's text
            cannot.
    """
    check(key_length, app_name=app_name, user_id=user_id)
    if not isinstance(filename, str):
        raise InputValidationError(f"filename must be a str, not {type(filename).__name__}")
    bare = filename.removeprefix(USER_PREFIX)
    if len(bare) > NAME_LENGTH:
        raise InputValidationError(
            f"filename has {len(bare):,} characters, and at most {NAME_LENGTH:,} are kept: "
            "give a shorter name"
        )
    if UNSTORABLE.search(filename):
        raise InputValidationError(
            f"filename {filename!r} contains U+0000 or a lone surrogate, which PostgreSQL's text cannot hold"
        )
    if session_id is None or filename.startswith(USER_PREFIX):
        return Name(app_name, user_id, USER_SCOPE, filename, bare, session_id)
    check(key_length, session_id=session_id)
    return Name(app_name, user_id, session_id, filename, bare, session_id)


def check(key_length: int, **identifiers: str) -> None:
    """Check app, user and session ids.

    Raises:
        InputValidationError: one is not a str, is empty, too long, or not what ADK accepts as a path segment.
    """
    for name, value in identifiers.items():
        check_identifier(name, value, key_length, "PsqlpyArtifactService", refusal=InputValidationError)
        if not value.strip():  # google-adk 2.9 accepts blanks
            raise InputValidationError(f"{name} must not be empty.")
        artifact_util.validate_path_segment(value, name)


def checked_version(version: int | None) -> int | None:
    """A version as a parameter. A number outside PostgreSQL's integer counts as a version that does not
    exist.

    Raises:
        InputValidationError: it is not an integer.
    """
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int):
        raise InputValidationError(f"version must be an integer or None, not {version!r}")
    return version if 0 <= version < 2**63 else -1
