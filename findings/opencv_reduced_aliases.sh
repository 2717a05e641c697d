#!/usr/bin/env bash
# What: cv2.IMREAD_REDUCED_COLOR_4 and _8 average the pixels of a JPEG, and of no other format: a PNG, WebP, TIFF, BMP, JPEG 2000 or AVIF is
#   decoded in full and then sampled, four pixels of 16 or of 64. The same noise has a deviation of 5 read from JPEG at an
#   eighth, and of 20 read from the others; stripes that are grey in the one are gone or solid in the other. At a half all agree.
# Why it surprises: one flag, described as "reduced 1/8", no word of the format; pictures look alike at first sight, and the half,
#   where one tries it, is right.
# Who is hurt: whoever reads large images reduced because it is fast: data sets of mixed formats get a texture that tells the format, a
#   network trained on JPEG is served PNG with four times the noise, thumbnails of one picture have different hashes and features.
# Instead: cv2.resize(image, size, interpolation=cv2.INTER_AREA) of the full image, or Pillow's reduce (the first is checked below).
# Source: https://docs.opencv.org/5.x/d8/d6a/group__imgcodecs__flags.html (IMREAD_REDUCED_COLOR_8: "convert image to the 3 channel
#   BGR color image and the image size reduced 1/8").
# Guessed beforehand: not written down; averages throughout were taken for granted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check opencv-python-headless==5.0.0.93 numpy==2.4.6
venv/bin/python - <<'PY'
import cv2, numpy as np

print("OpenCV", cv2.__version__)
random = np.random.default_rng(0)
noise = random.normal(128, 40, (512, 512, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
stripes = np.full((512, 512, 3), 40, np.uint8)
stripes[np.arange(512) % 8 < 3] = 220
flags = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
kinds = (".jpg", ".png", ".webp", ".tiff", ".bmp", ".jp2", ".avif")
for part, flag in flags.items():
    mean = noise.reshape(512 // part, part, 512 // part, part, 3).mean((1, 3)).std()
    deviation, level = {}, {}
    for kind in kinds:
        options = [cv2.IMWRITE_JPEG_QUALITY, 100] if kind == ".jpg" else []
        code = cv2.imencode(kind, noise, options)[1]
        deviation[kind] = float(cv2.imdecode(code, flag).std())
        level[kind] = float(cv2.imdecode(cv2.imencode(kind, stripes, options)[1], flag).mean())
        area = cv2.resize(cv2.imdecode(code, cv2.IMREAD_COLOR), (512 // part, 512 // part), interpolation=cv2.INTER_AREA)
        assert abs(area.std() - mean) < 0.1 * mean + 0.5
    print(f"  a {part}th, noise averaged has {mean:.1f}:", ", ".join(f"{kind} {value:.1f}" for kind, value in deviation.items()))
    print(f"         stripes of {stripes.mean():.0f} on average:", ", ".join(f"{kind} {value:.0f}" for kind, value in level.items()))
    assert abs(deviation[".jpg"] - mean) < 0.5
    if part > 2:
        assert all(deviation[kind] > 1.7 * mean for kind in kinds[1:]), "other formats are averaged now"
PY
