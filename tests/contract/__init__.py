"""The contract of ADK's `BaseSessionService`, one file a capability.

The same tests run against every backend of `backends.py`: ADK's in-memory service, ADK's database
service on PostgreSQL, and ours. What a rival does otherwise is declared with `@differs` on the test,
and the declaration is itself checked: a difference that is gone fails the run.
"""
