#!/usr/bin/env bash
# What: every hash of ImageHash drops alpha. Images whose shape is in the transparency (icons, logos, cut-out products,
#   signatures: one colour, drawn by alpha) all have the same hash, at distance 0; and one picture on a transparent ground
#   gets another hash when the invisible pixels are another colour.
# Why it surprises: "perceptual" hashes are of what is seen; two images that no viewer shows alike are called identical, two
#   that every viewer shows alike are not.
# Who is hurt: duplicates removed by phash from sets of PNG with alpha: whole classes of icons shrink to one file, while
#   copies re-saved by an optimiser, which may change invisible pixels, stay on both sides of a split.
# Instead: put images on a ground first: Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).
# Source: https://github.com/JohannesBuchner/imagehash (README: "Image hashes tell whether two images look nearly identical").
# Guessed beforehand: yes for one colour; the distance of the second kind was not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check ImageHash==4.3.2 pillow==12.3.0 numpy==2.4.6
venv/bin/python - <<'PY'
import imagehash, numpy as np
from PIL import Image

HASHES = (imagehash.average_hash, imagehash.phash, imagehash.dhash, imagehash.whash, imagehash.colorhash)
print("ImageHash", imagehash.__version__)


def on_white(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


row, column = np.indices((64, 64))
shapes = {"disc": (row - 32) ** 2 + (column - 32) ** 2 < 400, "cross": (abs(row - 32) < 6) | (abs(column - 32) < 6)}
icons = {}
for name, shape in shapes.items():
    pixels = np.zeros((64, 64, 4), np.uint8)  # black everywhere, seen where the shape is
    pixels[..., 3] = 255 * shape
    icons[name] = Image.fromarray(pixels)
for way in HASHES:
    apart = way(icons["disc"]) - way(icons["cross"])
    seen = way(on_white(icons["disc"])) - way(on_white(icons["cross"]))
    print(f"{way.__name__}: a disc and a cross differ by {apart}; put on white by {seen}")
    assert apart == 0
    assert seen > 0 or way is imagehash.colorhash

photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
there = (shapes["disc"] * 255).astype(np.uint8)
black, noise = (np.dstack([np.where(there[..., None] > 0, photo, ground), there]).astype(np.uint8)
                for ground in (np.zeros_like(photo), photo[::-1, ::-1]))
one, other = Image.fromarray(black), Image.fromarray(noise)
assert np.array_equal(np.asarray(on_white(one)), np.asarray(on_white(other)))  # the same picture for every viewer
apart = imagehash.phash(one) - imagehash.phash(other)
print(f"one picture, other colours where nothing is seen: phash differs by {apart} of 64")
assert apart > 10
PY
