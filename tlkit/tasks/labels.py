"""Names of classes, and several labels per image: how they are written in a table, and as rows of 0 and 1."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from tlkit.base.errors import TlkitError, unknown_name

SEPARATOR = "|"  # between the labels of an image; by itself it marks an image of none of the classes
UNKNOWN = -1
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # zero-width characters, which are never intended at the end of a name
# Markers of missing values in other programs; as names of classes they are kept, with a message.
MISSING_WORDS = ("NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "<NA>", "NaT")


def class_name(text: str) -> str:
    """A name as it is compared and stored: without surrounding spaces, accented letters as one character (Unicode NFC)."""
    return normal(text.strip().strip(_INVISIBLE).strip(), "NFC")


def normal(text: str, form: Literal["NFC", "NFD"]) -> str:
    """The text in one Unicode form; undecodable bytes are unchanged."""
    return text if text.isascii() else unicodedata.normalize(form, text)


def class_names(found: Iterable[str], asked: Sequence[str] | None, place: str) -> dict[str, str]:
    """Name as found -> name of the class, see `class_name`.

    Args:
        found: names as they are written.
        asked: names of classes that the user listed; those may differ only by case.
        place: where they are, in the plural ("folders of 'images'").

    Raises:
        TlkitError: a name that is empty, or has a line break or undecodable bytes; two that differ only by case.
    """
    names = {text: class_name(text) for text in found}
    for text, name in names.items():
        if not name:
            raise TlkitError(f"among the {place} is a class without a name, {text!r}.", "give it a name.")
        if name.splitlines() != [name] or "\0" in name:
            right = " ".join(name.replace("\0", " ").split())
            raise TlkitError(
                f"among the {place} the class {name!r} has a line break in its name; a list with one class per line "
                "would have one too many.",
                f"rename it, to {right!r} for example.",
            )
        if any("\udc80" <= letter <= "\udcff" for letter in name):
            raise TlkitError(
                f"among the {place} the class {name!r} has a name that is not UTF-8.",
                "rename it; `convmv -f WINDOWS-1252 -t UTF-8 -r --notest FOLDER` does it for a folder from Windows.",
            )
    _refuse_same_but_for_case(set(names.values()), {*map(class_name, asked or ())}, place)
    return names


def _refuse_same_but_for_case(names: set[str], asked: set[str], place: str) -> None:
    """Raise for names that differ only by case, unless they are single letters (a, A) or were asked for."""
    spellings: dict[str, list[str]] = {}
    for name in sorted(names):
        spellings.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    for alike in spellings.values():
        if len(alike) > 1 and max(map(len, alike)) > 1 and not asked.issuperset(alike):
            raise TlkitError(
                f"the {place} name classes that differ only by upper and lower case: {', '.join(map(repr, alike))}.",
                "write them the same way; if they are classes of their own, say so: name all classes, those among "
                f"them, with --classes {','.join(alike)},...",
            )


def cleaned(names: Mapping[str, str], kind: str) -> Iterator[str]:
    """Messages on names that were changed, and on those that look like missing values."""
    changed = {text: name for text, name in names.items() if text != name}
    if changed:
        text, name = next(iter(changed.items()))
        written = text.encode("unicode_escape").decode() if text.strip() == name or not text.isascii() else text
        merged = len(names) - len(set(names.values()))
        yield (
            f"{len(changed)} names of classes were taken without spaces around them and in one Unicode form, first "
            f"{kind} '{written}' as {name!r}"
            + (f"; {merged} of them merged with existing classes" if merged else "")
            + "."
        )
    words = sorted(set(names.values()) & set(MISSING_WORDS))
    if words:
        yield (
            f"The class {words[0]!r} is kept as a name, although many programs use it for a missing value; read the tables "
            "of the run in pandas with keep_default_na=False."
        )


def are_several(texts: Iterable[str]) -> bool:
    """Whether a column has several labels per image: any of them contains `|`."""
    return any(SEPARATOR in text for text in texts)


def read_labels(text: str, place: str) -> tuple[str, ...]:
    """`cat | dog` as ("cat", "dog"), `|` as (), in the order they are written; spaces around a name do not count.

    Raises:
        TlkitError: a name is empty or occurs twice; `place` says where ("row 7 of 'images.csv'").
    """
    names = tuple(class_name(name) for name in text.split(SEPARATOR))
    if not any(names):
        names = ()
    if "" in names:
        raise TlkitError(
            f"{place} has label {text!r}, with nothing on one side of {SEPARATOR!r}.",
            f"write cat{SEPARATOR}dog for two labels, cat for one, {SEPARATOR} by itself for none of the classes.",
        )
    if len(set(names)) < len(names):
        raise TlkitError(f"{place} has label {text!r}, which names a class twice.", "name every class once.")
    return names


def as_lines(classes: Iterable[str]) -> str:
    """One name per line, as many lines as classes: a line break in a name, which an old model may have, becomes a space."""
    return "".join(" ".join(name.splitlines()) + "\n" for name in classes)


def written(names: Iterable[str]) -> str:
    """The text that `read_labels` reads."""
    return SEPARATOR.join(names) or SEPARATOR


def code_of(name: str, classes: Sequence[str], place: str) -> int:
    """The index of a class.

    Raises:
        TlkitError: there is no such class; `place` says where its name is written.
    """
    if name not in classes:
        raise unknown_name(f"a class here ({place})", name, classes)
    return classes.index(name)


def encode(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """int8 (N, K) of written labels: 1 where the image has the class, 0 where not; "" is a row of -1.

    Args:
        labels: N texts that `read_labels` can read, or "".
        classes: K names, which include all that occur.
    """
    codes = {name: code for code, name in enumerate(classes)}
    texts, inverse = np.unique(np.array(labels, dtype=object), return_inverse=True)
    rows = np.zeros((len(texts), len(classes)), np.int8)
    for row, text in zip(rows, texts.tolist(), strict=True):
        if not text:
            row[:] = UNKNOWN
        row[[codes[name] for name in read_labels(text, "a row")]] = 1
    return rows[inverse.ravel()]


def decode(row: np.ndarray, classes: Sequence[str]) -> str:
    """The written form of a row int (K,) or bool, labels in class order; "" where it is unknown."""
    return "" if (row < 0).any() else written(classes[code] for code in np.flatnonzero(row).tolist())


def reordered(targets: np.ndarray, found: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Targets int8 (N, k) of the classes `found` as int8 (N, K) of `classes`, which include them all; others are 0."""
    made = np.zeros((len(targets), len(classes)), np.int8)
    made[:, [classes.index(name) for name in found]] = targets
    made[(targets < 0).any(axis=1)] = UNKNOWN
    return made
