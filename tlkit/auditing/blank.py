"""Images that are one colour throughout: nothing can be learned from them, and a class of them is learned by its colour."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, share
from tlkit.auditing.findings import Finding

SERIOUS_SHARE = 0.05  # of the images: more than a few lens caps; a decoder or a converter has blanked them


def check(evidence: Evidence) -> Iterator[Finding]:
    """Blank images, how many of each class, and what they may come from."""
    blank = np.flatnonzero(evidence.looks.plain & (evidence.looks.width > 0))
    if not len(blank):
        return
    colours = np.rint(evidence.looks.colour).astype(int)
    most = len(blank) > SERIOUS_SHARE * len(evidence)
    yield Finding(
        check="blank",
        severity="serious" if most else "warning",
        sentence=(
            f"{counted(len(blank), 'image is', 'images are')} one colour throughout "
            f"({share(len(blank), len(evidence))} of the images)."
        ),
        remedy=(
            "Open some in another program: if they show something there, save them again as 8-bit PNG or JPEG; remove those "
            "that show nothing."
        ),
        groups=tuple(
            evidence.group([int(row)], f"R {colours[row, 0]}, G {colours[row, 1]}, B {colours[row, 2]} throughout")
            for row in blank
        ),
        facts={"blank": len(blank), "classes": _by_class(evidence, blank)},
    )


def _by_class(evidence: Evidence, blank: np.ndarray) -> dict[str, int]:
    """Class -> blank images, of classes that have some."""
    counts = evidence.dataset.class_counts(blank)
    return {name: int(count) for name, count in zip(evidence.dataset.classes, counts, strict=True) if count}
