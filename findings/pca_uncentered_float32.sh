#!/usr/bin/env bash
# What: scikit-learn's PCA on float32 data with more than ten times as many rows as columns (under 1000) picks
#   "covariance_eigh" by itself, and that solver does not centre: it subtracts n * mean * mean' from X'X in float32.
#   With a mean of 100 standard deviations the twentieth of 64 components is another direction altogether and
#   "whitened" data have a spread of 0.975; with 1000 the first variance is wrong as well and the spread is 0.04.
#   svd_solver="full" is right on the same array, and so is float64.
# Why it surprises: the documentation says that the covariance is that of centred data, and its warning is about a wide
#   range of singular values, not about where the origin lies. No warning is raised.
# Who is hurt: PCA before SVMs, k-means, ViM or Mahalanobis distances over 16-bit pixels, temperatures in kelvin,
#   embeddings with a large common offset, in the float32 that networks and image readers give.
# Instead: svd_solver="full", or subtract the mean (StandardScaler) first, or pass float64.
# Source: sklearn.decomposition.PCA: "Precompute the covariance matrix (on centered data), run a classical eigenvalue
#   decomposition on the covariance matrix".
# Guessed beforehand: some loss in the last components at an offset of 1000.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
venv/bin/python - <<'PY'
import warnings
import numpy as np, sklearn
from sklearn.decomposition import PCA

warnings.simplefilter("error")
print("scikit-learn", sklearn.__version__)
spread = np.random.default_rng(0).normal(size=(3000, 64)) * np.logspace(0, -2, 64)
truth = PCA(20, svd_solver="full").fit(spread)
found = {}
for offset in (0, 10, 100, 1000):
    data = (spread + offset).astype("float32")
    for solver, dtype in (("auto", "float32"), ("full", "float32"), ("auto", "float64")):
        pca = PCA(20, svd_solver=solver, whiten=True).fit(data.astype(dtype))
        variance = np.abs(pca.explained_variance_ / truth.explained_variance_ - 1).max()
        cosine = np.linalg.svd(pca.components_.astype("float64") @ truth.components_.T)[1].min()
        white = pca.transform(data.astype(dtype)).std(0)[0]
        found[offset, solver, dtype] = variance, cosine, white
        print(f"offset {offset:4} {solver} ({pca._fit_svd_solver}) {dtype}: variances off by {variance:.4f}, "
              f"subspaces' worst cosine {cosine:.3f}, whitened spread {white:.3f}")
        assert solver == "full" or pca._fit_svd_solver == "covariance_eigh"
assert found[100, "auto", "float32"][1] < 0.5 and found[1000, "auto", "float32"][2] < 0.5, "centred now"
assert all(values[1] > 0.99 and abs(values[2] - 1) < 0.01
           for (offset, solver, dtype), values in found.items() if solver == "full" or dtype == "float64")
PY
