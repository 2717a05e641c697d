#!/usr/bin/env bash
# What: skimage.io.imread(file, as_gray=True) gives float64 of 0..1 where the file is in colour, and the file's own numbers,
#   uint8 of 0..255 or uint16 of 0..65535, where it is grey already. imread_collection and ImageCollection do the same.
# Why it surprises: one call with one wish returns two types and scales, 255 or 65,535 times apart, by how the file was
#   saved; the same picture saved in grey and in colour is 128 and 0.502.
# Who is hurt: folders from two scanners or exporters: a threshold, a histogram, a network or a mean over the folder sees
#   some images as black, the others as white; training "works", the class may even be told by the scale.
# Instead: skimage.util.img_as_float(imread(...)) before rgb2gray, or Pillow's convert("L").
# Source: https://scikit-image.org/docs/stable/api/skimage.io.html#skimage.io.imread ("If True, convert color images to
#   gray-scale (64-bit floats). Images that are already in gray-scale format are not converted.")
# Guessed beforehand: yes for grey and colour; that a grey image with alpha raises was not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-image==0.26.0 pillow==12.3.0 numpy==2.4.6 imageio==2.38.1
venv/bin/python - <<'PY'
import numpy as np, skimage, skimage.io
from PIL import Image

print("scikit-image", skimage.__version__)
grey = np.full((8, 8), 128, np.uint8)
Image.fromarray(grey).save("grey.png")
Image.fromarray(np.dstack([grey] * 3)).save("colour.png")
Image.fromarray(np.full((8, 8), 32896, np.uint16)).save("deep.png")  # 128 in 16 bits
Image.fromarray(np.dstack([grey, grey * 0 + 255])).save("alpha.png")
found = {}
for name in ("grey", "colour", "deep"):
    image = skimage.io.imread(f"{name}.png", as_gray=True)
    found[name] = (str(image.dtype), float(image[0, 0]))
    print(f"{name}.png, one middle grey: {image.dtype}, {image[0, 0]:.4g}")
assert found["grey"] == ("uint8", 128.0) and found["deep"] == ("uint16", 32896.0)
assert found["colour"][0] == "float64" and abs(found["colour"][1] - 128 / 255) < 1e-6
together = skimage.io.ImageCollection(["grey.png", "colour.png"], as_gray=True)
print("mean of each image of a collection:", [round(float(image.mean()), 3) for image in together])
try:
    skimage.io.imread("alpha.png", as_gray=True)
    raise SystemExit("a grey image with alpha is read now")
except ValueError as error:
    print("grey with alpha:", error)
PY
