"""Search in what was said in conversations."""
