"""The one kind of error shown to users.

    TlkitError             wrong input, or an environment that cannot do what was requested
      UnreadableImage      one file that cannot be decoded; pipelines set it aside and continue
      OutOfDate            a run or artifact written with other options or by an incompatible version
      NoEffect             an option without effect

`cli` turns a TlkitError into two lines (error, hint) and exit code 1; nothing else catches it, except a pipeline that
reports what it does instead.
"""

import difflib
from collections.abc import Iterable


class TlkitError(Exception):
    """What is wrong, where, and what to do about it.

    Args:
        message: one sentence: the value, where it came from, what was expected.
        hint: what to do, as a command if possible.
        instead: an argument as typed and as corrected; the command line then shows the corrected command.
    """

    def __init__(self, message: str, hint: str = "", *, instead: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.instead = instead
        if hint:
            self.add_note(f"hint: {hint}")  # shown below the message by Python, notebooks and debuggers


class UnreadableImage(TlkitError):
    """A file that cannot be decoded into an image; `message` is the reason in plain words."""


class OutOfDate(TlkitError):
    """Something on disk does not match the request: other options, other data, another format."""


class NoEffect(TlkitError):
    """An option without effect; if it is in a run of an earlier version, it is ignored.

    Args:
        option: name of its field.
        message, hint: as in `TlkitError`.
    """

    def __init__(self, option: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.option = option


def nearest(name: str, names: Iterable[str], alike: float = 0.6) -> str | None:
    """The known name most similar to what was typed; None if none reaches the similarity `alike` (0..1)."""
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=alike)
    return by_lower[close[0]] if close else None


def unknown_name(kind: str, value: str, names: Iterable[str], hint: str = "") -> TlkitError:
    """The error for an unknown name: "'resnet5O' is not a backbone.", with the nearest one.

    Args:
        kind: what the name should have been, with its article ("a backbone").
        value: what was typed.
        names: every valid name.
        hint: where they are listed; default: a list of them.
    """
    names = list(names)
    guess = nearest(value, names)
    listing = hint or f"one of: {', '.join(names)}."
    return TlkitError(
        f"{value!r} is not {kind}.",
        f"did you mean {guess!r}? {listing}" if guess else listing,
    )


def first_line(error: Exception) -> str:
    """The first line of another package's error message, shortened to fit; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
