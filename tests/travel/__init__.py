"""Going back in a session: what is kept for it, looking at an earlier point, forks, and rewinds."""
