#!/usr/bin/env bash
# What: fit(class_weight=...) on several labels an image (rows of zeros and ones) weighs each image by its *first* label
#   alone: the row goes through argmax. The weight of a rare label counts only where no label before it is set, and an image
#   with no label at all is weighed as one of class 0. Nothing is raised or warned.
# Why it surprises: the weights are documented as one for each class, and a loss that has a term for each class could apply
#   them so; older versions of Keras refused targets that are not one class. Reordering the columns changes the training.
# Who is hurt: multi-label models with rare labels (chest X-rays, satellite tags): the common label is usually the first
#   column, so the weight of the rare one is without effect just where the two occur together, and background images get
#   the weight of class 0.
# Instead: a loss that weighs its own columns, or sample_weight computed by hand.
# Source: https://keras.io/api/models/model_training_apis/ (class_weight: "mapping class indices (integers) to a weight
#   (float) value, used for weighting the loss function (during training only)").
# Guessed beforehand: that it takes the argmax of the row; not that empty rows count as class 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import keras, numpy as np

print("Keras", keras.__version__)
ONE = float(np.log(2))  # the loss of a probability of a half


def loss(targets, weights):
    """The loss that fit reports where every probability is a half, in units of the unweighted loss."""
    images = np.zeros((len(targets), 4), "float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(1e-12), "binary_crossentropy")
    history = model.fit(images, np.array(targets, "float32"), class_weight=weights, batch_size=64, verbose=0)
    return history.history["loss"][0] / ONE


rare_last = {0: 1.0, 1: 1.0, 2: 10.0}
cases = {
    "rare label alone": ([[0, 0, 1]] * 8, rare_last),
    "rare label beside a common one": ([[1, 0, 1]] * 8, rare_last),
    "no label, class 0 weighs 5": ([[0, 0, 0]] * 8, {0: 5.0, 1: 1.0, 2: 1.0}),
    "the same as the second, columns the other way round": ([[1, 0, 1]] * 8, {0: 10.0, 1: 1.0, 2: 1.0}),
}
found = {name: loss(*case) for name, case in cases.items()}
for name, value in found.items():
    print(f"{name}: {value:.2f} times the unweighted loss")
assert np.allclose(list(found.values()), [10, 1, 5, 10], atol=1e-3), "the weights are applied otherwise now"
PY
