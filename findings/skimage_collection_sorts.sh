#!/usr/bin/env bash
# What: skimage.io.ImageCollection, given a list of files, sorts it; it also takes each name for a pattern, so that a file
#   called "scan[1].png" is left out. imread_collection does the same.
# Why it surprises: a list is an order. Images come back in another one, fewer of them, and nothing is said.
# Who is hurt: labels of a table beside ImageCollection(table["path"]): every image gets another one's label unless the
#   table happens to be sorted by name, in natural order; measurements are joined to the wrong sample.
# Instead: [imageio.v3.imread(file) for file in files], or look at collection.files before believing positions.
# Source: https://scikit-image.org/docs/stable/api/skimage.io.html#skimage.io.ImageCollection ("Pattern string or list of
#   strings to load").
# Guessed beforehand: no; met while something else was tried.
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
table = [("plate10.png", 10), ("plate2.png", 2), ("blank.png", 7), ("scan[1].png", 55)]
for name, value in table:
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(name)
names = [name for name, _ in table]
for call in (skimage.io.ImageCollection, skimage.io.imread_collection):
    found = call(names)
    print(f"{call.__name__}: asked for {names}, got {list(found.files)}")
    values = [int(image[0, 0]) for image in found]
    assert list(found.files) == ["blank.png", "plate2.png", "plate10.png"] and values == [7, 2, 10]
print("values wanted:", [value for _, value in table], "values found:", values)
PY
