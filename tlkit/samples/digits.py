"""The digits sample: 1,797 real handwritten digits that ship inside scikit-learn, as PNG files in class folders."""

from pathlib import Path

import numpy as np

from tlkit.core.story import Story

SIDE = 32
CARD = {
    "title": "Optical recognition of handwritten digits, as shipped in scikit-learn",
    "licence": "CC BY 4.0",
    "homepage": "https://archive.ics.uci.edu/dataset/80",
    "citation": "Alpaydin, E. and Kaynak, C. (1998). Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
}


def write_digits(folder: Path, *, count: int | None, story: Story) -> None:
    """Write `folder/DIGIT/NUMBER.png`, 8×8 grey values enlarged to 32×32; black on white, as they were written.

    Args:
        folder: an existing, empty folder.
        count: how many at most, evenly over the ten digits; all of them when None.
        story: hears how far it is.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target
    chosen = _evenly(labels, count)
    for label in np.unique(labels):
        (folder / str(label)).mkdir()
    for index in story.track(chosen, "writing digits", len(chosen)):
        grey = np.round(255 - digits.images[index] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / str(labels[index]) / f"{index:04d}.png")


def _evenly(labels: np.ndarray, count: int | None) -> list[int]:
    """Indices of the first examples of each class, `count` in all as evenly as it goes; ascending."""
    if count is None:
        return list(range(len(labels)))
    rank = np.zeros(len(labels), dtype=np.int64)  # of each example within its class
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        rank[of_class] = np.arange(len(of_class))
    by_rank = np.lexsort((labels, rank))
    return sorted(by_rank[:count].tolist())
