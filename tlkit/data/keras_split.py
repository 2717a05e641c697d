"""The split of `keras.utils.image_dataset_from_directory`, for people who migrate."""

import os
from collections.abc import Iterator

import numpy as np

from tlkit.core.errors import TlkitError
from tlkit.core.manifest import Manifest
from tlkit.core.splits import SPLITS, UNASSIGNED

# What Keras lists: by name, in any case, hidden and damaged files too.
_KERAS_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def keras_codes(manifest: Manifest, fraction: float, seed: int) -> tuple[np.ndarray, str]:
    """int8 (N,) codes equal to `validation_split=fraction, subset="both", seed=seed`, and what to say about it.

    Keras lists the files of each class by name, shuffles the whole list and takes the end of it.
    Files that it lists and tlkit sets aside count, as they move the cut; images that it does not
    list (WebP, TIFF, ...) go to train.

    Raises:
        TlkitError: the images are not in one folder for each class.
    """
    listed = list(_keras_files(manifest))
    order = np.arange(len(listed))
    np.random.RandomState(seed).shuffle(order)  # the legacy generator: it is what Keras uses
    held_out = {listed[i] for i in order[len(order) - int(fraction * len(order)) :].tolist()}
    codes = np.array([path in held_out for path in manifest.paths], dtype=np.int8) * SPLITS.index("val")
    others = len(set(manifest.paths) - set(listed))
    return codes, f", and {others} images that Keras does not list in train" if others else ""


def _keras_files(manifest: Manifest) -> Iterator[str]:
    """Relative paths in the order Keras lists them, before it shuffles."""
    laid_out = all(path.startswith(f"{manifest.label_name(i)}/") for i, path in enumerate(manifest.paths))
    if (manifest.given != UNASSIGNED).any() or not manifest.classes or not laid_out:
        raise TlkitError(
            "--keras-split needs one folder for each class and no split yet, as image_dataset_from_directory does.",
            "leave out --keras-split, or give the folder that Keras was given.",
        )
    for name in manifest.classes:
        walked = os.walk(manifest.root / name)  # links to folders are not followed, as in Keras
        for folder, _, files in sorted(walked, key=lambda entry: entry[0]):
            inside = folder[len(str(manifest.root)) + 1 :].replace(os.sep, "/")
            yield from (f"{inside}/{file}" for file in sorted(files) if file.lower().endswith(_KERAS_SUFFIXES))
