#!/usr/bin/env bash
# What: MAPIE's top_label_ece of probabilities that are calibrated by construction is 0.27 with 100 classes and 5,000 images, and 0.38 with
#   1,000 classes: it sorts the images of each predicted class into 50 bins of their own, one or none in most, and the chance in
#   them is counted as miscalibration. The usual expected calibration error of the same numbers is 0.03 and 0.02.
# Why it surprises: "top-label" and "ECE" are read as the usual figure, and the default of 50 bins as bins for all images; 0.27 would be
#   a badly overconfident network. One that is really overconfident has 0.30, so that the two can hardly be told apart.
# Who is hurt: whoever checks the calibration of a network of many classes, or compares data sets of different size: networks are
#   recalibrated that were right, and the smaller the test set, the worse every network is.
# Instead: bins over all images (written out below), or as many images for each class as the bins need: hundreds.
# Source: https://mapie.readthedocs.io/en/stable/ (top_label_ece: "The Top-Label ECE which is a method adapted to fit the ECE to a
#   Top Label setting"; num_bins=50).
# Guessed beforehand: not written down; about 0.02 was expected when a calibrated set of ten classes had 0.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check mapie==1.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
from mapie.metrics.calibration import top_label_ece

print("MAPIE", version("mapie"))
random = np.random.default_rng(0)


def usual(labels, probabilities, bins=15):
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    where = np.minimum((sure * bins).astype(int), bins - 1)
    return sum(abs(right[where == k].mean() - sure[where == k].mean()) * np.mean(where == k) for k in np.unique(where))


results = {}
for classes, images, width in ((2, 5000, 2.5), (10, 5000, 2.5), (100, 5000, 3.5), (100, 50000, 3.5), (1000, 5000, 4.5)):
    weights = np.exp(random.normal(0, width, (images, classes)))
    honest = weights / weights.sum(1, keepdims=True)
    labels = (honest.cumsum(1) < random.random((images, 1))).sum(1).clip(max=classes - 1)  # drawn from these very probabilities
    boastful = weights**1.5 / (weights**1.5).sum(1, keepdims=True)
    row = [measure(labels, rows) for rows in (honest, boastful) for measure in (top_label_ece, usual)]
    results[classes, images] = row
    print(f"  {classes} classes, {images} images: calibrated {row[0]:.3f} (usual error {row[1]:.3f}), overconfident {row[2]:.3f} ({row[3]:.3f})")
    assert row[1] < 0.03
assert results[2, 5000][0] < 0.05
assert results[100, 5000][0] > 0.2 and results[1000, 5000][0] > 0.3, "the error of calibrated probabilities is near 0 now"
assert results[100, 5000][0] > results[100, 50000][3] and results[100, 50000][0] < 0.15
PY
