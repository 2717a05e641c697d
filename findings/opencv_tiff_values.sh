#!/usr/bin/env bash
# What: cv2.imread changes the values of two kinds of TIFF. Signed 16-bit (CT and elevation): in the 8-bit image that
#   it makes by default negative values wrap round, -1000 becomes 252 and 1000 becomes 3, so the darkest is the
#   brightest. RGBA with straight ("unassociated") alpha: even IMREAD_UNCHANGED returns colours multiplied by alpha,
#   (255, 0, 0) at alpha 128 comes as (128, 0, 0), while the same pixels in a PNG come as they are.
# Why it surprises: IMREAD_UNCHANGED means as it is, and an 8-bit version of signed data is expected to keep the order.
# Who is hurt: CT slices and height maps read by a default imread; cut-outs stored as TIFF beside others as PNG, which
#   then differ in brightness by their format, a shortcut that a classifier learns.
# Instead: IMREAD_UNCHANGED and a scaling of one's own for signed data; tifffile or Pillow for TIFF with alpha.
# Source: OpenCV documentation: "IMREAD_UNCHANGED: If set, return the loaded image as is (with alpha channel, otherwise
#   it gets cropped)."
# Guessed beforehand: signed values cut off at 0 and 255 (as Pillow does), alpha left alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 \
  opencv-python-headless==5.0.0.93 pillow==13.0.0
venv/bin/python - <<'PY'
import cv2, numpy as np, PIL, tifffile
from PIL import Image

print("opencv", cv2.__version__, "Pillow", PIL.__version__)
signed = np.tile(np.linspace(-1000, 1000, 41).round().astype("int16"), (32, 1))
tifffile.imwrite("signed.tif", signed)
default = cv2.imread("signed.tif")[0, :, 0]
print("int16:", {int(signed[0, k]): int(default[k]) for k in (0, 10, 19, 20, 30, 40)})
assert (cv2.imread("signed.tif", cv2.IMREAD_UNCHANGED) == signed).all()
assert default[0] == 252 and default[-1] == 3, "signed values no longer wrap round"

rgba = np.zeros((32, 32, 4), "uint8")
rgba[..., 0], rgba[..., 3] = 255, 128
tifffile.imwrite("alpha.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
Image.fromarray(rgba).save("alpha.png")
pixels = {name: cv2.imread(name, cv2.IMREAD_UNCHANGED)[0, 0].tolist() for name in ("alpha.tif", "alpha.png")}
print("red at alpha 128, BGRA:", pixels, "Pillow, RGBA:", Image.open("alpha.tif").getpixel((0, 0)))
assert pixels == {"alpha.tif": [0, 0, 128, 128], "alpha.png": [0, 0, 255, 128]}, "alpha is left alone now"
assert Image.open("alpha.tif").getpixel((0, 0)) == (255, 0, 0, 128)
PY
