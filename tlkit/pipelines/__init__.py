"""The story: one file per command, one `run(config) -> result`, read top to bottom."""
