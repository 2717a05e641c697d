#!/usr/bin/env bash
# What: pycocotools' mask.encode does not take what is not zero as the object: it starts a new run wherever the value changes, and
#   runs are background and object in turn. Of a mask with two values side by side (two parts, a soft edge) the second is left
#   out, and along a line that crosses an odd number of changes the background behind it becomes the object: of a disc resized with a
#   smooth filter the encoded mask has little in common with the disc.
# Why it surprises: 0 and 255 is right, 0 and any one value is right, uint8 is what is asked for; NumPy, OpenCV and Pillow take what is
#   not zero as true. The documentation says "binary", and nothing is checked: decode() gives a clean mask of zeros and ones.
# Who is hurt: instance and part masks made from label images, masks resized with a smooth filter or read from JPEG, alpha channels: areas
#   and overlaps of the truth are wrong, and average precision is low for every model.
# Instead: encode(np.asfortranarray(mask > 127).astype("uint8", order="F")) (checked below).
# Source: https://github.com/cocodataset/cocoapi/blob/master/PythonAPI/pycocotools/mask.py ("encode - Encode binary masks using RLE",
#   "must have type np.ndarray(dtype=uint8) in column-major order").
# Guessed beforehand: not written down; whatever is not zero was taken for the object.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6 pillow==13.0.0
venv/bin/python - <<'PY'
import io
from importlib.metadata import version

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

print("pycocotools", version("pycocotools"))


def compare(what, mask, limit=0):
    wanted = mask > limit
    given = run_lengths.encode(np.asfortranarray(mask))
    right = run_lengths.encode(np.asfortranarray(wanted.astype("uint8")))
    overlap = run_lengths.iou([given], [right], [0]).item()
    outside = np.mean(run_lengths.decode(given)[mask == 0])
    print(f"  {what}: {len(np.unique(mask))} values, area {run_lengths.area(given)} of {wanted.sum()}, overlap {overlap:.2f}, {outside:.1%} of the background is object")
    assert run_lengths.area(right) == wanted.sum()
    return overlap, outside


large = Image.new("L", (400, 400))
ImageDraw.Draw(large).ellipse((60, 60, 340, 340), fill=255)
hard = np.array(large.resize((100, 100), Image.Resampling.NEAREST))
assert compare("a disc of 0 and 255", hard)[0] == 1
assert compare("a disc of 0 and 3", hard // 85)[0] == 1
parts = (hard // 255).copy()
parts[50:] *= 2
overlap, _ = compare("a disc of two parts, 1 above 2", parts)
assert overlap < 0.7, "whatever is not zero is the object now"
soft = np.array(large.resize((100, 100), Image.Resampling.BILINEAR))
assert compare("the disc made smaller smoothly", soft, 127)[0] < 0.9
memory = io.BytesIO()
Image.fromarray(hard).save(memory, "JPEG", quality=95)
assert compare("the disc read from a JPEG", np.array(Image.open(memory)), 127)[0] < 0.9
PY
