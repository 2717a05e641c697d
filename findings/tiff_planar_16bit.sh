#!/usr/bin/env bash
# What: a 16-bit RGB TIFF with its channels in separate planes is read wrongly, without an error, by two of the three
#   usual readers. Pillow 13 gives colour noise; OpenCV 5 with IMREAD_UNCHANGED takes each plane for interleaved pixels,
#   though its 8-bit IMREAD_COLOR of the same file is right. libvips and tifffile are right. 8-bit planar files and
#   16-bit interleaved ones are read rightly by all four.
# Why it surprises: a reader that does not know a layout is expected to refuse it, as Pillow does with most.
# Who is hurt: microscopy and remote sensing, where planar 16-bit is what tifffile (planarconfig="separate") and GDAL
#   (INTERLEAVE=BAND) write: colours and texture are noise, shapes are still to be seen.
# Instead: read with tifffile or libvips, or look at the PlanarConfiguration tag (284) and BitsPerSample first.
# Source: Pillow documentation, TIFF: "Pillow reads and writes TIFF files. It can read both striped and tiled images,
#   pixel and plane interleaved multi-band images."
# Guessed beforehand: Pillow gives the high byte, OpenCV the 16-bit values.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 imagecodecs==2026.3.6 \
  opencv-python-headless==5.0.0.93 "pyvips[binary]==3.2.0" pyvips-binary==8.18.7 pillow==13.0.0
venv/bin/python - <<'PY'
import cv2, numpy as np, PIL, pyvips, tifffile
from PIL import Image

print("opencv", cv2.__version__, "libvips", *(pyvips.version(i) for i in range(3)), "Pillow", PIL.__version__)
across = np.tile(np.linspace(0, 1, 48), (40, 1))
down = np.tile(np.linspace(0, 1, 40)[:, None], (1, 48))
rgb = np.stack([across, 1 - across, down], -1)
errors = {}
for bits in (8, 16):
    truth = (rgb * (2**bits - 1)).round().astype(f"uint{bits}")
    for layout in ("contig", "separate"):
        name = f"{bits}_{layout}.tif"
        pixels = np.moveaxis(truth, -1, 0).copy() if layout == "separate" else truth
        tifffile.imwrite(name, pixels, photometric="rgb", planarconfig=layout)
        scale = 255 / truth.max()
        readers = {
            "Pillow": lambda: np.asarray(Image.open(name)),
            "OpenCV colour": lambda: cv2.imread(name)[..., ::-1],
            "OpenCV unchanged": lambda: cv2.imread(name, cv2.IMREAD_UNCHANGED)[..., ::-1] * scale,
            "libvips": lambda: pyvips.Image.new_from_file(name).numpy() * scale,
        }
        for reader, read in readers.items():
            error = np.abs(read() - truth * scale).mean()
            errors[reader, bits, layout] = error
            print(f"{bits:2} bits, {layout:8} {reader:17} mean error {error:6.2f} of 255 grey levels")
bad = {key for key, error in errors.items() if error > 20}
assert bad == {("Pillow", 16, "separate"), ("OpenCV unchanged", 16, "separate")}, bad
assert all(error < 1 for key, error in errors.items() if key not in bad)
PY
