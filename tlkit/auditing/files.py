"""Files: unreadable, rotated, animated and misnamed ones, and those that show nothing or hardly anything."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, named, share
from tlkit.auditing.findings import Finding, ImageGroup
from tlkit.data import decode
from tlkit.pixels.sniff import suffix

SERIOUS_SHARE = 0.05  # of files that cannot be read: more than a few stray files
_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "jif"),
    "MPO": ("jpg", "jpeg", "mpo"),
    "PNG": ("png", "apng"),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "WEBP": ("webp",),
    "TIFF": ("tif", "tiff"),
    "AVIF": ("avif", "avifs"),
    "HEIF": ("heic", "heics", "heif", "heifs", "hif"),
}
_STILL = ("MPO", "TIFF", "ICO", "ICNS")  # several pictures in one file, but no animation


def check(evidence: Evidence) -> Iterator[Finding]:
    """Unreadable, turned, animated and misnamed files."""
    yield from _unreadable(evidence)
    looks = evidence.looks
    turned = np.flatnonzero(looks.orientation > 1)
    if len(turned):
        yield Finding(
            check="files",
            severity="note",
            sentence=f"{counted(len(turned), 'image is', 'images are')} stored rotated, with an EXIF orientation tag.",
            remedy="tlkit turns them upright; other programs may ignore the tag.",
            groups=tuple(
                evidence.group(
                    [int(row)], f"{looks.width[row]}x{looks.height[row]}, EXIF orientation {looks.orientation[row]}"
                )
                for row in turned
            ),
        )
    moving = np.flatnonzero((looks.frames > 1) & ~np.isin(looks.format, _STILL))
    if len(moving):
        yield Finding(
            check="files",
            severity="note",
            sentence=f"{counted(len(moving), 'file is', 'files are')} animated; only the first frame is used.",
            remedy="Save the frame that shows the class, or each frame as an image, with a group for each film.",
            groups=tuple(evidence.group([int(row)], f"{looks.frames[row]} frames") for row in moving),
        )
    yield from _misnamed(evidence)


def _unreadable(evidence: Evidence) -> Iterator[Finding]:
    problems = evidence.dataset.set_aside
    if not problems:
        return
    total = len(evidence) + len(problems)
    yield Finding(
        check="files",
        severity="serious" if len(problems) > SERIOUS_SHARE * total else "warning",
        sentence=(
            f"{counted(len(problems), 'file')} of {total:,} ({share(len(problems), total)}) cannot be used: "
            f"{named([problem.path for problem in problems])}."
        ),
        remedy="Restore them from their source, or remove them; tlkit sets them aside and never substitutes another image.",
        groups=tuple(ImageGroup(paths=(problem.path,), labels=("",), caption=problem.reason) for problem in problems),
        facts={"unreadable": len(problems), "files": total},
    )


def _misnamed(evidence: Evidence) -> Iterator[Finding]:
    looks = evidence.looks
    rows = [
        row
        for row, (path, found) in enumerate(zip(evidence.dataset.paths, looks.format.tolist(), strict=True))
        if found in _SUFFIXES and suffix(path) not in _SUFFIXES[found]
    ]
    if rows:
        yield Finding(
            check="files",
            severity="note",
            sentence=f"{counted(len(rows), 'file has', 'files have')} an extension that does not match the content.",
            remedy="tlkit reads the content; rename them for programs that go by the extension.",
            groups=tuple(evidence.group([int(row)], f"is {looks.format[row]}") for row in rows),
        )


# -- images of one colour throughout ---------------------------------------------------------------

SERIOUS_BLANK = 0.05  # of the images: more than a few lens caps; a decoder or a converter has blanked them


def check_blank(evidence: Evidence) -> Iterator[Finding]:
    """Blank images, how many of each class, and what they may come from."""
    blank = np.flatnonzero(evidence.looks.plain & (evidence.looks.width > 0))
    if not len(blank):
        return
    colours = np.rint(evidence.looks.colour).astype(int)
    most = len(blank) > SERIOUS_BLANK * len(evidence)
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
