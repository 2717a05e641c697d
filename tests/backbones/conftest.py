import os
from pathlib import Path

import keras
import pytest


@pytest.fixture
def shared_keras():
    """Real pretrained files by path; where there are none, the test is skipped."""
    root = Path(os.environ.get("TLKIT_SHARED_KERAS", Path(__file__).parents[3] / "shared" / "keras"))

    def file(name):
        if not (root / name).is_file():
            pytest.skip(f"no {name} under {root}; TLKIT_SHARED_KERAS names the folder that holds it")
        return root / name

    return file


@pytest.fixture
def classifier():
    """A user's small classifier for 32-pixel RGB images, with names that Keras made up."""

    def build(seed=0, side=32):
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((side, side, 3)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(4, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(6, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, activation="softmax"),
            ]
        )

    return build
