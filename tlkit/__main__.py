"""`python -m tlkit` is `tlkit`."""

from tlkit.cli.main import program

program()
