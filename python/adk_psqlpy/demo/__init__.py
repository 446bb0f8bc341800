"""`adk-psqlpy demo`: an agent, two processes, and what the database holds in between."""
