#!/usr/bin/env bash
# What: a colour image of 16 bits given to datasets' Image feature as an array keeps the remainder by 256 of each value: 1000 becomes
#   232, 2000 becomes 208, a smooth scene becomes stripes. Grey images of uint32 (without a warning) and of int64 come back
#   negative where they exceed 2,147,483,647. The stored file is a valid PNG or TIFF.
# Why it surprises: what is said is a warning of "downcasting ... to be compatible with Pillow", which reads like the loss of the low
#   bits; colour in floats is refused with an error, grey of 16 bits is kept exactly, and files of 16 bits are not touched.
# Who is hurt: microscopy, satellite and raw photographs pushed to the Hub or saved from arrays: every image is there, of the right size, and
#   its texture is that of the low byte. Label maps with large numbers (panoptic, instance ids of 64 bits).
# Instead: the Array3D feature, or (array >> 8).astype("uint8") first (both checked below).
# Source: https://huggingface.co/docs/datasets/about_dataset_features (Image: arrays are encoded); datasets#5365 chose to cast to "the closest
#   supported dtype".
# Guessed beforehand: 16 bits stay 16 bits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
export HF_HOME="$work/home" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'PY'
import warnings

import datasets, numpy as np, PIL
from datasets import Array3D, Dataset, Features, Image

print("datasets", datasets.__version__, "Pillow", PIL.__version__)


def kept(array, feature=None):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = Dataset.from_dict({"image": [array]}, features=Features({"image": feature or Image()}))
        back = np.array(table[0]["image"])
    return back, "; ".join(str(w.message) for w in said)


row, column = np.mgrid[:64, :64]
colour = np.stack([column * 1000, row * 1000, (row + column) * 500], -1).astype("uint16")
back, said = kept(colour)
print(f"  colour of 16 bits: {colour[5, 1:6, 0].tolist()} becomes {back[5, 1:6, 0].tolist()}, correlation {np.corrcoef(back.ravel(), colour.ravel())[0, 1]:.2f}; said: {said}")
assert back.dtype == np.uint8 and (back == colour % 256).all(), "colour of 16 bits is kept or scaled now"
grey, said = kept(colour[..., 0])
print(f"  grey of 16 bits: exact {np.array_equal(grey, colour[..., 0])}; said: {said or 'nothing'}")
assert np.array_equal(grey, colour[..., 0])
for name in ("uint32", "int64"):
    numbers = (row * 64 + column).astype(name) * 1_000_000
    back, said = kept(numbers)
    print(f"  grey of {name}, up to {numbers.max():,}: {np.mean(back < 0):.0%} negative; said: {said}")
    assert np.mean(back < 0) > 0.3
assert np.array_equal(kept(colour, Array3D((64, 64, 3), "uint16"))[0], colour)
assert np.array_equal(kept((colour >> 8).astype("uint8"))[0], colour >> 8)
try:
    kept(colour / 65535)
except TypeError as error:
    print("  colour in floats:", error)
else:
    raise SystemExit("colour in floats is taken now")
PY
