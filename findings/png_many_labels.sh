#!/usr/bin/env bash
# What: a label image with more than 65,535 objects, as scikit-image's measure.label gives it (int32), is saved as PNG without an
#   error by skimage.io.imsave, imageio and Pillow, and every object from number 65,535 on has the number 65,535 when it is read.
# Why it surprises: wider integers raise (int64: "Cannot handle this data type"), so that what saves seems to fit; small
#   images come back exactly. What is said is a DeprecationWarning about "mode I", which is hidden outside of __main__.
# Who is hurt: stitched microscopy and aerial scenes with a hundred thousand cells or trees: a third of them are one object
#   of enormous area; counts, areas and crops for training are wrong, and the file is "right" for every smaller scene.
# Instead: TIFF by tifffile, which keeps int32, or a check of labels.max() before PNG.
# Source: https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html#png (I is saved as 16 bits).
# Guessed beforehand: that int64 becomes black, as years ago; no. Met while trying that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-image==0.26.0 imageio==2.38.1 pillow==12.3.0 tifffile==2026.3.3 numpy==2.4.6
venv/bin/python -W ignore::DeprecationWarning - <<'PY'
import imageio, imageio.v3, numpy as np, PIL, skimage, skimage.io, skimage.measure, tifffile
from PIL import Image

print("scikit-image", skimage.__version__, "imageio", imageio.__version__, "Pillow", PIL.__version__)
scene = np.zeros((640, 640), bool)
scene[::2, ::2] = True  # 102,400 cells of one pixel
labels = skimage.measure.label(scene, connectivity=1)
print("labels:", labels.dtype, "objects", labels.max())
assert labels.dtype == np.int32 and labels.max() == 102_400
writers = {
    "skimage": lambda file: skimage.io.imsave(file, labels, check_contrast=False),
    "imageio": lambda file: imageio.v3.imwrite(file, labels),
    "Pillow": lambda file: Image.fromarray(labels).save(file),
}
for name, write in writers.items():
    write("labels.png")
    found = imageio.v3.imread("labels.png").astype(np.int64)
    left = len(np.unique(found)) - 1
    print(f"{name}: {left} objects are left, the last of {np.count_nonzero(found == 65535)} pixels")
    assert left == 65_535 and np.count_nonzero(found == 65535) == 102_400 - 65_534
tifffile.imwrite("labels.tif", labels)
assert np.array_equal(tifffile.imread("labels.tif"), labels)
print("tifffile keeps them")
PY
