"""Mirror images: whether flipping in augmentation changes the class."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlkit.auditing.evidence import LEAST_IMAGES, Evidence
from tlkit.auditing.findings import Finding
from tlkit.base.story import percent
from tlkit.data.views import Augmentation

MOST, PART, LEAST = 400, 0.1, 60  # images that are mirrored: a tenth, within these bounds
DROP = 0.15  # of accuracy
TAKEN = 0.5  # of the mirrored images of a class that are predicted as one other class


@dataclass(frozen=True, kw_only=True)
class Mirror(Augmentation):
    """The view that mirrors an image and changes nothing else; used as other views are."""

    strength: str = "none"

    def describe(self, number: int) -> dict[str, Any]:
        """What identifies the view."""
        return {"view": "mirror"}

    def view(
        self, images: np.ndarray, sha256: np.ndarray, number: int, pool: ThreadPoolExecutor | None = None
    ) -> np.ndarray:
        """uint8 (b, H, W, 3), mirrored left to right."""
        return np.ascontiguousarray(images[:, :, ::-1])


def sample(labels: np.ndarray, seed: int) -> np.ndarray:
    """int64 (n,), some labelled images, ascending; none where there are too few or too few classes to learn from."""
    rows = np.flatnonzero(labels >= 0)
    if len(rows) < LEAST_IMAGES or len(np.unique(labels[rows])) < 2:
        return rows[:0]
    count = min(len(rows), max(LEAST, min(MOST, int(PART * len(rows)))))
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def check(evidence: Evidence) -> Iterator[Finding]:
    """Compare the probe's out-of-fold predictions of images and of their mirror images."""
    mirrored = evidence.mirrored
    if mirrored is None:
        return
    probe, labels = evidence.probe, evidence.dataset.labels
    positions = np.searchsorted(evidence.labelled, mirrored.rows)
    truth = labels[mirrored.rows]
    upright = probe.predicted[positions]
    seen = probe.classes[probe.ask(mirrored.features, positions).argmax(axis=1)]
    before, after = float((upright == truth).mean()), float((seen == truth).mean())
    pairs = _taken_for_another(evidence, truth, upright, seen)
    if before - after < DROP and not pairs:
        return
    which = "; ".join(f"{of!r} becomes {into!r} in {percent(part)}" for of, into, part in pairs[:3])
    yield Finding(
        check="flips",
        severity="warning",
        sentence=(
            f"Mirror images look like other classes: a probe classifies {percent(before)} of {len(truth)} images correctly, and "
            f"{percent(after)} of their mirror images{f'; {which}' if which else ''}."
        ),
        remedy="Train without flips if the mirror image of a class does not belong to it (text, digits, left and right).",
        command=evidence.finetune("--no-flip"),
        groups=tuple(
            evidence.group([int(row)], f"predicted as {evidence.dataset.classes[label]!r} when mirrored")
            for row, label in zip(mirrored.rows, seen, strict=True)
            if label != labels[row]
        )[:12],
        facts={"accuracy": before, "mirrored": after, "images": len(truth), "pairs": pairs},
    )


def _taken_for_another(
    evidence: Evidence, truth: np.ndarray, upright: np.ndarray, seen: np.ndarray
) -> list[tuple[str, str, float]]:
    """Classes of which at least half the correctly classified images are predicted as one other class when mirrored."""
    names, found = evidence.dataset.classes, []
    for label in np.unique(truth):
        known = (truth == label) & (upright == label)
        counts = np.bincount(seen[known], minlength=len(names))
        into = int(counts.argmax())
        if known.sum() >= 5 and into != label and counts[into] >= TAKEN * known.sum():
            found.append((names[label], names[into], float(counts[into] / known.sum())))
    return sorted(found, key=lambda pair: -pair[2])
