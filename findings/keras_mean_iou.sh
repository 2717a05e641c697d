#!/usr/bin/env bash
# What: Keras's MeanIoU with ignore_class still counts that class, with an IoU of 0, as soon as one pixel is predicted as it:
#   one wrong pixel of fifty takes the mean from 1.00 to 0.66. And sample weights lose what follows the point: the example of
#   its documentation gives 0 where it prints 0.238; weights of 0.5 give 0, of 1.9 what 1 gives.
# Why it surprises: no prediction of an ignored class can be right, since its pixels were left out, so that it can only lower
#   the mean; with 255 as the ignored label, as in the documentation, nothing of it is seen. Weights given as a list do not
#   even warn.
# Who is hurt: segmentation and class activation maps scored without background (0): the number hangs on whether the
#   background is predicted at all, not on how often. Weights that balance classes or sizes, and averages over graders.
# Instead: IoU(num_classes, target_class_ids=[1, 2]) with ignore_class=0, and dtype="float32" for weights (both checked
#   below).
# Source: https://keras.io/api/metrics/segmentation_metrics/#meaniou-class ("The ID of a class to be ignored during metric
#   computation"; the example with sample_weight).
# Guessed beforehand: agreement with scikit-learn.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 scikit-learn==1.9.1 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import keras, numpy as np, sklearn
from sklearn.metrics import jaccard_score

print("Keras", keras.__version__, "scikit-learn", sklearn.__version__)
truth = np.repeat([0, 1, 2], [50, 30, 20])  # 0 is background


def score(metric, guess, weights=None):
    metric.update_state(truth, guess, sample_weight=weights)
    return float(np.asarray(metric.result()))


def by_hand(guess):
    kept = truth != 0
    return float(jaccard_score(truth[kept], guess[kept], labels=[1, 2], average="macro"))


def mean_iou(**options):
    return keras.metrics.MeanIoU(3, **options)


perfect, one, ten = truth.copy(), truth.copy(), truth.copy()
one[50] = 0
ten[50:60] = 0
for name, guess in (("perfect", perfect), ("one pixel of class 1 taken for background", one), ("ten pixels", ten)):
    found = score(mean_iou(ignore_class=0), guess)
    named = score(keras.metrics.IoU(3, target_class_ids=[1, 2], ignore_class=0), guess)
    print(f"  {name}: MeanIoU(3, ignore_class=0) {found:.3f}, of classes 1 and 2 {by_hand(guess):.3f}")
    assert abs(named - by_hand(guess)) < 1e-4 and abs(found - by_hand(guess) * (1 if guess is perfect else 2 / 3)) < 1e-4

few = truth.copy()
few[60:65] = 2  # five of class 1 are taken for class 2
found = {}
for weight in (0.5, 0.99, 1.0, 1.9):
    weights = np.where(truth == 1, weight, 1.0).tolist()
    found[weight] = score(mean_iou(), few, weights), score(mean_iou(dtype="float32"), few, weights)
    true = jaccard_score(truth, few, average="macro", sample_weight=weights)
    print(f"  class 1 weighs {weight}: MeanIoU {found[weight][0]:.3f}, with dtype float32 {found[weight][1]:.3f}, by scikit-learn {true:.3f}")
    assert abs(found[weight][1] - true) < 1e-3
assert found[0.5][0] == found[0.99][0] and found[1.9][0] == found[1.0][0], "weights are used as they are now"
metric = keras.metrics.MeanIoU(num_classes=2)
metric.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=[0.3, 0.3, 0.3, 0.1])
print(f"  the example of the documentation: {float(np.asarray(metric.result())):.3f}, documented as 0.238")
assert float(np.asarray(metric.result())) == 0
print("  warnings:", sum("weight as" in line for line in open("errors.txt")))
assert not any("weight as" in line for line in open("errors.txt"))
PY
