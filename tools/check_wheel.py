"""A short suite for an installed wheel: `python tools/check_wheel.py`, in an environment that has the wheel.

Encodes and decodes 1,000 events and holds each against pydantic, as `make proof` does with a million. With
`--server`, a session goes through the embedded PostgreSQL as well, which the extra `[embedded]` brings. The
bill of materials is held against Cargo.lock. It needs `hypothesis`, which the wheel does not bring.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import re
import sys
import warnings
from importlib.metadata import files
from pathlib import Path

import adk_psqlpy
from adk_psqlpy import _native

ROOT = Path(__file__).parents[1]
EVENTS = 1_000


def bill_of_materials() -> None:
    """The wheel has a CycloneDX file of the crates that it is built of, as Cargo.lock has them."""
    (file,) = [each for each in files("adk-psqlpy") or () if each.match("*.dist-info/sboms/*.cyclonedx.json")]
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == adk_psqlpy.__version__
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r'name = "(.+)"\nversion = "(.+)"', lock))
    named = {(each["name"], each["version"]) for each in bill["components"]}
    assert named <= locked, named - locked
    linked = {"base64-simd", "itoa", "memchr", "pyo3", "ring", "ryu"}
    assert linked <= {name for name, _ in named}, linked
    print(f"bill of materials: {len(named)} crates, all of Cargo.lock")


def differential() -> None:
    """1,000 generated events, encoded and decoded, equal what pydantic makes of them."""
    sys.path.insert(0, str(ROOT))
    from tests.fidelity import proof

    checked = proof.run(range(EVENTS))
    assert checked.events == EVENTS, checked
    print(f"differential: {checked.events} events equal, {checked.read} altered rows read by both")


async def through_the_server() -> None:
    """A session with events of the same kind is read as it was written."""
    from tests.fidelity import proof

    from adk_psqlpy import EmbeddedServer, PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

    with EmbeddedServer(temporary=True) as server:
        async with PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": server.dsn}))) as service:
            await service.store.create_tables()
            session = await service.create_session(app_name="wheel", user_id="u", state={"k": "v"})
            for number in range(20):
                event = proof.event_of(number)
                event.id, event.timestamp, event.partial = f"e{number}", float(number), None
                event.actions.state_delta = {"number": number}
                await service.append_event(session, event)
            read = await service.get_session(app_name="wheel", user_id="u", session_id=session.id)
            assert read is not None
            assert read.events == session.events
            assert read.state == session.state == {"k": "v", "number": 19}
    print(f"server: {len(read.events)} events read as they were appended")


def main() -> int:
    """Say what is checked, and check it."""
    parser = argparse.ArgumentParser(prog="python tools/check_wheel.py")
    parser.add_argument("--server", action="store_true", help="a session on the embedded PostgreSQL as well")
    arguments = parser.parse_args()
    where = Path(str(adk_psqlpy.__file__)).parent
    if ROOT in where.parents and ".make" not in where.parts and ".venv" not in where.parts:
        print(f"{where} is the source tree, not an installed wheel")
        return 1
    assert not _native.DEBUG_BUILD
    print(f"adk-psqlpy {adk_psqlpy.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"{where}, dicts read by layout: {_native.reads_dict_entries()}")
    # Serializers log lone surrogates, and genai warns of enum members that it does not know.
    logging.disable()
    warnings.simplefilter("ignore")
    bill_of_materials()
    differential()
    if arguments.server:
        asyncio.run(through_the_server())
    return 0


if __name__ == "__main__":
    sys.exit(main())
