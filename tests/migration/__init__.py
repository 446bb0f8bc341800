"""Moving in and out: sources made by their real writers, and read back through our service."""
