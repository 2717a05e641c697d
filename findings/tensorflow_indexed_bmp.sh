#!/usr/bin/env bash
# What: TensorFlow reads a BMP with a colour table without the table: the numbers of the colours become grey values. Red,
#   green and blue are 0, 1 and 2, black to the eye, in tf.io.decode_image and so in Keras's image_dataset_from_directory.
# Why it surprises: an indexed PNG or GIF of the same picture is right, the shape is that of colours when channels=3 is asked
#   for, and BMP is among the formats that both document. Other kinds of BMP that are not supported raise an error.
# Who is hurt: images of microscopes, scanners, screens and older cameras, saved with 256 or 16 colours: the order of a colour
#   table is as the program that saved it liked, so that one class of one device looks like noise, and a network trained on
#   such noise fails where another program serves the same files with their colours.
# Instead: read with Pillow or OpenCV (checked below), or save as PNG first.
# Source: https://www.tensorflow.org/api_docs/python/tf/io/decode_image ("Detects whether an image is a BMP, GIF, JPEG, ..."),
#   https://keras.io/api/data_loading/image/ ("Supported image formats: .jpeg, .jpg, .png, .bmp, .gif").
# Guessed beforehand: that decoders of files without loss agree, but for 16 bits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check tensorflow==2.21.0 keras==3.15.1 pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import pathlib

import cv2, keras, numpy as np, PIL, tensorflow as tf
from PIL import Image

print("TensorFlow", tf.__version__, "Keras", keras.__version__, "Pillow", PIL.__version__, "OpenCV", cv2.__version__)
picture = Image.new("P", (48, 32))  # three stripes: red, green, blue
picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
picture.putdata([column // 16 for _ in range(32) for column in range(48)])
true = np.asarray(picture.convert("RGB"))
for kind in ("bmp", "png", "gif"):
    folder = pathlib.Path(f"{kind}s/stripes")
    folder.mkdir(parents=True)
    picture.save(folder / f"a.{kind}")
    raw = (folder / f"a.{kind}").read_bytes()
    found = tf.io.decode_image(raw, channels=3, expand_animations=False).numpy()
    data = keras.utils.image_dataset_from_directory(f"{kind}s", image_size=(32, 48), batch_size=1, verbose=False)
    loaded = np.asarray(next(iter(data))[0])[0]
    print(f"  {kind}: red, green and blue are {found[0, ::16].tolist()} by decode_image, {loaded[0, 8::16].astype(int).tolist()} by Keras")
    assert np.array_equal(np.asarray(Image.open(folder / f"a.{kind}").convert("RGB")), true)
    assert np.array_equal(cv2.imread(str(folder / f"a.{kind}"))[..., ::-1], true)
    assert np.array_equal(found, loaded)
    if kind == "bmp":
        assert np.array_equal(found, np.repeat(np.asarray(picture)[..., None], 3, axis=2)), "the colour table is read now"
    else:
        assert np.array_equal(found, true)
PY
