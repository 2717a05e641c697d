"""What must not straddle splits: a column of the manifest file, or a pattern on the path."""

import re
from collections.abc import Sequence

from tlkit.core.errors import TlkitError, nearest

DEFAULT_COLUMN = "group"


def group_column(group_by: str | None, columns: Sequence[str]) -> str | None:
    """The column that names groups: the one asked for, `group` where nothing is asked for, else None."""
    if group_by is None:
        return DEFAULT_COLUMN if DEFAULT_COLUMN in columns else None
    return group_by if group_by in columns else None


def group_pattern(group_by: str, columns: Sequence[str] = ()) -> re.Pattern[str]:
    """The regular expression that names groups.

    Raises:
        TlkitError: it is none, or has no group in parentheses.
    """
    guess = nearest(group_by, columns)
    hint = (f"did you mean the column {guess!r}? " if guess else "") + (
        r"give a pattern whose first parentheses hold the group's name, such as '(S\d+)_'."
    )
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise TlkitError(f"--group-by {group_by!r} is not a regular expression: {error}.", hint) from error
    if not pattern.groups:
        kind = "neither a column nor a pattern with parentheses" if columns else "a pattern without parentheses"
        raise TlkitError(f"--group-by {group_by!r} is {kind}.", hint)
    return pattern


def match_groups(pattern: re.Pattern[str], paths: Sequence[str]) -> list[str]:
    """The group of every path.

    Raises:
        TlkitError: the pattern finds none in a path, which is named.
    """
    groups = []
    for path in paths:
        found = pattern.search(path)
        if found is None or not found[1]:
            raise TlkitError(
                f"--group-by {pattern.pattern!r} finds no group in {path!r}.",
                "write a pattern that matches every path (relative to the image folder), or list groups in a manifest file.",
            )
        groups.append(found[1])
    return groups
