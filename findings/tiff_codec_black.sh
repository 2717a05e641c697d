#!/usr/bin/env bash
# What: a TIFF whose compression a reader's libtiff was built without comes back as a picture of zeros: OpenCV for
#   JPEG 2000 (33005 and 34712), JPEG XL, JPEG XR and PNG inside TIFF, libvips besides for LERC and Zstandard, of the
#   right size and type and without an exception. OpenCV itself returns None for LERC, Zstandard and WebP, Pillow
#   raises for all it cannot read, tifffile reads them all.
# Why it surprises: imread is documented to answer "cannot read" with an empty matrix, and it does so for half of the
#   codecs. The guess was None (OpenCV) and an exception (libvips) for every codec.
# Who is hurt: whole-slide and satellite images (JPEG 2000 in TIFF is what Aperio scanners write) and anything stored by
#   tifffile with a modern codec: a class of black images trains and reports without a word.
# Instead: read TIFF with tifffile and imagecodecs; in libvips pass fail_on="error"; after cv2.imread treat an image
#   without a single non-zero pixel as unread.
# Source: OpenCV documentation of imread: "If the image cannot be read (because of missing file, improper permissions,
#   unsupported or invalid format), the function returns an empty matrix." A user met it from the writing side and
#   nobody could reproduce it: github.com/cgohlke/tifffile/issues/109.
# Guessed beforehand: None or an exception everywhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 \
  opencv-python-headless==5.0.0.93 "pyvips[binary]==3.2.0" pyvips-binary==8.18.7 pillow==13.0.0
venv/bin/python - 2>messages.txt <<'PY'
import cv2, numpy, PIL, pyvips, tifffile
from PIL import Image

print("opencv", cv2.__version__, "libvips", *(pyvips.version(i) for i in range(3)), "Pillow", PIL.__version__)
ramp = numpy.linspace(0, 255, 64 * 48 * 3).round().astype("uint8").reshape(48, 64, 3)


def outcome(read):
    try:
        pixels = read()
    except Exception as error:
        return type(error).__name__
    if pixels is None:
        return "None"
    return "black" if not numpy.any(pixels) else f"mean {numpy.mean(pixels):.0f}"


expected = {  # compression tag: OpenCV, libvips, libvips told to fail
    "deflate": ("mean 128", "mean 128", "mean 128"),
    "jpeg2000": ("black", "black", "Error"),
    "aperio_jp2000_rgb": ("black", "black", "Error"),
    "jpegxl": ("black", "black", "Error"),
    "jpegxr": ("black", "black", "Error"),
    "png": ("black", "black", "Error"),
    "lerc": ("None", "black", "Error"),
    "zstd": ("None", "black", "Error"),
}
wrong = 0
for codec, guess in expected.items():
    name = f"{codec}.tif"
    tifffile.imwrite(name, ramp, photometric="rgb", compression=codec)
    assert abs(tifffile.imread(name).astype(int) - ramp).max() <= 3
    found = (
        outcome(lambda: cv2.imread(name)),
        outcome(lambda: pyvips.Image.new_from_file(name).numpy()),
        outcome(lambda: pyvips.Image.new_from_file(name, fail_on="error").numpy()),
    )
    pillow = outcome(lambda: numpy.asarray(Image.open(name)))
    print(f"{codec:18} OpenCV {found[0]:9} libvips {found[1]:9} with fail_on {found[2]:9} Pillow {pillow}")
    wrong += found != guess or pillow == "black"
raise SystemExit(wrong and "the behaviour has changed")
PY
