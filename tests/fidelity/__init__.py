"""Nothing is lost: what an event holds is what is read back, to the last bit and in its order."""
