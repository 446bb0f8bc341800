"""The command: each verb against a real PostgreSQL."""
