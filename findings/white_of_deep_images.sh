#!/usr/bin/env bash
# What: what white is in the uint16 array of a 10- or 12-bit image depends on reader and format, and no array tells:
#   10-bit AVIF 1023 (OpenCV), 65472 (libvips), 255 (Pillow, 8 bits); 12-bit JPEG 2000 4095 (OpenCV), 65520 (Pillow);
#   12-bit TIFF 65520 (OpenCV), 4095 (Pillow, tifffile). So OpenCV scales TIFF and not AVIF or JPEG 2000, Pillow the
#   other way round, and libvips' white is not 65535 either.
# Why it surprises: within one library one expects one convention.
# Who is hurt: "divide by 65535 if uint16" gives an AVIF photograph at a sixty-fourth of its brightness, and a folder of
#   TIFF and JPEG 2000 scans of one microscope two brightnesses.
# Instead: take the depth from the file (tifffile's bitspersample, the container's header) and scale by 2**depth - 1; for
#   AVIF take the 8 bits of Pillow or of cv2.IMREAD_COLOR, where white is 255.
# Source: OpenCV documentation, IMREAD_ANYDEPTH: "If set, return 16-bit/32-bit image when the input has the
#   corresponding depth, otherwise convert it to 8-bit."
# Guessed beforehand: OpenCV never scales, libvips scales to 65535, Pillow scales neither.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 \
  opencv-python-headless==5.0.0.93 "pyvips[binary]==3.2.0" pyvips-binary==8.18.7 pillow==13.0.0
venv/bin/python - <<'PY'
from pathlib import Path

import cv2, imagecodecs, numpy as np, PIL, pyvips, tifffile
from PIL import Image

print("opencv", cv2.__version__, "libvips", *(pyvips.version(i) for i in range(3)), "Pillow", PIL.__version__)
ramp = np.tile(np.linspace(0, 1, 64), (48, 1))
grey = {bits: (ramp * (2**bits - 1)).round().astype("uint16") for bits in (10, 12)}
colour = np.stack([grey[10]] * 3, -1)
Path("10.avif").write_bytes(imagecodecs.avif_encode(colour, level=100, bitspersample=10))
Path("12.jp2").write_bytes(imagecodecs.jpeg2k_encode(grey[12], level=0, bitspersample=12))
tifffile.imwrite("12.tif", grey[12], bitspersample=12)
readers = {
    "OpenCV": lambda name: cv2.imread(name, cv2.IMREAD_UNCHANGED),
    "Pillow": lambda name: np.asarray(Image.open(name)),
    "libvips": lambda name: pyvips.Image.new_from_file(name).numpy(),
}
white = {
    (name, reader): int(readers[reader](name).max())
    for name, used in {"10.avif": ("OpenCV", "Pillow", "libvips"), "12.jp2": ("OpenCV", "Pillow"),
                       "12.tif": ("OpenCV", "Pillow")}.items()
    for reader in used
}
for (name, reader), value in white.items():
    print(f"{name:8} {reader:8} white is {value}")
assert list(white.values()) == [1023, 255, 65472, 4095, 65520, 65520, 4095], "another convention now"
assert cv2.imread("10.avif").max() == 255
PY
