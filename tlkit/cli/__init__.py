"""The command line: parse, call one pipeline, print. Nothing heavy is imported until a command runs."""
