"""`adk-psqlpy demo`: an agent whose conversations go on in a second process."""
