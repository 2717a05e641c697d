#!/usr/bin/env bash
# What: building Ultralytics' classification dataset, which training does first, *overwrites the user's own photographs*:
#   every JPEG whose last two bytes are not the end mark is rotated, encoded anew at quality 100 and saved in its place,
#   without its EXIF data and without whatever followed the image. Valid photographs are among them, for phones append to
#   the end mark: the film of a motion photo, a depth or gain map, a maker's trailer.
# Why it surprises: training reads; a check for corrupt files is expected to report. The note that it leaves says
#   "corrupt JPEG restored and saved" of files that every reader opens whole.
# Who is hurt: the only copy of an archive; time, place and camera are gone (and with them any split by session), motion
#   photos lose their film, checksums in a manifest no longer hold, files under version control change. The new pixels are
#   no longer those the camera wrote.
# Instead: train on a copy, or on files without write permission.
# Source: https://docs.ultralytics.com/datasets/classify/ (nothing is said of writing).
# Guessed beforehand: that it rewrites what lacks an end mark; not that valid files with a trailer count as such.
# Needs: 7 GB of disk while it runs (PyTorch from PyPI).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check ultralytics==8.4.190 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0
YOLO_CONFIG_DIR="$work" YOLO_OFFLINE=true venv/bin/python - <<'PY'
import hashlib
from pathlib import Path

import numpy as np
import ultralytics
from PIL import Image
from ultralytics.cfg import get_cfg
from ultralytics.data.dataset import ClassificationDataset

print("ultralytics", ultralytics.__version__)
rng = np.random.default_rng(0)
exif = Image.Exif()
exif[0x0112], exif[0x0132] = 6, "2026:11:28 10:00:00"  # turned by a quarter; date and time
film = b"a film of two seconds, as motion photos carry one" * 100
for name in ("train/cup/plain.jpg", "train/cup/motion.jpg", "train/plate/plain.jpg"):
    path = Path("images", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(path, quality=60, exif=exif)
motion = Path("images/train/cup/motion.jpg")
motion.write_bytes(motion.read_bytes() + film)
with Image.open(motion) as image:
    image.load()  # a valid file
    print("before:", image.size, "date", image.getexif().get(0x0132), motion.stat().st_size, "bytes")


def sums():
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in Path("images").rglob("*.jpg")}


before = sums()
options = get_cfg()
options.imgsz = 32
dataset = ClassificationDataset("images/train", options)
after = sums()
changed = [path for path in before if before[path] != after[path]]
with Image.open(motion) as image:
    print("after: ", image.size, "date", image.getexif().get(0x0132), motion.stat().st_size, "bytes")
    assert image.size == (40, 60) and not image.getexif(), "EXIF is kept now"
print(len(dataset), "images in the dataset; overwritten on disk:", changed)
assert len(dataset) == 3
assert changed == [str(motion)], "the originals are left alone now"
assert film not in motion.read_bytes()
PY
