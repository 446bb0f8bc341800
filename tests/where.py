"""Marks for tests that cannot run on each kind of server in the same way."""

from __future__ import annotations

import pytest

# Reasons of `one_server` that several suites have. docs/scale.md names each of them.
NOTIFIES = "Citus refuses triggers on distributed tables, so there is no notify"
SEARCHES = "event_search is not for distributed tables"
PLANS = "it looks at one server's plans, statistics or storage"
FIRST_USE = "tables that are made on first use are not distributed"
PLAIN_SQL = "Citus refuses the SQL with which the test edits rows"
OTHER_SERVERS = "it starts servers of its own, each of them alone"

_on_cluster = False


def set_cluster(cluster: bool) -> None:
    """Say, at the start, whether this run is on a Citus cluster."""
    global _on_cluster
    _on_cluster = cluster


def on_cluster() -> bool:
    """Whether tables that a test makes are to be distributed."""
    return _on_cluster


def one_server(reason: str) -> pytest.MarkDecorator:
    """Not on a Citus cluster (`--pg=citus`)."""
    return pytest.mark.one_server(reason=reason)


makes_tables = pytest.mark.own_database(tables=False)
"""On a cluster too, the database is the test's own, and empty. Others share one with distributed tables."""

changes_tables = pytest.mark.own_database(tables=True)
"""The same, with the distributed tables in it: the test changes tables, or the database itself."""
