#!/usr/bin/env bash
# What: skimage.io.imread of a grey TIFF stack of three pages returns one colour image (H, W, 3), of four pages one with
#   alpha (H, W, 4): the pages are moved to the last axis. Two pages and five stay a stack (2, H, W), (5, H, W).
# Why it surprises: the file says that each page is grey; a stack read with a loop over its first axis works for every
#   number of slices but these two, where it silently walks over rows of pixels instead of slices.
# Who is hurt: z-stacks, time series and multi-channel microscopy with three or four planes: `image[0]` is a row, resizing
#   to (H, W) "works", and a network gets three focal planes as red, green and blue.
# Instead: tifffile.imread, which keeps the pages first, or a check of the number of pages beforehand.
# Source: https://scikit-image.org/docs/stable/api/skimage.io.html#skimage.io.imread ("img_array: the different color
#   bands/channels are stored in the third dimension").
# Guessed beforehand: yes for three; not for four.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-image==0.26.0 tifffile==2026.3.3 imageio==2.38.1 numpy==2.4.6
venv/bin/python - <<'PY'
import imageio.v3, numpy as np, skimage, skimage.io, tifffile

print("scikit-image", skimage.__version__, "tifffile", tifffile.__version__, "imageio", imageio.__version__)
shapes = {}
for pages in (2, 3, 4, 5):
    stack = np.random.default_rng(0).integers(0, 255, (pages, 20, 30), dtype=np.uint8)
    tifffile.imwrite("stack.tif", stack, photometric="minisblack")
    assert np.array_equal(tifffile.imread("stack.tif"), stack)
    assert np.array_equal(imageio.v3.imread("stack.tif"), stack)
    found = skimage.io.imread("stack.tif")
    shapes[pages] = found.shape
    print(f"{pages} grey pages of 20 x 30: tifffile and imageio {stack.shape}, skimage {found.shape}")
    assert np.array_equal(np.moveaxis(found, -1, 0) if pages in (3, 4) else found, stack)
assert shapes == {2: (2, 20, 30), 3: (20, 30, 3), 4: (20, 30, 4), 5: (5, 20, 30)}
PY
