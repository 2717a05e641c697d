#!/usr/bin/env bash
# What: numcodecs' Delta filter of floats, alone and in Zarr, is not lossless, and one NaN makes NaN of everything after it in
#   its chunk: one broken feature of one image takes the features of all later images with it. Where large and small columns
#   stand side by side the small ones are lost: errors of nearly twice their own spread.
# Why it surprises: its documentation calls it an encoding of differences, in a package where codecs that lose are described as
#   such (Quantize, FixedScaleOffset, BitRound), and takes any dtype. Written and read without a word.
# Who is hurt: tables of features, depth maps and scores kept in Zarr with a filter that was chosen for integers: a mean over
#   images is NaN, or one over those that are not NaN is that of the first few of each chunk.
# Instead: Shuffle or Blosc for floats (checked below), Delta for integers only.
# Source: https://numcodecs.readthedocs.io/en/stable/filter/delta.html.
# Guessed beforehand: yes, both; the loss was guessed to be smaller.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check zarr==3.1.6 numcodecs==0.16.6 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numcodecs, numpy as np, zarr
from zarr.codecs import BloscCodec, numcodecs as filters

print("zarr", zarr.__version__, "numcodecs", numcodecs.__version__)
random = np.random.default_rng(0)
features = np.concatenate([random.normal(1e4, 1e3, (4000, 1)), random.normal(0, 0.01, (4000, 63))], axis=1).astype("float32")


def through(array, codec):
    options = {"filters": [codec]} if codec is not None else {"compressors": [BloscCodec(shuffle="shuffle")]}
    zarr.create_array("store.zarr", data=array, chunks=(1000, 64), overwrite=True, **options)
    return zarr.open_array("store.zarr", mode="r")[:]


found = through(features, filters.Delta(dtype="<f4"))
apart = np.abs(found[:, 1:] - features[:, 1:]).max()
print(f"  63 columns with a deviation of {features[:, 1:].std():.3f} beside one near 10,000: off by up to {apart:.3f} after Delta")
assert apart > 0.015, "floats come back as they were now"
assert np.array_equal(through(features, None), features)

broken = features.copy()
broken[1100, 5] = np.nan
found = through(broken, filters.Delta(dtype="<f4"))
rows = np.isnan(found).any(axis=1)
print(f"  one NaN, in row 1100 of 4000: {rows.sum()} rows with NaN after Delta, {np.isnan(found).sum()} numbers")
assert rows.sum() == 900 and rows[1100:2000].all(), "a NaN stays alone now"
assert np.isnan(through(broken, None)).sum() == 1

both = numcodecs.Delta(dtype="f4").decode(numcodecs.Delta(dtype="f4").encode(broken)).reshape(broken.shape)
assert np.isnan(both[1101:]).all()
whole = random.integers(0, 65536, (4000, 64)).astype("uint16")
assert np.array_equal(through(whole, filters.Delta(dtype="<u2")), whole)
print("  whole numbers come back as they were, and floats after Blosc with shuffle")
PY
