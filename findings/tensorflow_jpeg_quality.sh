#!/usr/bin/env bash
# What: TensorFlow decodes JPEG with the fast, inexact method unless told otherwise: the better a file is, the more it loses.
#   At quality 100 its error is ten times that of Pillow, greater than at 95; every image comes out darker, by about three
#   quarters of a level.
# Why it surprises: the file is decoded by the same libjpeg-turbo as in Pillow and OpenCV, which agree with each other to the
#   last bit; nobody expects quality 100 to be further from the original than 95, or rounding to go one way.
# Who is hurt: networks trained with tf.io or image_dataset_from_directory and served with Pillow or OpenCV, or the other way
#   round; small differences that are what is measured: noise, fine texture, fakes, dark scenes, near-copies by hash.
# Instead: tf.io.decode_jpeg(..., dct_method="INTEGER_ACCURATE"), which equals Pillow (checked below); decode_image and
#   Keras's image_dataset_from_directory have no such argument.
# Source: https://www.tensorflow.org/api_docs/python/tf/io/decode_jpeg (dct_method: "Defaults to '' which maps to a
#   system-specific default").
# Guessed beforehand: differences of one level at edges, and less with better files.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1 pillow==13.0.0 opencv-python-headless==5.0.0.93 scikit-learn==1.9.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import io

import cv2, numpy as np, PIL, tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_image

print("TensorFlow", tf.__version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__)
original = load_sample_image("china.jpg")[:256, :320]  # a photograph that comes with scikit-learn
errors = {}
for quality in (50, 75, 90, 95, 98, 100):
    held = io.BytesIO()
    Image.fromarray(original).save(held, "JPEG", quality=quality, subsampling=0)
    raw = held.getvalue()
    pillow = np.asarray(Image.open(io.BytesIO(raw))).astype(float)
    fast = tf.io.decode_jpeg(raw).numpy().astype(float)
    assert np.array_equal(tf.io.decode_image(raw).numpy(), fast)
    assert np.array_equal(tf.io.decode_jpeg(raw, dct_method="INTEGER_ACCURATE").numpy(), pillow)
    assert np.array_equal(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], pillow)
    errors[quality] = [float(np.abs(image - original).mean()) for image in (pillow, fast)]
    print(
        f"  quality {quality:3d}, {len(raw) // 1024:3d} kB: mean error {errors[quality][0]:.2f} by Pillow and OpenCV, {errors[quality][1]:.2f} by "
        f"TensorFlow, which is {(fast - pillow).mean():+.2f} on average and up to {np.abs(fast - pillow).max():.0f} away"
    )
    assert (fast - pillow).mean() < -0.4
assert errors[100][1] > 5 * errors[100][0] and errors[100][1] > errors[95][1], "the default is accurate now"
PY
