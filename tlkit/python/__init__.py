"""Python's door: every command as a function that says what it takes, and a run as an object."""
