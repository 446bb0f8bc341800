"""How statements travel: lanes, and appends in groups."""
