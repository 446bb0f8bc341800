"""The form of sealed values, read and written by an implementation that shares no line with the crate."""

from __future__ import annotations

import base64
import json
import struct
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adk_psqlpy import _native
from fidelity import proof, rows
from fidelity.compare import assert_same

LEAD = "\ufdd0seal1:"
ID = "2026-07"
SECRET_KEY = bytes(range(32))
SCOPE = ("app", "user", "session")


def keys() -> _native.Keys:
    made = _native.Keys()
    made.add(ID, SECRET_KEY)
    return made


def derived(purpose: bytes, app: str, user: str) -> bytes:
    """HKDF-SHA256 (RFC 5869): the key of one app and user."""
    info = purpose + struct.pack(">Q", len(app.encode())) + app.encode() + user.encode()
    return HKDF(SHA256(), 32, b"adk-psqlpy seal 1", info).derive(SECRET_KEY)


def associated(*parts: str) -> bytes:
    """Each part behind its length."""
    encoded = [part.encode() for part in (LEAD, ID, *parts)]
    return b"".join(struct.pack(">I", len(part)) + part for part in encoded)


def opened(body: bytes, *place: str) -> bytes:
    key = derived(b"cipher", place[1], place[2])
    return AESGCM(key).decrypt(body[:12], body[12:], associated(*place))


def test_events() -> None:
    """BYTEA holds nonce, ciphertext and tag as they are; JSONB holds them in base64, in a string."""
    columns = _native.encode_event(proof.event_of(5), 128)
    sealed = _native.seal_event(columns, ID, (keys(), *SCOPE))
    event_id = (columns[0] or b"").decode()
    checked = 0
    for (name, kind), value, plain in zip(_native.EVENT_COLUMNS, sealed, columns, strict=True):
        place = ("event", "app", "user", "session", event_id, name)
        head = f"{LEAD}{ID}:"
        if name == "actions":
            assert value is not None
            assert opened(value.removeprefix(head.encode()), *place) == plain
        elif kind == "jsonb" and plain is not None:
            assert value is not None
            text = json.loads(value[1:])
            assert text.startswith(head)
            found = opened(base64.b64decode(text.removeprefix(head)), *place)
            assert name == "extra" or found == plain[1:]
        elif name != "error_message":
            assert value == plain
            continue
        checked += 1
    assert checked >= 3


def test_values_of_another_implementation_are_opened() -> None:
    """The other way round."""
    nonce = bytes(range(12))
    place = ("artifact", "app", "user", "x")
    key = AESGCM(derived(b"cipher", "app", "user"))
    body = nonce + key.encrypt(nonce, b"plain", associated(*place))
    value = f"{LEAD}{ID}:".encode() + body
    assert _native.open_value(value, keys(), (*place[:3], [b"x"]), form="bytea", told="here") == b"plain"
    with pytest.raises(InvalidTag):
        opened(body, "artifact", "app", "user", "y")


def test_words() -> None:
    """The first half of HMAC-SHA256, under a key of its own."""
    mac = HMAC(derived(b"words", "app", "user"), SHA256())
    mac.update("café".encode())
    expected = mac.finalize().hex()[:32].translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
    assert keys().hash_words(ID, "app", "user", ["café"]) == [expected]


def test_nonces_are_random() -> None:
    """No two values under one key have one: checked for 20,000."""
    nonces = {
        _native.seal_value(b"", made, ID, ("k", "a", "u", []), form="bytea").removeprefix(
            f"{LEAD}{ID}:".encode()
        )[:12]
        for made in [keys()]
        for _ in range(20_000)
    }
    assert len(nonces) == 20_000


@pytest.mark.parametrize("batch", range(5))
@pytest.mark.filterwarnings("ignore:.* is not a valid .*:UserWarning")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_every_event_is_read_as_it_is_unsealed(batch: int, caplog: pytest.LogCaptureFixture) -> None:
    """2,000 events of every shape: sealed, through PostgreSQL's JSONB and back, equal to those not sealed."""
    caplog.set_level("CRITICAL", logger="google_adk")
    events = [proof.event_of(seed) for seed in range(batch * 400, (batch + 1) * 400)]
    plain = [_native.encode_event(event, 128) for event in events]
    scope = (keys(), *SCOPE)
    sealed = [rows.normalised(_native.seal_event(row, ID, scope)) for row in plain]
    expected = _native.decode_events(rows.arrays([rows.normalised(row) for row in plain]), place="here")
    assert_same(expected, _native.decode_events(rows.arrays(sealed), place="here", seal=scope))


def test_damaged_envelopes() -> None:
    """Whatever was changed in one, it is refused with its place, and never ends the process."""
    random = Random(7)
    scope = (keys(), *SCOPE)
    row = rows.normalised(_native.seal_event(_native.encode_event(proof.event_of(5), 128), ID, scope))
    names = [name for name, _ in _native.EVENT_COLUMNS]
    refused = 0
    for _ in range(2_000):
        name = random.choice(["actions", "content", "extra"])
        value = bytearray(row[names.index(name)] or b"")
        if not value:
            continue
        for _ in range(random.randint(1, 3)):
            match random.randrange(3):
                case 0:
                    value[random.randrange(len(value))] ^= 1 << random.randrange(8)
                case 1:
                    del value[random.randrange(len(value)) :]
                    value += b"x"
                case _:
                    value.insert(random.randrange(len(value)), random.randrange(256))
        damaged = list(row)
        damaged[names.index(name)] = bytes(value)
        if damaged == row:
            continue
        with pytest.raises((ValueError, _native.UnknownKeysError)):
            _native.decode_events(rows.arrays([damaged]), place="here", seal=scope)
        refused += 1
    assert refused > 1_000
