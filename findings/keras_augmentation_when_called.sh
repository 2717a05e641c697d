#!/usr/bin/env bash
# What: a Keras 3 model with augmentation layers augments when it is called, model(images), without training being
#   said: images are rotated, erased, recoloured at random. model.predict and model(images, training=False) do not.
#   Dropout and GaussianNoise in the same model are off in all three. Seventeen layers tried, one way for all.
# Why it surprises: the layers' documentation says that at inference they do nothing unless training=True is passed, and
#   a call without an argument is inference for every other layer.
# Who is hurt: features, Grad-CAM, custom evaluation loops and small servers, which call the model because it is faster
#   than predict for one image: answers differ from call to call, without an error.
# Instead: training=False in every call of one's own, or keep augmentation out of the model, in the input pipeline.
# Source: keras.layers.RandomRotation: "By default, random rotations are only applied during training. At
#   inference time, the layer does nothing. If you need to apply random rotations at inference time, pass
#   `training=True` when calling the layer."
# Guessed beforehand: model(images) is the same as predict.
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
images = np.random.default_rng(0).uniform(0, 1, (16, 16, 16, 3)).astype("float32")
unit = {"value_range": (0, 1)}
jitter = {f"{kind}_factor": 0.5 for kind in ("brightness", "contrast", "saturation", "hue")}
augmentations = [
    layers.RandomFlip(), layers.RandomRotation(0.3), layers.RandomZoom(0.5), layers.RandomTranslation(0.3, 0.3),
    layers.RandomShear(0.3, 0.3), layers.RandomPerspective(1.0), layers.RandomContrast(0.5, **unit),
    layers.RandomBrightness(0.5, **unit), layers.RandomHue(0.5, **unit), layers.RandomSharpness(1.0, **unit),
    layers.RandomGrayscale(1.0), layers.RandomGaussianBlur(1.0), layers.RandomErasing(1.0, **unit),
    layers.RandomPosterization(2, **unit), layers.RandomColorJitter(**unit, **jitter), layers.RandAugment(**unit),
    layers.AugMix(**unit),
]
for layer in [*augmentations, layers.Dropout(0.5), layers.GaussianNoise(0.5)]:
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, layer(inputs))
    untouched = np.abs(np.asarray(model(images, training=False)) - images).max()
    predicted = np.abs(model.predict(images, verbose=0) - images).max()
    called = max(np.abs(np.asarray(model(images)) - images).max() for _ in range(4))
    print(f"{type(layer).__name__:20} largest change: training=False {untouched:.2f}, predict {predicted:.2f}, "
          f"called {called:.2f}")
    assert max(untouched, predicted) < 1e-5, "predict augments"
    assert (called > 0.01) == (layer in augmentations), "a call is inference now"
PY
