#!/usr/bin/env bash
# What: Krippendorff's alpha of grades kept as uint8 is that of other data: for the levels "interval" and "ratio" the package
#   krippendorff subtracts them in the type they have, and 1 - 2 is 255. Three raters who differ by one grade at most agree with
#   0.76; in uint8 the same table gives 0.27, with "ratio" -0.22 in place of 0.50. uint16, uint32 and uint64 are as wrong.
# Why it surprises: the type is not mentioned, strings are even allowed; "nominal" and "ordinal" of the same table are right, int8
#   is right, and what comes out is a number between -1 and 1 like any other. It looks like raters who disagree.
# Who is hurt: agreement of graders of images: grades read from label images, masks and quantised tables are uint8, so is whatever
#   was made small to save memory. A data set is thrown away, or its raters are trained anew, for nothing.
# Instead: alpha(data.astype(float), ...) (checked below).
# Source: https://pypi.org/project/krippendorff/ (reliability_data: array_like, without a type).
# Guessed beforehand: not written down; that the type does not matter was taken for granted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check krippendorff==0.9.0 numpy==2.4.6
venv/bin/python - <<'PY'
from importlib.metadata import version

import krippendorff, numpy as np

print("krippendorff", version("krippendorff"), "NumPy", np.__version__)
random = np.random.default_rng(0)
truth = random.integers(0, 5, 300)
grades = np.stack([np.clip(truth + random.integers(-1, 2, 300), 0, 4) for _ in range(3)])
for level in ("nominal", "ordinal", "interval", "ratio"):
    kinds = ("float64", "int8", "int64", "uint8", "uint16", "uint64")
    alpha = {name: krippendorff.alpha(grades.astype(name), level_of_measurement=level).item() for name in kinds}
    print(f"  {level:8}", ", ".join(f"{name} {value:.3f}" for name, value in alpha.items()))
    assert abs(alpha["float64"] - alpha["int8"]) < 1e-9 and abs(alpha["float64"] - alpha["int64"]) < 1e-9
    wrong = abs(alpha["float64"] - alpha["uint8"])
    assert wrong > 0.3 if level in ("interval", "ratio") else wrong < 1e-9, "unsigned grades are as others now"
PY
