"""The run folder, its record, its history, and experiment trackers."""
