"""The exit codes of all verbs."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""Something failed, or needs doing."""
USAGE: Final = 2
"""What was written on the command line, or stands in the environment, is not possible."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 and the number of the signal, as shells have it."""
