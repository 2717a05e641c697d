"""The command: `tlkit`, which is `python -m tlkit`."""

import sys


def program() -> None:
    """The entry point; Ctrl+C while it is being loaded ends it as quietly as later on."""
    try:
        from tlkit.cli.main import program as loaded
    except KeyboardInterrupt:
        print("\ninterrupted.", file=sys.stderr)
        raise SystemExit(130) from None
    loaded()


if __name__ == "__main__":
    program()
