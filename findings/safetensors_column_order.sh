#!/usr/bin/env bash
# What: safetensors 0.8 saves a NumPy array that is not in row order with its numbers in another order, and loads it under the
#   right shape: 0.7 was right. What pandas' to_numpy() gives for some columns is such an array, and so are .T, a choice of
#   columns by a slice, and the components of scikit-learn's PCA with the full solver.
# Why it surprises: the two arrays are equal to NumPy; np.save, HDF5 and safetensors.torch (an error there) deal with it. Shape,
#   type, and for a whole array mean and histogram, of what is loaded are right. A minor release changed it.
# Who is hurt: embeddings and weights by way of pandas, scikit-learn or a transposition: every image has numbers of others, and
#   a search or a linear probe falls to chance. A pipeline that was checked before the upgrade is not checked again.
# Instead: np.ascontiguousarray(array) before saving (checked below), or safetensors below 0.8.
# Source: github.com/safetensors/safetensors/issues/825 (open); the docstring of save_file asks for dense and contiguous
#   arrays, and an array in column order is contiguous to NumPy ("F_CONTIGUOUS").
# Guessed beforehand: no; expected was a right copy, as in 0.7.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
cat > run.py <<'PY'
import sys

import numpy as np, pandas as pd, safetensors, sklearn
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

print("safetensors", safetensors.__version__, "pandas", pd.__version__, "scikit-learn", sklearn.__version__)
random = np.random.default_rng(0)
labels = np.arange(600) % 5
table = pd.DataFrame({"file": [f"{row}.jpg" for row in range(600)]})
for column in range(16):
    table[f"f{column}"] = (random.normal(size=600) + 2 * (labels == column % 5)).astype("float32")
features = table.filter(like="f").drop(columns="file").to_numpy()
arrays = {
    "columns of a table": features,
    "transposed": np.ascontiguousarray(features).T,
    "every second column": np.ascontiguousarray(features)[:, ::2],
    "components of PCA": PCA(8, svd_solver="full").fit(features).components_,
    "in row order": np.ascontiguousarray(features),
}
save_file(arrays, "arrays.safetensors")
np.savez("arrays.npz", **arrays)
loaded, plain = load_file("arrays.safetensors"), np.load("arrays.npz")
same = {}
for name, array in arrays.items():
    same[name] = np.array_equal(loaded[name], array)
    assert np.array_equal(plain[name], array) and loaded[name].shape == array.shape
    right = np.mean(loaded[name] == array)
    print(f"  {name}: {'equal' if same[name] else f'{right:.0%} of the numbers in their place'}, shape {loaded[name].shape}")


def accuracy(x):
    return LogisticRegression(max_iter=500).fit(x[:400], labels[:400]).score(x[400:], labels[400:])


scores = accuracy(features), accuracy(loaded["columns of a table"])
print(f"  a linear probe: {scores[0]:.2f} before saving, {scores[1]:.2f} after (chance: 0.20)")
if sys.argv[1] == "new":
    assert [name for name in same if same[name]] == ["in row order"], "other orders are saved rightly now"
    assert scores[0] > 0.8 and scores[1] < 0.35
    save_file({"x": np.ascontiguousarray(features)}, "row.safetensors")
    assert np.array_equal(load_file("row.safetensors")["x"], features)
else:
    assert all(same.values()) and scores[0] == scores[1]
PY
venv/bin/pip install -qq --disable-pip-version-check safetensors==0.7.0 numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1
venv/bin/python run.py old
venv/bin/pip install -qq --disable-pip-version-check safetensors==0.8.0
venv/bin/python run.py new
