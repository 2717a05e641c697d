#!/usr/bin/env bash
# What: SMOTE, BorderlineSMOTE and ADASYN of imbalanced-learn on uint8 features make images that lie between no two
#   images: the difference of neighbours is taken in uint8 and wraps round, so nearly every synthetic row leaves the
#   box that its class spans, by up to a hundred grey levels. No error, no warning, dtype uint8 as given. The same
#   numbers as int16 or float32 are right.
# Why it surprises: dtype is documented as free, the search for neighbours is done in floats, and rounding to whole
#   numbers is the worst one expects. The mean over all pixels moves by a few levels only, so it does not show.
# Who is hurt: minority classes oversampled in pixel space, where uint8 is what every image reader returns, and
#   quantised (8-bit) embeddings: the classifier is taught noise for the rare class.
# Instead: X.astype("float32") before fit_resample.
# Source: imbalanced-learn user guide: a new sample is generated as x_new = x_i + lambda * (x_zi - x_i), lambda in
#   [0, 1], "a sample on the line between x_i and x_zi".
# Guessed beforehand: rounded towards zero.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check imbalanced-learn==0.14.2 scikit-learn==1.9.1 scipy==1.17.1 \
  numpy==2.4.6
venv/bin/python - <<'PY'
import imblearn, numpy as np, sklearn
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE

print("imbalanced-learn", imblearn.__version__, "scikit-learn", sklearn.__version__)
rng = np.random.default_rng(0)
common, rare = rng.normal(110, 25, (90, 16)), rng.normal(130, 25, (20, 16))
pixels = np.concatenate([common, rare]).round().clip(0, 255)
labels = np.array([0] * 90 + [1] * 20)
least, most = pixels[90:].min(0), pixels[90:].max(0)
for sampler in (SMOTE, BorderlineSMOTE, ADASYN):
    outside = {}
    for dtype in ("uint8", "int16", "float32"):
        resampled, _ = sampler(random_state=0).fit_resample(pixels.astype(dtype), labels)
        assert resampled.dtype == dtype
        synthetic = resampled[len(pixels):].astype(float)
        beyond = np.maximum(np.maximum(least - synthetic, synthetic - most), 0)
        outside[dtype] = (beyond.max(1) > 1).mean().item()
        print(f"{sampler.__name__:15} {dtype:7} {len(synthetic)} new rows, {outside[dtype]:.0%} outside their class, "
              f"by up to {beyond.max():.0f}")
    assert outside["uint8"] > 0.5, "uint8 is computed in a wider type now"
    assert outside["int16"] == outside["float32"] == 0
PY
