#!/usr/bin/env bash
# What: Keras's IoU metrics count pixels in int32: from 2,147,483,648 pixels of one class on, the count is negative and the score
#   wrong: a network with a mean of 0.67 has 0.42 from there on. That is one epoch of 1,200 images of 2048 by 1024 pixels, or of
#   9,400 of 512 by 512, with mostly background.
# Why it surprises: the score is plausible, between 0 and 1, and right in every try on part of the data. It falls in the last
#   part of an epoch and is well again at the start of the next, like something that the network learns and forgets. Nothing
#   warns, and the result is a float.
# Who is hurt: segmentation of streets, tissue and satellite images at full size, above all the training score, and any test set
#   scored in one go: the wrong checkpoint is kept, a better network is thrown away.
# Instead: dtype="float32" (checked below), or one score per part of the data.
# Source: https://keras.io/api/metrics/segmentation_metrics/ ("dtype: (Optional) data type of the metric result").
# Guessed beforehand: yes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import keras, numpy as np

print("Keras", keras.__version__, "on", keras.backend.backend())
# an image of 512 by 512: 90% background, the other class half found, and some background taken for it
truth = np.zeros(512 * 512, "int32")
truth[:26214] = 1
guess = truth.copy()
guess[13107:26214] = 0
guess[-5243:] = 1
true = []
for kind in (0, 1):
    true.append(np.sum((truth == kind) & (guess == kind)) / np.sum((truth == kind) | (guess == kind)))
true = float(np.mean(true))
copies = 512  # a weight of 512 counts an image 512 times

plain, weighed = keras.metrics.MeanIoU(2), keras.metrics.MeanIoU(2)
for _ in range(3):
    plain.update_state(truth, guess)
weighed.update_state(truth, guess, sample_weight=np.full(truth.size, 3, "int32"))
assert np.array_equal(plain.total_cm, weighed.total_cm) and abs(float(plain.result()) - true) < 1e-4

metric, other = keras.metrics.MeanIoU(2), keras.metrics.MeanIoU(2, dtype="float32")
found = {}
for step in range(1, 21):
    weights = np.full(truth.size, copies, "int32")
    metric.update_state(truth, guess, sample_weight=weights)
    other.update_state(truth, guess, sample_weight=weights.astype("float32"))
    images = step * copies
    found[images] = float(metric.result()), float(other.result()), int(np.asarray(metric.total_cm)[0, 0])
    if step % 4 == 0:
        print(f"  {images:,} images: mean IoU {found[images][0]:.3f}, in float32 {found[images][1]:.3f}, exact {true:.3f}; background counted {found[images][2]:,} times")
early = [score for images, (score, _, _) in found.items() if images <= 8192]
late = [(score, count) for images, (score, _, count) in found.items() if images > 9600]
assert np.allclose(early, true, atol=1e-3) and np.allclose([score for _, score, _ in found.values()], true, atol=1e-3)
assert all(count < 0 and 0 <= score < true - 0.1 for score, count in late), "the counts hold more now"
PY
