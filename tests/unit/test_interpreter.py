"""What depends on the interpreter: where dicts are read by their layout, and builds that are refused."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import adk_psqlpy
from adk_psqlpy import _native

# As `TESTED` in rust/src/python/objects.rs; `make test-pythons` runs this on each.
READ_BY_LAYOUT = {(3, 11), (3, 12), (3, 13)}


def test_dicts_are_read_by_their_layout_where_that_was_tested() -> None:
    """And there it works: the trial at first use has succeeded."""
    assert _native.reads_dict_entries() == (sys.version_info[:2] in READ_BY_LAYOUT)


def test_a_free_threaded_build_is_refused() -> None:
    """With a message, and before the extension module is loaded, which would switch the GIL on."""
    program = f"""
        import sys
        sys.version = "3.14.1 free-threading build (main)"
        sys.path.insert(0, {str(adk_psqlpy.__path__[0])[: -len("adk_psqlpy")]!r})
        try:
            import adk_psqlpy
        except ImportError as error:
            print(error)
        print([name for name in sys.modules if "_native" in name])
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True, timeout=60
    )
    message, loaded = done.stdout.splitlines()
    assert message.startswith("adk_psqlpy does not run on a free-threaded build of Python (3.14.1t)")
    assert loaded == "[]"
