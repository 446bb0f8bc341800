"""Resumable streams: runs that belong to the server, and views that come and go."""
