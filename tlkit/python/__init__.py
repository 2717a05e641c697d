"""The Python API: every command as a function with its signature and help, and a run as an object."""
