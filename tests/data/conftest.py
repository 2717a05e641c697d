import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import Dataset


@pytest.fixture
def shared_data():
    """A folder of real images by name; where there is none, the test is skipped."""
    root = Path(os.environ.get("TLKIT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))

    def folder(name):
        if not (root / name).is_dir():
            pytest.skip(f"no real images at {root / name}; TLKIT_SHARED_DATA names the folder that holds {name}")
        return root / name

    return folder


@pytest.fixture
def write_image():
    """A small image file whose content depends on `seed`, at any path."""

    def write(path, seed=0, size=(8, 6), image_format="PNG"):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        with path.open("wb") as file:
            Image.fromarray(pixels).save(file, image_format)
        return path

    return write


@pytest.fixture
def make_classes(tmp_path, write_image):
    """A folder `images` with `count` distinct images in each of the named class folders."""

    def make(*names, count=2, root=tmp_path / "images"):
        for n, name in enumerate(names):
            for i in range(count):
                write_image(root / name / f"{i}.png", seed=1000 * n + i)
        return root

    return make


@pytest.fixture(scope="session")
def make_manifest():
    """A manifest of files that do not exist: content ids, labels and the rest as given."""

    def make(contents, labels, *, groups=None, given=None, classes=None, paths=None):
        n = len(contents)
        sha256 = np.zeros((n, 32), dtype=np.uint8)
        sha256[:, :8] = np.asarray(contents, dtype=">u8").view(np.uint8).reshape(n, 8)
        return Dataset(
            root=Path("/nowhere"),
            classes=classes or tuple(f"c{k}" for k in range(max(labels, default=-1) + 1)),
            paths=paths or [f"c{label}/{i}.png" for i, label in enumerate(labels)],
            labels=np.asarray(labels, dtype=np.int32),
            sha256=sha256,
            sizes=np.full(n, 10, dtype=np.int64),
            given=np.asarray([-1] * n if given is None else given, dtype=np.int8),
            groups=groups,
        )

    return make
