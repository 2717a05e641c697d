"""Evidence made from arrays, to test checks without files or networks."""

from pathlib import Path

import numpy as np

from tlkit.auditing.evidence import Evidence
from tlkit.data.dataset import Dataset
from tlkit.data.look import Looks


def looks(count, **columns):
    """Plain facts of `count` JPEG photographs, each a little different, with some columns replaced."""
    random = np.random.default_rng(5)
    plain = {
        "format": np.full(count, "JPEG"),
        "mode": np.full(count, "RGB"),
        "camera": np.full(count, ""),
        "taken": np.full(count, ""),
        "width": np.full(count, 320, np.int32),
        "height": np.full(count, 240, np.int32),
        "orientation": np.ones(count, np.int8),
        "frames": np.ones(count, np.int32),
        "quality": np.full(count, 90, np.float32),
        "colour": random.normal(120, 20, (count, 3)).astype(np.float32),
        "contrast": random.normal(50, 5, count).astype(np.float32),
        "sharpness": np.exp(random.normal(3, 0.2, count)).astype(np.float32),
        "border": random.normal(120, 20, (count, 3)).astype(np.float32),
        "plain": np.zeros(count, bool),
        "frame": random.normal(40, 5, count).astype(np.float32),
        "problem": np.full(count, ""),
        "small": random.integers(0, 256, (count, 32, 32), dtype=np.uint8),
    }
    return Looks(**{name: np.asarray(columns.get(name, values)) for name, values in plain.items()})


def evidence(labels, features, *, codes=None, paths=None, facts=None, sha256=None, **more):
    """Evidence of images that exist as numbers only; a label is a letter of `abc...`."""
    labels = np.asarray(labels, np.int32)
    count, random = len(labels), np.random.default_rng(9)
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: labels.max() + 1]) if count else ()
    dataset = Dataset(
        root=Path(),
        classes=names,
        paths=paths or [f"{names[label]}/{row:04d}.jpg" for row, label in enumerate(labels.tolist())],
        labels=labels,
        sha256=random.integers(0, 256, (count, 32), dtype=np.uint8) if sha256 is None else sha256,
        sizes=random.integers(9_000, 11_000, count),
        given=np.full(count, -1, np.int8),
        groups=more.pop("groups", None),
        set_aside=more.pop("set_aside", ()),
    )
    return Evidence(
        dataset=dataset,
        codes=np.zeros(count, np.int8) if codes is None else np.asarray(codes, np.int8),
        features=np.asarray(features, np.float32),
        looks=looks(count) if facts is None else facts,
        images="images",
        **more,
    )


def clouds(per_class, classes=3, dimensions=8, apart=4.0, seed=0):
    """Labels and features: one round cloud of points for each class."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.zeros((classes, dimensions))
    centres[np.arange(classes), np.arange(classes)] = apart
    return labels, (centres[labels] + random.normal(size=(len(labels), dimensions))).astype(np.float32)
