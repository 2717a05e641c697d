"""The one error a user meets.

    TlkitError             wrong input or an environment that cannot do what was asked
      UnreadableImage      one file that cannot become an image; pipelines set it aside and go on
      OutOfDate            a run or artifact written with other options or by an incompatible version
      NoEffect             an option that nothing would be different without

`cli` turns a TlkitError into two lines (error, hint) and exit code 1; nothing else catches it
except where a pipeline says what it does instead.
"""

import difflib
from collections.abc import Iterable


class TlkitError(Exception):
    """What was wrong with the value and the place, and what to do about it.

    Args:
        message: one sentence: the value, where it came from, what was expected.
        hint: what to do, as a command where there is one.
        instead: an argument as it was typed, and what it should have been; the command line shows the whole command.
    """

    def __init__(self, message: str, hint: str = "", *, instead: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.instead = instead
        if hint:
            self.add_note(f"hint: {hint}")  # shown under the message by Python, notebooks and debuggers


class UnreadableImage(TlkitError):
    """A file that cannot be decoded into an image; `message` is the reason in plain words."""


class OutOfDate(TlkitError):
    """Something on disk does not match what was asked: other options, other data, another format."""


class NoEffect(TlkitError):
    """An option that nothing would be different without; where a run of an earlier version has it, it is passed over.

    Args:
        option: its name, as that of a field.
        message, hint: as of `TlkitError`.
    """

    def __init__(self, option: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.option = option


def nearest(name: str, names: Iterable[str], alike: float = 0.6) -> str | None:
    """The known name closest to what was typed, or None when nothing is alike by so much (0..1)."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=alike)
    return by_lower[close[0]] if close else None


def unknown_name(kind: str, value: str, names: Iterable[str], hint: str = "") -> TlkitError:
    """The error for a name that is in no table: "'resnet5O' is not a backbone." and the nearest one.

    Args:
        kind: what the name should have been, with its article ("a backbone").
        value: what was typed.
        names: every valid name.
        hint: where to see them all; defaults to listing them.
    """
    names = list(names)
    guess = nearest(value, names)
    listing = hint or f"one of: {', '.join(names)}."
    return TlkitError(
        f"{value!r} is not {kind}.",
        f"did you mean {guess!r}? {listing}" if guess else listing,
    )


def first_line(error: Exception) -> str:
    """What an error of another package says, as far as it fits into one of ours; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
