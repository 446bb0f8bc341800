"""What the Rust crate offers to the package. Values named jsonb, array and so on are in PostgreSQL's binary
format, as psqlpy's custom decoders hand them over and its `CustomType` sends them.

Every function raises `ValueError` on malformed bytes, and says where: `place` (which session), event,
column, and the offset in the value.

`seal` is keys, app name, user id and session id: what opens sealed values, or what they are sealed for.
Sealed values that do not open, or that are met without a `seal`, raise `SealError`; where their keys are
missing, `UnknownKeysError` says which.
"""

from typing import Any, Final, final

from google.adk.events.event import Event
from google.adk.sessions.session import Session

__all__ = [
    "DEBUG_BUILD",
    "EVENT_COLUMNS",
    "OWN_ARRAYS",
    "Keys",
    "Recording",
    "SealError",
    "UnknownKeysError",
    "__version__",
    "decode_events",
    "decode_json",
    "decode_sessions",
    "decode_shared_state",
    "decode_state",
    "encode_arrays",
    "encode_event",
    "encode_json",
    "encode_state",
    "make_session",
    "model_report",
    "open_value",
    "reads_dict_entries",
    "record_events",
    "seal_event",
    "seal_state",
    "seal_value",
    "sealed_with",
]

__version__: Final[str]
DEBUG_BUILD: Final[bool]
"""Whether the crate was built without optimisation."""

EVENT_COLUMNS: Final[tuple[tuple[str, str], ...]]
"""Name and SQL type of the columns that `encode_event` fills, in its order."""

OWN_ARRAYS: Final[int]
"""How many of `EVENT_COLUMNS`, from the first, `decode_events` takes as an array each."""

def encode_arrays(element_types: list[int], rows: list[list[bytes | None]]) -> list[bytes]:
    """Rows of values in PostgreSQL's binary format, turned into one array a column; `None` is NULL.

    `element_types` are the OIDs of the columns' types.

    Raises:
        ValueError: a row has more or fewer values, or a value or their number is more than 32 bits can say.
    """

def encode_event(event: Event, key_length: int) -> list[bytes | None]:
    """The event's columns, one value for each of `EVENT_COLUMNS`, `None` for NULL.

    The JSON in them equals `event.model_dump(mode="json", exclude_none=True)`, except that NaN, infinities
    and minus zero stay floats, and U+0000 and lone surrogates are kept.

    Raises:
        ValueError: an identifier is empty or longer than `key_length` characters, the timestamp is outside
            what timestamptz holds, or a value nests deeper than 512 levels; the message names the field.
    """

def decode_events(
    *chunks: tuple[bytes | None, ...], place: str, seal: tuple[Keys, str, str, str] | None = None
) -> list[Event]:
    """The events of one session, chunk after chunk, in the order of the arrays.

    A chunk has `OWN_ARRAYS + 1` entries: the value of `array_agg` over each of the first columns, then over
    a JSON object a row, as text or jsonb, with those of the others that are not NULL. `None` stands for no
    rows.
    Equal to `Event.model_validate` of the same JSON, `model_fields_set` included.
    """

@final
class Recording:
    """Events as the steps that make them: `record_events` gives it, and takes it in place of a chunk.

    It keeps the events that it handed out last, and of those that somebody still had then, the ones before.
    One of them is handed out again if it is as it was made and nobody else refers to it or to anything in it
    that can be changed; else an equal one is made.
    """

    @property
    def nbytes(self) -> int:
        """What it weighs in memory, without those events. A string that several have counts in each."""

    @property
    def lent_nbytes(self) -> int:
        """What those events weigh."""

    def release(self) -> None:
        """Let go of those events."""

    def __len__(self) -> int:
        """How many events."""

    @staticmethod
    def joined(*recordings: Recording) -> Recording:
        """One recording of the events of several, in their order. It takes over what they have lent."""

def record_events(
    *chunks: Recording | tuple[bytes | None, ...] | list[tuple[bytes | None, ...]], place: str
) -> tuple[list[Event], list[Recording]]:
    """The events of chunks in their order, and a recording of each chunk.

    A chunk is as `decode_events` takes it, or a list of rows as `encode_event` gives them, or a recording of
    one, whose events take half the time of decoding to make, and a tenth to take back.
    """

def encode_state(delta: dict[str, Any]) -> tuple[bytes | None, bytes | None, bytes | None] | None:
    """A state delta as three jsonb objects: session, app and user scope; `None` for a scope without keys.

    The prefixes `app:` and `user:` are taken off; keys that begin with `temp:` are left out.
    Gives `None` altogether where a key is not a string or a value not a JSON value: the caller converts.
    """

def decode_state(
    session: bytes,
    app: bytes | None = None,
    user: bytes | None = None,
    *,
    place: str,
    seal: tuple[Keys, str, str, str] | None = None,
) -> dict[str, Any]:
    """Three jsonb objects as the one dict in which ADK shows state, prefixes put back."""

def decode_shared_state(
    value: bytes, *, scope: str, place: str, seal: tuple[Keys, str, str, str] | None = None
) -> dict[str, Any]:
    """The state of an app (`scope="app state"`) or of a user (`"user state"`), keys without prefix."""

def decode_sessions(
    sessions: tuple[bytes | None, ...],
    app: bytes | None,
    user_states: tuple[bytes | None, bytes | None],
    *,
    place: str,
    seal: tuple[Keys, str, str, str] | None = None,
) -> list[tuple[str, str, dict[str, Any], float, float, int]]:
    """Listed sessions: user id, id, merged state, times of creation and last update (seconds), revision.

    `sessions` are six arrays: user ids, ids, states, create times, update times, revisions. `app` is the
    app's state, `user_states` an array of user ids and one of their states.
    """

def make_session(
    *,
    id: str,
    app_name: str,
    user_id: str,
    state: dict[str, Any],
    events: list[Event],
    last_update_time: float,
    marker: str,
) -> Session:
    """Equal to `Session(...)` of these values, which are taken as they are; `marker` is its
    `_storage_update_marker`."""

def encode_json(value: object) -> bytes | None:
    """A JSON value as jsonb; `None` where something in it is not a JSON value."""

def decode_json(value: bytes, *, place: str) -> Any:
    """A jsonb value as the Python object it stands for, the encoder's escapes undone."""

def model_report() -> list[tuple[str, str | None, str | None]]:
    """For every model class reachable from `Event`: its name, why pydantic decodes it and why pydantic
    encodes it, `None` where the fast path does."""

def reads_dict_entries() -> bool:
    """Whether `encode_event` reads the entries of dicts by their layout in memory.

    It does on the versions of CPython on which the suites have passed with it, and where a trial on this very
    interpreter succeeds. Elsewhere it asks the interpreter for each entry, which takes longer and gives the
    same.
    """

class SealError(ValueError):
    """A sealed value does not open: the key is another one, the value was changed, or there is no `seal`."""

class UnknownKeysError(Exception):
    """Values are sealed with keys that are not at hand.

    `args[0]` is a dict of the ids of all of them, and where each was met first.
    """

@final
class Keys:
    """Keys by their ids. May be used in several threads."""

    def __new__(cls) -> Keys: ...
    def __contains__(self, key_id: str, /) -> bool: ...
    def __len__(self) -> int: ...
    def add(self, key_id: str, key: bytes) -> None:
        """Take a key in.

        Raises:
            ValueError: it is not 32 bytes, or the id is none.
        """

    def discard(self, key_id: str) -> None:
        """Forget a key."""

    def hash_words(self, key_id: str, app_name: str, user_id: str, words: list[str]) -> list[str]:
        """A keyed hash (half of HMAC-SHA256, 32 letters from a to p) of each word.

        Raises:
            KeyError: the key is not at hand.
        """

def seal_event(
    columns: list[bytes | None], key_id: str, seal: tuple[Keys, str, str, str]
) -> list[bytes | None]:
    """The columns that `encode_event` gave, those sealed that hold what was said.

    Raises:
        KeyError: the key is not at hand.
    """

def seal_state(
    value: bytes,
    key_id: str,
    seal: tuple[Keys, str, str, str],
    *,
    scope: str,
    patterns: list[str],
    plain: list[str],
) -> bytes:
    """A state as jsonb, its values sealed whose keys are like one of `patterns` and none of `plain`.

    `scope` is `session state`, `app state` or `user state`. Patterns are of ADK's keys, prefixes included.

    Raises:
        KeyError: the key is not at hand.
    """

def seal_value(
    value: bytes, keys: Keys, key_id: str, place: tuple[str, str, str, list[bytes]], *, form: str
) -> bytes:
    """A value sealed for a column of the type `form`: `bytea`, `jsonb` or `text`.

    `place` is the kind of row, app name, user id, and what else tells the place from others.

    Raises:
        KeyError: the key is not at hand.
    """

def open_value(
    value: bytes,
    keys: Keys | None,
    place: tuple[str, str, str, list[bytes]],
    *,
    form: str,
    told: str,
) -> bytes:
    """What `seal_value` sealed, or the value itself if it is not sealed; `told` names the place in errors."""

def sealed_with(value: bytes, *, form: str) -> str | None:
    """The id of the key that a value is sealed with; `None` where it is not sealed."""
