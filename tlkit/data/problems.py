"""Files that cannot be decoded: find them all, set them aside."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from tlkit.core.cores import usable_cores
from tlkit.core.errors import TlkitError, UnreadableImage
from tlkit.core.input_contract import InputContract
from tlkit.core.manifest import Manifest, Problem
from tlkit.core.splits import SPLITS, UNASSIGNED
from tlkit.core.story import Silence, Story
from tlkit.data.images import decode
from tlkit.data.threads import in_order

_SILENCE = Silence()
# All bytes of a file are read and decoded at any size; a small one saves the rest.
_CHEAP = InputContract(height=8, width=8)


def check(manifest: Manifest, *, story: Story = _SILENCE, threads: int | None = None) -> list[Problem]:
    """Decode every image in full and return those that cannot be, in manifest order."""
    threads = threads or usable_cores()
    reasons = in_order(partial(_reason, manifest), range(len(manifest)), threads=threads, ahead=32 * threads)
    tracked = story.track(reasons, "decoding", len(manifest))
    return [Problem(manifest.paths[i], reason.words) for i, reason in enumerate(tracked) if reason.words]


class _Reason:
    """Why an image is unreadable, "" where it is not; no string, whose length would count as progress."""

    __slots__ = ("words",)

    def __init__(self, words: str) -> None:
        self.words = words


def _reason(manifest: Manifest, index: int) -> _Reason:
    try:
        decode(manifest.file(index), _CHEAP)
    except UnreadableImage as error:
        return _Reason(error.message)
    return _Reason("")


def set_aside(manifest: Manifest, problems: Sequence[Problem], on_bad: str) -> Manifest:
    """The manifest without the unreadable files, each listed with its reason in `set_aside`.

    Args:
        manifest: as scanned; what the scan has set aside counts too.
        problems: found since.
        on_bad: `skip`, or `fail` to refuse any.

    Raises:
        TlkitError: `fail` and there are some; or a class has no image left to train on.
    """
    found = [*manifest.set_aside, *problems]
    if on_bad == "fail" and found:
        raise TlkitError(
            f"{len(found)} {'file' if len(found) == 1 else 'files'} cannot be used: {_named(found)}.",
            "repair or remove them, or use --on-bad skip to set them aside.",
        )
    if not problems:
        return manifest
    kept = manifest.without(problems)
    _refuse_emptied(manifest, kept, problems)
    if not len(kept):
        raise TlkitError(f"none of the {len(manifest)} images can be decoded: {_named(found)}.", "check the folder.")
    return kept


def _refuse_emptied(manifest: Manifest, kept: Manifest, problems: Sequence[Problem]) -> None:
    """Every class that could train must still be able to: by images of train where a split is given, else by any."""
    train = SPLITS.index("train")
    splits = (train, UNASSIGNED) if (manifest.given == train).any() else (*range(len(SPLITS)), UNASSIGNED)
    before = manifest.select(np.flatnonzero(np.isin(manifest.given, splits)))
    after = kept.select(np.flatnonzero(np.isin(kept.given, splits)))
    for label in np.flatnonzero((before.class_counts() > 0) & (after.class_counts() == 0)).tolist():
        bad = {before.paths[i] for i in np.flatnonzero(before.of_class(label)).tolist()}
        of = "training images" if len(splits) == 2 else "images"
        raise TlkitError(
            f"none of the {len(bad)} {of} of class {manifest.classes[label]!r} can be decoded: "
            f"{_named([problem for problem in problems if problem.path in bad])}.",
            "replace them, or remove the class.",
        )


def _named(problems: Sequence[Problem], most: int = 3) -> str:
    """The first files with their reasons, and how many more there are."""
    named = "; ".join(f"{problem.path!r} {problem.reason}" for problem in problems[:most])
    return named + (f"; and {len(problems) - most} more" if len(problems) > most else "")
