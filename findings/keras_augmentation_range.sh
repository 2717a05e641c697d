#!/usr/bin/env bash
# What: two Keras augmentation layers answer with pixels outside the value_range they were told. RandomSaturation with
#   the default range (0, 255) clips saturation at 255 instead of 1, so strong factors push channels below zero: to
#   -124 at factor 0.7 and to -50546 at 1.0 on an ordinary picture, while (0, 1) never leaves 0..1. RandomInvert
#   inverts within (low, high) by high - x, not low + high - x, so (-1, 1) becomes 0..2: black turns to 2, not to 1.
# Why it surprises: value_range is documented as the range of the images, and the other colour layers (brightness,
#   contrast, hue, posterisation, solarisation) keep it.
# Who is hurt: training on 0..255 with RandomSaturation, which is the default, and training on -1..1 (the range of
#   MobileNetV2, Xception, ...) with RandomInvert: some images of every batch are far out of range, no error, no warning.
# Instead: augment in 0..1 and rescale afterwards, or clip behind the layers.
# Source: keras.layers.RandomSaturation: "`factor=1.0` makes the image fully saturated. Values should be between `0.0`
#   and `1.0`"; keras.layers.RandomInvert: "pixel values are transformed to their complementary values".
# Guessed beforehand: every layer keeps its value_range and does the same in (0, 1) and (0, 255).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import jax, keras, numpy as np
from keras import layers

print("keras", keras.__version__, "jax", jax.__version__)
images = np.random.default_rng(0).integers(60, 200, (4, 24, 24, 3)).astype("float32")


def extremes(make, low, high):
    """Least and greatest pixel over eight seeds, in units of the range: 0 is low, 1 is high."""
    pixels = low + images / 255 * (high - low)
    results = [np.asarray(make((low, high), seed)(pixels, training=True)) for seed in range(8)]
    scaled = (np.stack(results) - low) / (high - low)
    return scaled.min().item(), scaled.max().item()


saturation = {
    (factor, high): extremes(
        lambda value_range, seed: layers.RandomSaturation((factor, factor), value_range=value_range, seed=seed), 0, high
    )
    for factor in (0.6, 0.7, 0.9, 1.0)
    for high in (1, 255)
}
for (factor, high), (least, most) in saturation.items():
    print(f"RandomSaturation {factor} in (0, {high}): {least * high:.1f} to {most * high:.1f}")
    assert (least < -0.01) == (high == 255), "saturation is clipped otherwise now"
assert saturation[1.0, 255][0] < -100

keeps = {
    "RandomBrightness": lambda value_range, seed: layers.RandomBrightness(0.9, value_range=value_range, seed=seed),
    "RandomContrast": lambda value_range, seed: layers.RandomContrast(0.9, value_range=value_range, seed=seed),
    "RandomPosterization": lambda value_range, seed: layers.RandomPosterization(4, value_range=value_range, seed=seed),
}
inverts = lambda value_range, seed: layers.RandomInvert((1, 1), value_range=value_range, seed=seed)
for low, high in ((0, 255), (0, 1), (-1, 1)):
    least, most = extremes(inverts, low, high)
    print(f"RandomInvert in ({low}, {high}): {low + least * (high - low):.2f} to {low + most * (high - low):.2f}")
    assert (most > 1.1) == (low == -1), "inversion is right in every range now"
    for name, make in keeps.items():
        least, most = extremes(make, low, high)
        assert -1e-4 <= least <= most <= 1 + 1e-4, name
PY
