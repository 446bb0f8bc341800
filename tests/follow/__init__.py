"""Following: events of a session as others append them."""
