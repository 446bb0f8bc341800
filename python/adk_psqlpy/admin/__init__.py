"""Functions for whoever looks after a database. The command `adk-psqlpy` calls them."""
