#!/usr/bin/env bash
# What: a JPEG that was opened with Pillow, drawn on, pasted into or made smaller, and saved as JPEG XL, is saved as it was
#   before: pillow-jxl-plugin reads the bytes of the JPEG from the disk again and packs them. The black box over a face is
#   gone, a thumbnail has the size of the photograph, whatever quality was asked for.
# Why it surprises: save() writes the image that it is called on, in every other format of Pillow. A warning speaks of a
#   lossless image made from a JPEG, once, and names an option; that the changes are not in the file it does not say.
#   What makes a new image (resize, convert, filter) is saved rightly, so that a pipeline tried with those looks sound.
# Who is hurt: whoever anonymises photographs and archives them as JPEG XL: the faces, names and number plates are still
#   there. Data sets of thumbnails and of burnt-in masks: the network sees what was meant to be hidden.
# Instead: save(..., lossless_jpeg=False), or work on image.copy() (both checked below).
# Source: https://pypi.org/project/pillow-jxl-plugin/ (saves like any other format of Pillow; lossless_jpeg is optional).
# Guessed beforehand: yes, for drawing; not for thumbnails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check pillow==13.0.0 pillow-jxl-plugin==1.3.8 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import importlib.metadata, warnings

import numpy as np, PIL, pillow_jxl
from PIL import Image, ImageDraw

print("Pillow", PIL.__version__, "pillow-jxl-plugin", importlib.metadata.version("pillow-jxl-plugin"))
random = np.random.default_rng(0)
photo = Image.fromarray(random.integers(90, 255, (8, 8, 3), dtype=np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
photo.save("photo.jpg", quality=95)


def hidden(copy=False):
    image = Image.open("photo.jpg")
    image = image.copy() if copy else image
    ImageDraw.Draw(image).rectangle((32, 32, 95, 95), fill=(0, 0, 0))
    return image


def pasted():
    image = Image.open("photo.jpg")
    image.paste((0, 0, 0), (32, 32, 96, 96))
    return image


def middle(name):
    with Image.open(name) as image:
        return float(np.asarray(image.convert("RGB"))[40:88, 40:88].mean())


original = middle("photo.jpg")
for name, make, options, kept in (
    ("a box drawn", hidden, {}, False),
    ("a box drawn, quality=80", hidden, {"quality": 80}, False),
    ("a box pasted", pasted, {}, False),
    ("a box drawn, lossless_jpeg=False", hidden, {"lossless_jpeg": False}, True),
    ("a box drawn on a copy", lambda: hidden(copy=True), {}, True),
):
    found = {}
    for kind in ("png", "webp", "jxl"):
        make().save(f"out.{kind}", **({} if kind == "png" else options if kind == "jxl" else {}))
        found[kind] = middle(f"out.{kind}")
    print(f"  {name}: the middle is {found['png']:.0f} in PNG, {found['webp']:.0f} in WebP, {found['jxl']:.0f} in JPEG XL (photograph: {original:.0f})")
    assert found["png"] < 1 and found["webp"] < 5
    assert (found["jxl"] < 5) if kept else (abs(found["jxl"] - original) < 1), "JPEG XL has other pixels now"

small = Image.open("photo.jpg")
small.thumbnail((32, 32))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    small.save("small.jxl")
    again = Image.open("photo.jpg")
    again.thumbnail((32, 32))
    again.save("small.png")
sizes = Image.open("small.png").size, Image.open("small.jxl").size
print(f"  thumbnail((32, 32)): {sizes[0]} in PNG, {sizes[1]} in JPEG XL; {len(said)} warning: {str(said[0].message)[:77]}")
assert sizes == ((32, 32), (128, 128)) and len(said) == 1
small.resize((30, 30)).save("small.jxl")
assert Image.open("small.jxl").size == (30, 30)
PY
