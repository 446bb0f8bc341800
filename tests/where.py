"""Marks for tests that cannot run on each kind of server."""

from __future__ import annotations

import pytest


def one_server(reason: str) -> pytest.MarkDecorator:
    """Not on a Citus cluster (`--pg=citus`), whose tables are there and distributed before a test begins."""
    return pytest.mark.one_server(reason=reason)
