#!/usr/bin/env bash
# What: scikit-learn's Normalizer (and normalize) turns float16 rows whose length is 256 or more into rows of zeros: the squares
#   are summed in float16, which ends at 65,504, and the row is divided by infinity. All images then have the same feature.
#   PowerTransformer of the same type standardises to something else.
# Why it surprises: float16 is accepted and kept, and nothing is said; StandardScaler, PCA, cosine_similarity and the other scalers
#   of float16 are right. A length of 256 is none of an extreme: pixels of 0..255, or
#   2,048 features of about 6.
# Who is hurt: features kept in float16 to save half of the disk, normalised before neighbours or a linear head: the longest are
#   gone, and the distances between them are 0, like those of copies.
# Instead: normalize(features.astype("float32")) (checked below).
# Source: https://scikit-learn.org/stable/modules/generated/sklearn.preprocessing.Normalizer.html ("rescaled ... so that its
#   norm (l1, l2 or inf) equals one").
# Guessed beforehand: float16 is converted as by the others.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np, sklearn, warnings
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, PowerTransformer, StandardScaler

print("scikit-learn", sklearn.__version__)
random = np.random.default_rng(0)
labels = random.integers(0, 5, 600)
features = np.maximum(random.normal(0, 1, (5, 512))[labels] + random.normal(0, 2.0, (600, 512)), 0)
for scale in (1, 8, 12):
    kept = (features * scale).astype("float16")
    length = np.linalg.norm(kept.astype(float), axis=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        half = Normalizer().fit_transform(kept)
    single = Normalizer().fit_transform(kept.astype("float32"))
    empty = np.mean(~half.any(axis=1))
    accuracy = [KNeighborsClassifier(5).fit(rows[:400], labels[:400]).score(rows[400:], labels[400:]) for rows in (half, single)]
    warned = ", ".join(sorted({str(w.message) for w in said})) or "nothing"
    print(f"  rows of length {length.min():.0f} to {length.max():.0f}: {empty:.0%} become zeros; accuracy of neighbours {accuracy[0]:.2f}, by float32 {accuracy[1]:.2f}; said: {warned}")
    assert np.abs(cosine_similarity(kept[:9]) - cosine_similarity(kept[:9].astype(float))).max() < 1e-3
    assert np.abs(np.linalg.norm(single, axis=1) - 1).max() < 1e-5
    assert np.array_equal(~half.any(axis=1), length > 256) or abs(empty - np.mean(length > 256)) < 0.02, "long rows are kept now"
assert empty > 0.9 and accuracy[0] < 0.4 < accuracy[1]
pixels = random.gamma(2, 30, (500, 3)).clip(0, 255).astype("float16")
for maker in (StandardScaler, PowerTransformer):
    half, double = maker().fit_transform(pixels).astype(float), maker().fit_transform(pixels.astype(float))
    print(f"  {maker.__name__} of pixels: float16 differs from float64 by up to {np.abs(half - double).max():.3f}")
PY
