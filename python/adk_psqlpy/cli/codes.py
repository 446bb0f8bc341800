"""The exit codes of all verbs."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""Something failed, or needs doing."""
USAGE: Final = 2
"""The command line or the environment has something that is not possible."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 plus the number of the signal, as in shells."""
