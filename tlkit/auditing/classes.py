"""Classes: how many images each has, and in which split."""

from collections.abc import Iterator

import numpy as np

from tlkit.auditing.evidence import Evidence, counted, named
from tlkit.auditing.findings import Finding
from tlkit.base.story import percent
from tlkit.data.dataset import SPLITS

TINY = 10  # images of a class: fewer can neither be learned nor measured
UNEQUAL, VERY_UNEQUAL = 3.0, 10.0  # times as many images in the largest class as in the smallest


def check(evidence: Evidence) -> Iterator[Finding]:
    """Tiny classes, classes of unequal size, classes that a split lacks."""
    dataset = evidence.dataset
    counts = dataset.class_counts()
    sizes = dict(zip(dataset.classes, counts.tolist(), strict=True))
    tiny = [name for name, count in sizes.items() if count < TINY]
    if tiny:
        yield Finding(
            check="classes",
            severity="warning",
            sentence=f"{counted(len(tiny), 'class has', 'classes have')} fewer than {TINY} images: {named(tiny)}.",
            remedy="Collect more images of them, or merge or remove them: so few are not enough to train or to test on.",
            facts={"tiny": {name: sizes[name] for name in tiny}},
        )
    if dataset.task.can("balance"):
        yield from _unequal(evidence, counts, sizes)
    yield from _lacking(evidence)


def _unequal(evidence: Evidence, counts: np.ndarray, sizes: dict[str, int]) -> Iterator[Finding]:
    dataset, least, most = evidence.dataset, int(counts.min()), int(counts.max())
    if most >= UNEQUAL * max(least, 1):
        small, large = dataset.classes[int(counts.argmin())], dataset.classes[int(counts.argmax())]
        yield Finding(
            check="classes",
            severity="warning" if most >= VERY_UNEQUAL * max(least, 1) else "note",
            sentence=(
                f"Classes are of unequal size: {large!r} has {most:,} images and {small!r} {least:,}; "
                f"always predicting {large!r} has an accuracy of {percent(most / max(counts.sum(), 1))}."
            ),
            remedy="Read balanced accuracy and macro F1 instead of accuracy, and weight rare classes more in training.",
            command=evidence.finetune("--balance", "auto"),
            facts={"counts": sizes},
        )


def _lacking(evidence: Evidence) -> Iterator[Finding]:
    dataset = evidence.dataset
    for code, split in enumerate(SPLITS):
        rows = (evidence.codes == code) & dataset.labelled
        lacking = [dataset.classes[label] for label in np.flatnonzero(dataset.class_counts(rows) == 0)]
        if rows.any() and lacking:
            yield Finding(
                check="classes",
                severity="warning",
                sentence=f"{split} has no image of {counted(len(lacking), 'class', 'classes')}: {named(lacking)}.",
                remedy="Add images of them to it, or let tlkit draw the split, which gives every class its share.",
                facts={"split": split, "lacking": lacking},
            )
