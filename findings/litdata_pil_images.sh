#!/usr/bin/env bash
# What: litdata, and mosaicml-streaming with the encoding "pil", store a Pillow image with a colour table (PNG of 256 colours, GIF) without
#   the table: what comes back has mode P and is black all over once it is converted to RGB. And a JPEG that was drawn on or made
#   small in place comes back as the file it was opened from ("jpeg" of mosaicml-streaming does the same).
# Why it surprises: both give back a Pillow image of the same size and mode, and every other mode tried (1, LA, RGB, RGBA, CMYK) comes
#   back exactly; Pillow's tobytes, which they use, leaves the table out. A PNG drawn on keeps what was drawn.
# Who is hurt: folders in which some images are PNG of few colours: drawings, screenshots, reduced photographs. A network is trained on
#   black images for these and learns their class from the black. Boxes over faces are gone in JPEG.
# Instead: image.convert("RGB") before it is stored, for JPEG image.copy() (both checked below), or the encoding "png".
# Source: https://docs.mosaicml.com/projects/streaming (encodings), whose "pil" says of itself "Store PIL image raw"; for litdata
#   https://github.com/Lightning-AI/litData (optimize). datasets_changes_in_place.sh and jpegxl_saves_original.sh are of other packages.
# Guessed beforehand: that table and drawing are lost, from the code; a grey picture was guessed, not a black one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check litdata==0.2.76 torch==2.13.0 pillow==13.0.0 numpy==2.4.6
venv/bin/pip install -qq --disable-pip-version-check --no-deps mosaicml-streaming==0.13.0  # of which one file is read
venv/bin/python -W ignore - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import importlib.util
import io
import sysconfig
from importlib.metadata import version
from pathlib import Path

import numpy as np
from litdata.streaming.serializers import _SERIALIZERS
from PIL import Image, ImageDraw

print("litdata", version("litdata"), "mosaicml-streaming", version("mosaicml-streaming"), "Pillow", version("pillow"))
code = Path(sysconfig.get_path("purelib"), "streaming/base/format/mds/encodings.py")
spec = importlib.util.spec_from_file_location("encodings_of_streaming", code)
mds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mds)
rows, columns = np.mgrid[:64, :64]
picture = Image.fromarray(np.stack([columns * 4, rows * 4, 255 - columns * 4], -1).astype("uint8"))


def opened(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    file.seek(0)
    return Image.open(file)


def litdata(image):
    serializer = next(one for one in _SERIALIZERS.values() if one.can_serialize(image))  # as optimize() chooses
    stored = serializer.serialize(image)[0]
    return Image.open(io.BytesIO(stored)) if stored[:2] == b"\xff\xd8" else serializer.deserialize(stored)


def streaming(image, encoding="pil"):
    return mds.mds_decode(encoding, mds.mds_encode(encoding, image))


def blackened(kind):
    Image.new("RGB", (64, 64), (200, 160, 120)).save(f"face.{kind}")
    image = Image.open(f"face.{kind}")
    ImageDraw.Draw(image).rectangle([0, 0, 64, 64], fill=(0, 0, 0))
    return image


images = {
    "PNG in colour": opened(picture, "PNG"),
    "PNG with alpha": opened(picture.convert("RGBA"), "PNG"),
    "PNG, grey with alpha": opened(picture.convert("LA"), "PNG"),
    "PNG, black and white": opened(picture.convert("1"), "PNG"),
    "TIFF, CMYK": opened(picture.convert("CMYK"), "TIFF"),
    "PNG of 64 colours": opened(picture.quantize(64), "PNG"),
    "GIF": opened(picture, "GIF"),
    "PNG of 64 colours, converted": opened(picture.quantize(64), "PNG").convert("RGB"),
}
for name, image in images.items():
    wanted = np.asarray(image.convert("RGB")).astype(int)
    for store in (litdata, streaming):
        found = store(image)
        colours = np.asarray(found.convert("RGB")).astype(int)
        print(f"  {name}, {store.__name__}: mode {image.mode} and {found.mode}, mean {wanted.mean():.0f} and {colours.mean():.0f}, off by {np.abs(colours - wanted).mean():.0f}")
        assert image.mode == found.mode and image.size == found.size
        if image.mode == "P":
            assert colours.max() == 0, "the colours come back now"
            assert np.array_equal(np.asarray(found), np.asarray(image))
        else:
            assert np.array_equal(colours, wanted)
    if image.mode != "CMYK":  # which PNG does not have
        assert np.array_equal(np.asarray(streaming(image, "png").convert("RGB")), wanted)
for kind in ("jpeg", "png"):
    for name, image in (("itself", blackened(kind)), ("its copy", blackened(kind).copy())):
        found = {"litdata": litdata(image), "mosaicml-streaming": streaming(image, kind)}
        highest = {store: int(np.asarray(one).max()) for store, one in found.items()}
        print(f"  a {kind} painted black in place, {name}: the brightest that comes back is {highest}")
        assert all((value > 100) == (kind == "jpeg" and name == "itself") for value in highest.values()), "what was drawn is kept now"
PY
