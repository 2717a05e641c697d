"""Images that show nothing or hardly anything: one colour throughout, or scans that use a small part of their range."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, share
from tlkit.auditing.findings import Finding
from tlkit.data import decode

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


# -- Dark scans: files of more than 8 bits a sample that use a small part of their range, and so are decoded almost black ---


def check_dark(evidence: Evidence) -> Iterator[Finding]:
    """One finding where the whole set is dark; none where `--levels` says what black and white are."""
    sentence = "" if evidence.levelled else decode.dark_scans(evidence.dataset)
    if sentence:
        yield Finding(
            check="dark",
            severity="serious",
            sentence=sentence[0].upper() + sentence[1:],
            remedy="Say what is black and white; the classifier keeps it, and so do predict, serve and every export.",
            command=evidence.finetune("--levels", "auto"),
        )
