#!/usr/bin/env bash
# What: RandomCrop(12, 12) of Keras 3 returns its input untouched at inference: predict gives 16x16 for 16x16 and 20x14
#   for 20x14, while model.output_shape says 12x12 and training gives 12x12. Nothing is resized or cropped.
# Why it surprises: the documentation promises a resized crop of the target's size at inference, the layer's own
#   symbolic shape says so, and the Keras 2 layer did it.
# Who is hurt: networks that end in global pooling run on and see validation and test images at another scale than
#   training images; those with Flatten fail at the first validation; batches of images of several sizes stay ragged.
# Instead: Resizing or CenterCrop of the target's size behind it (CenterCrop leaves the training crop as it is).
# Source: keras.layers.RandomCrop: "At inference time, and during training if an input image is smaller than the target
#   size, the input will be resized and cropped so as to return the largest possible window in the image that matches
#   the target aspect ratio."
# Guessed beforehand: a centre crop of 12x12.
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
for size in ((16, 16), (20, 14), (10, 16)):
    images = np.random.default_rng(0).uniform(0, 1, (2, *size, 3)).astype("float32")
    inputs = keras.Input((*size, 3))
    crop = keras.Model(inputs, layers.RandomCrop(12, 12)(inputs))
    trained = crop(images, training=True).shape[1:3]
    predicted = crop.predict(images, verbose=0)
    print(f"{size}: declared {crop.output_shape[1:3]}, training {trained}, predict {predicted.shape[1:3]}")
    assert crop.output_shape[1:3] == trained == (12, 12)
    assert predicted.shape == images.shape and (predicted == images).all(), "inference crops now"
    repaired = keras.Model(inputs, layers.CenterCrop(12, 12)(layers.RandomCrop(12, 12)(inputs)))
    assert repaired.predict(images, verbose=0).shape[1:3] == (12, 12)
PY
