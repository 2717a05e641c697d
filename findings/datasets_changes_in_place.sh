#!/usr/bin/env bash
# What: an image that was read from a file and changed in place is stored by datasets as that file: black boxes drawn over faces, a
#   thumbnail, a pasted label are gone, in map() as in from_dict(), of JPEG and PNG alike. Of photographs that EXIF turns the changes
#   are kept, and so are those of images that came as bytes.
# Why it surprises: map() hands out images, takes images back and reports nothing; the function is seen to change them, and what other
#   functions of Pillow return (resize, convert) is stored as it is. What is kept depends on whether a file name is left on the object.
# Who is hurt: images made anonymous before they are pushed; sets meant to be smaller by thumbnail(), which train at the full size;
#   watermarks and corrections. A copy pushed to a hub holds the originals.
# Instead: image = image.copy() first (checked below). mosaicml-streaming 0.13.0 ("jpeg") and litdata 0.2.76 do the same to
#   JPEG (seen by hand; they need PyTorch and are not run here); PNG they store as changed.
# Source: https://huggingface.co/docs/datasets/image_process ("The map() function can apply transforms over an entire dataset").
# Guessed beforehand: what the function returns is stored.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
cat > measure.py <<'PY'
import io

import datasets, numpy as np, PIL
from PIL import Image, ImageDraw

print("datasets", datasets.__version__, "Pillow", PIL.__version__)
datasets.disable_progress_bars()
light = Image.fromarray(np.full((120, 160, 3), 200, "uint8"))
exif = Image.Exif()
exif[0x0112] = 3  # upside down
files = {"a.jpg": {}, "b.png": {}, "turned.jpg": {"exif": exif}}
for name, options in files.items():
    light.save(name, **options)


def hide(row):
    """Draws a black box over the left upper quarter and makes the image smaller, both in place."""
    image = row["image"]
    ImageDraw.Draw(image).rectangle((0, 0, 80, 60), fill=(0, 0, 0))
    image.thumbnail((80, 60))
    assert image.size == (80, 60) and image.getpixel((5, 5)) == (0, 0, 0)
    return {"image": image}


def hide_in_copy(row):
    return hide({"image": row["image"].copy()})


def show(what, table):
    kept = []
    for name, row in zip(files, table, strict=True):
        stored = row["image"].convert("RGB")
        grey = stored.getpixel((5, 5))[0]
        kept.append(stored.size == (80, 60) and grey < 10)
        print(f"  {what}, {name}: {stored.size}, the box is {grey}: {'kept' if kept[-1] else 'LOST'}")
    return kept


table = datasets.Dataset.from_dict({"image": list(files)}).cast_column("image", datasets.Image())
assert show("map", table.map(hide)) == [False, False, True], "changes in place are kept now"
assert all(show("map, of a copy", table.map(hide_in_copy)))
opened = [Image.open(name) for name in files]
for image in opened:
    image.load()
    hide({"image": image})
assert show("from_dict", datasets.Dataset.from_dict({"image": opened})) == [False, False, False]
content = [{"path": None, "bytes": io.FileIO(name).read()} for name in files]
table = datasets.Dataset.from_dict({"image": content}).cast_column("image", datasets.Image())
assert all(show("map, images that came as bytes", table.map(hide)))
table = datasets.load_dataset("imagefolder", data_files=list(files), cache_dir="cache")["train"].map(hide)
table.to_parquet("shared.parquet")
again = datasets.Dataset.from_parquet("shared.parquet", cache_dir="cache")
assert show("load_dataset, map, to_parquet and back", again) == [False, False, True]
PY
HF_HUB_OFFLINE=1 HF_HOME=$work venv/bin/python measure.py
