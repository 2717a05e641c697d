"""The run folder, its record, its history, and who is told of it."""
