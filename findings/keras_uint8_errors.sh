#!/usr/bin/env bash
# What: the errors of uint8 images by Keras wrap round: the mean absolute error of images that are 2 levels too bright is 254, of images
#   2 levels too dark 2; the mean squared error of two different images is 104 in place of 9,081, PSNR 28 dB in place of 9, and it never
#   falls below 24 dB. Of float16 features of a length above 256 the metric CosineSimilarity is exactly 0.
# Why it surprises: the same metrics named in compile() convert first and are right on the same arrays; of small differences squared
#   errors are right, too, so a test with a little noise passes. 28 dB looks like a fair image. Nothing is raised, on TensorFlow as
#   on JAX.
# Who is hurt: who measures decoded, compressed or restored images, quantised networks, depth and ages in uint8 with a metric of his own
#   in a loop; who compares features kept in float16.
# Instead: .astype("float32") on both (checked below).
# Source: https://keras.io/api/metrics/regression_metrics/ ("loss = mean(abs(y_true - y_pred))") and
#   https://keras.io/api/ops/nn/#psnr-function ("PSNR is a measure of the quality of a reconstructed signal").
# Guessed beforehand: all convert.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 tensorflow==2.21.0 numpy==2.4.6
cat > measure.py <<'PY'
import keras, numpy as np
from keras import losses, metrics, ops

print("Keras", keras.__version__, "on", keras.backend.backend())
random = np.random.default_rng(0)
image = random.integers(10, 240, (1, 3072)).astype("uint8")
other = random.integers(10, 240, (1, 3072)).astype("uint8")


def measured(metric, truth, given):
    metric.update_state(truth, given)
    return float(metric.result())


def psnr(truth, given):
    return float(ops.psnr(ops.convert_to_tensor(truth), ops.convert_to_tensor(given), 255))


measures = {
    "MeanAbsoluteError": lambda truth, given: measured(metrics.MeanAbsoluteError(), truth, given),
    "losses.mean_absolute_error": lambda truth, given: float(ops.mean(losses.mean_absolute_error(truth, given))),
    "MeanSquaredError": lambda truth, given: measured(metrics.MeanSquaredError(), truth, given),
    "losses.mean_squared_error": lambda truth, given: float(ops.mean(losses.mean_squared_error(truth, given))),
    "PSNR": psnr,
}
found = {}
for what, given in (("2 levels brighter", image + 2), ("2 levels darker", image - 2), ("another image", other)):
    for name, measure in measures.items():
        found[what, name] = measure(image, given), measure(image.astype("float32"), given.astype("float32"))
        print(f"  {what}, {name}: uint8 {found[what, name][0]:.2f}, float32 {found[what, name][1]:.2f}")
for name in ("MeanAbsoluteError", "losses.mean_absolute_error"):
    assert found["2 levels brighter", name] == (254, 2), "uint8 is converted now"
    assert found["2 levels darker", name] == (2, 2)
for name in ("MeanSquaredError", "losses.mean_squared_error"):
    assert found["2 levels brighter", name] == (4, 4)
    assert found["another image", name][0] < 256 < 8000 < found["another image", name][1]
noise = {}
for spread in (2, 8, 16, 32, 64, 120):
    noisy = np.clip(image + random.normal(0, spread, image.shape), 0, 255).round().astype("uint8")
    noise[spread] = psnr(image, noisy), psnr(image.astype("float32"), noisy.astype("float32"))
    print(f"  noise of {spread} levels: PSNR of uint8 {noise[spread][0]:.1f} dB, of float32 {noise[spread][1]:.1f} dB")
assert min(pair[0] for pair in noise.values()) > 24 and noise[120][1] < 12, "PSNR does not wrap now"
model = keras.Sequential([keras.layers.Identity()])
model.compile(loss="mse", metrics=["mae"])
for given in (image + 2, other):
    squared, absolute = (float(value) for value in model.evaluate(image, given, verbose=0))
    exact = given.astype(float) - image
    print(f"  by evaluate() of the same uint8 arrays: absolute {absolute:.2f}, squared {squared:.2f}")
    assert np.isclose(absolute, np.abs(exact).mean()) and np.isclose(squared, np.square(exact).mean())
for length in (100, 200, 300):
    features = random.normal(0, 1, (1, 512))
    features *= length / np.linalg.norm(features)
    nearly = features + random.normal(0, 0.02 * length / 512**0.5, features.shape)
    given, exact = (measured(metrics.CosineSimilarity(), features.astype(kind), nearly.astype(kind)) for kind in ("float16", "float32"))
    print(f"  cosine of features of length {length} and their near copies: float16 {given:.4f}, float32 {exact:.4f}")
    assert exact > 0.99 and (given == 0 if length > 256 else given > 0.99), "float16 does not overflow now"
PY
for backend in tensorflow jax; do
    KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' venv/bin/python measure.py 2>> log || { cat log; exit 1; }
done
