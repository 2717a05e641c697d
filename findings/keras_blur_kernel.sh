#!/usr/bin/env bash
# What: Keras's gaussian_blur and RandomGaussianBlur with a kernel of 3 rows and 7 columns blur with one of 7 rows and 3
#   columns on JAX, and with no Gaussian at all on TensorFlow: its numbers are laid into the wrong shape, so that left is not
#   as right and the ends of the lines weigh nearly as much as the middle. Each gives every blurred image a dark frame:
#   outside of it counts as black.
# Why it surprises: shapes and sums are right, square kernels are right in the middle of the image, and nothing is said.
#   OpenCV, Pillow and torchvision continue the image at its border, and the documentation does not speak of black.
# Who is hurt: training with this layer. Of an even image of 200 the smallest kernel leaves 145 along the border and 105 in
#   the corners. A network of blurred images learns the frame; images that are blurred by their lens have none. A blur along
#   one direction, for motion or for line scanners, goes along the other one.
# Instead: kernels of one length for both; pad by reflection before and crop afterwards, or blur outside the model.
# Source: https://keras.io/api/ops/image/ ("the height and width of the Gaussian kernel").
# Guessed beforehand: that the backends agree.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 jax==0.10.2 numpy==2.4.6
cat > blur.py <<'PY'
import keras, numpy as np

backend = keras.config.backend()
rows, columns, sigma = 3, 7, (1.0, 2.0)
point = np.zeros((9, 9, 1), "float32")
point[4, 4] = 1  # a blurred point is the kernel
lines = [np.exp(-0.5 * ((np.arange(size) - size // 2) / width) ** 2) for size, width in zip((rows, columns), sigma)]
true = np.zeros((9, 9))
true[3:6, 1:8] = np.outer(*(line / line.sum() for line in lines))
blur = keras.ops.image.gaussian_blur
found = np.asarray(blur(point, (rows, columns), sigma, data_format="channels_last"))[..., 0]
print(f"Keras {keras.__version__} on {backend}: kernel of {rows} rows and {columns} columns, in hundredths:")
for row in found[1:8]:
    print("   ", " ".join(f"{100 * value:5.1f}" for value in row))
mirrored = bool(np.allclose(found, found[:, ::-1], atol=1e-5))
rows_used, columns_used = (int((found.sum(axis) > 1e-6).sum()) for axis in (1, 0))
print(f"  {rows_used} rows, {columns_used} columns, left as right: {mirrored}, sum {found.sum():.3f}")
assert abs(found.sum() - 1) < 1e-4 and not np.allclose(found, true, atol=1e-3), "the kernel is the right one now"
assert (rows_used, columns_used, mirrored) == ((7, 3, True) if backend == "jax" else (3, 7, False))

square = np.asarray(blur(point, (3, 3), (1.0, 1.0), data_format="channels_last"))[..., 0]
line = np.exp(-0.5 * np.arange(-1, 2) ** 2)
assert np.allclose(square[3:6, 3:6], np.outer(line, line) / line.sum() ** 2, atol=1e-5)

even = np.full((1, 96, 96, 3), 200, "float32")
layer = keras.layers.RandomGaussianBlur(factor=1.0, kernel_size=3, sigma=(1.0, 1.0))
image = np.asarray(layer(even, training=True))[0, :, :, 0]
found = {place: float(image[at]) for place, at in (("corner", (0, 0)), ("border", (0, 48)), ("middle", (48, 48)))}
print("  an even image of 200 through RandomGaussianBlur:", {place: round(value) for place, value in found.items()})
assert abs(found["middle"] - 200) < 0.1 and found["border"] < 150 and found["corner"] < 110, "the frame is gone"
PY
for backend in tensorflow jax; do
    KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python blur.py 2> errors.txt || { cat errors.txt; exit 1; }
done
