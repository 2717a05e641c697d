"""The door: parse, call one pipeline, print. Cold until a command body runs."""
