#!/usr/bin/env bash
# What: HDF5's scale-offset filter (create_dataset(..., scaleoffset=3) in h5py) keeps no NaN: each comes back as about the smallest
#   number of its chunk, an ordinary feature. If the NaN is the first number of a chunk of float32, that chunk is written without a word
#   and can never be read again: all its images are lost for one. A NaN at the start of a chunk of float64 leaves it whole.
# Why it surprises: the filter is described as one that rounds to a number of decimals; infinity and 1e30 beside the others come back
#   exact. What happens to a NaN hangs on its place and on the type. The error comes on reading, maybe months after writing.
# Who is hurt: tables of features, depth maps and scores with gaps, which are what NaN is for: gaps become the least score or the
#   nearest depth, and isnan() finds none of them; or a chunk of hundreds of rows is gone.
# Instead: compression="gzip" with shuffle=True (checked below), or a mask of its own and no NaN under this filter.
# Source: https://docs.h5py.org/en/stable/high/dataset.html#lossy-compression-filters ("the number of decimal digits to keep after the
#   decimal point").
# Guessed beforehand: NaN becomes some number; not that a chunk is lost, nor that it depends on the place.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
venv/bin/python - <<'PY'
import h5py, numpy as np

print("h5py", h5py.__version__, "HDF5", h5py.version.hdf5_version)
random = np.random.default_rng(0)


def kept(values, **filters):
    """Both chunks of 500 numbers as they are read back; None for one that cannot be read."""
    with h5py.File("table.h5", "w") as file:
        file.create_dataset("feature", data=values, chunks=(500,), **filters)
    back = []
    for start in (0, 500):
        with h5py.File("table.h5") as file:
            try:
                back.append(file["feature"][start : start + 500])
            except OSError as error:
                print("    ", error)
                back.append(None)
    return back


for name in ("float32", "float64"):
    values = random.normal(0, 1, 1000).astype(name)
    clean = np.concatenate(kept(values, scaleoffset=3))
    print(f"  {name} without NaN: off by up to {np.abs(clean - values).max():.5f}")
    assert np.abs(clean - values).max() < 0.0011
    gap = values.copy()
    gap[[7, 800]] = np.nan
    back = np.concatenate(kept(gap, scaleoffset=3))
    print(f"  {name} with two NaN: {np.isnan(back).sum()} NaN read back, {back[7]:.3f} and {back[800]:.3f} in their places, the least are {values[:500].min():.3f} and {values[500:].min():.3f}")
    assert not np.isnan(back).any(), "NaN are kept now"
    first = values.copy()
    first[500] = np.nan
    back = kept(first, scaleoffset=3)
    print(f"  {name} with NaN first in the second chunk: {'cannot be read, 500 numbers lost' if back[1] is None else 'read'}")
    assert back[0] is not None and (back[1] is None) == (name == "float32"), "a chunk that begins with NaN can be read now"
    far = values.copy()
    far[7] = np.inf
    back = np.concatenate(kept(far, scaleoffset=3))
    assert back[7] == np.inf and np.abs(np.delete(back, 7) - np.delete(far, 7)).max() < 0.0011
    assert np.array_equal(np.concatenate(kept(first, compression="gzip", shuffle=True)), first, equal_nan=True)
PY
