#!/usr/bin/env bash
# What: sklearn.metrics.log_loss depends on the type that probabilities are kept in. A probability of 0 for what is true
#   costs 36.0 in float64, 15.9 in float32 and 6.9 in float16: it is raised to the precision of the type first.
# Why it surprises: the same numbers, bit for bit convertible, get another score; `predictions.astype("float64")` doubles
#   the loss of a model that is sure and wrong, and half precision hides it.
# Who is hurt: who compares a network (float32), a boosted tree (float64) and stored predictions (float16) by log loss: a
#   model is ranked by its output type. Early stopping and searches by neg_log_loss mix them as well.
# Instead: one type for all, and a clip of one's own, for example np.clip(p, 1e-7, 1), said beside the number.
# Source: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html (clipped to the machine precision
#   "for the given dtype"; `eps` as an argument is gone).
# Guessed beforehand: 36 and 15.9 yes; that two models change places was tried.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np, sklearn
from sklearn.metrics import log_loss

print("scikit-learn", sklearn.__version__)
one = np.array([[0.0, 1.0], [1.0, 0.0]])  # both sure, the first wrong
wrong = {kind: 2 * log_loss([0, 0], one.astype(kind), labels=[0, 1]) for kind in ("float64", "float32", "float16")}
print("one image, probability 0 for its class:", {kind: round(loss, 2) for kind, loss in wrong.items()})
assert 36 < wrong["float64"] < 36.1 and 15.9 < wrong["float32"] < 16 and 6.9 < wrong["float16"] < 7

# one hundred images: A is sure and wrong on four, B is never sure
truth = np.zeros(100, int)
sure, modest = np.tile([1.0, 0.0], (100, 1)), np.tile([0.375, 0.625], (100, 1))
sure[:4] = [0.0, 1.0]
for kind in ("float64", "float32", "float16"):
    a, b = (log_loss(truth, each.astype(kind), labels=[0, 1]) for each in (sure, modest))
    print(f"{kind}: A {a:.3f}, B {b:.3f}: {'A' if a < b else 'B'} is better")
doubles = log_loss(truth, sure, labels=[0, 1])
halves = log_loss(truth, sure.astype("float16"), labels=[0, 1])
assert doubles > log_loss(truth, modest, labels=[0, 1]) > halves
assert np.array_equal(sure.astype("float16").astype("float64"), sure)  # nothing was lost by the narrower type
PY
