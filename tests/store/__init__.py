"""The plain store: its tables, its operations, and what it says of bad input."""
