"""What people who look after a database call: the Python functions behind the command `adk-psqlpy`."""
