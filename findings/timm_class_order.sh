#!/usr/bin/env bash
# What: timm and torchvision number the classes of the same folder differently: timm sorts names as people do (numbers by
#   value, case ignored), torchvision and Keras by code point. Of class_1, class_2, class_3, class_12, Zebra and apple all
#   six get another number. And timm names a class by its innermost folder alone: left/ok and right/ok are one class
#   "ok", where torchvision has the classes left and right.
# Why it surprises: both call it an image folder, both return a class_to_idx, and timm's create_dataset offers
#   torchvision's under "torch/image_folder" as if it were the same thing.
# Who is hurt: networks trained with one and evaluated or served with the other, by index: accuracy near chance if the
#   classes are numbered without leading zeros (class_1 ... class_12, wnid-free folders), a few classes exchanged if only
#   capitals differ. Nothing checks names against the weights.
# Instead: save the list of names with the weights and map by name; pass class_map= to timm, or classes that are padded
#   with zeros and of one case.
# Source: https://huggingface.co/docs/timm/reference/data (create_dataset) and torchvision's ImageFolder
#   ("classes: list of the class names sorted alphabetically").
# Guessed beforehand: numbers by value; not the case, nor the innermost folder.
# Needs: 7 GB of disk while it runs (PyTorch from PyPI).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0
venv/bin/python - <<'PY'
from pathlib import Path

import timm
import torchvision
from PIL import Image
from timm.data import create_dataset
from torchvision.datasets import ImageFolder

print("timm", timm.__version__, "torchvision", torchvision.__version__)


def drawn(root, *classes):
    for name in classes:
        Path(root, name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(Path(root, name, "a.jpg"))
    theirs, ours = ImageFolder(root).class_to_idx, create_dataset("", root).reader.class_to_idx
    print(root, "torchvision", theirs, "timm", ours)
    return theirs, ours


theirs, ours = drawn("numbered", "class_1", "class_2", "class_12", "class_3", "Zebra", "apple")
assert create_dataset("torch/image_folder", "numbered").class_to_idx == theirs
assert all(theirs[name] != ours[name] for name in theirs), "the orders agree now"
theirs, ours = drawn("nested", "left/ok", "left/broken", "right/ok", "right/broken")
assert (sorted(theirs), sorted(ours)) == (["left", "right"], ["broken", "ok"])
PY
