#!/usr/bin/env bash
# What: sklearn.metrics.cohen_kappa_score(weights="quadratic") measures how far two grades are apart by their places among
#   the grades that occur, not by the grades. Where no image has grade 2 or 3, an error from 1 to 4 counts as an error by one.
# Why it surprises: the labels are numbers, and the weight is "quadratic" in their distance; 0, 1, 4 and 0, 1, 2 get the
#   same kappa. Nothing is said, since leaving `labels` out is the usual call.
# Who is hurt: graded diseases, quality grades, essay scores: rare grades are missing from a fold, from a small test set,
#   from a bootstrap sample. Of two models the one with gross errors is called as good as the one with small ones, and
#   intervals by bootstrap mix two different scores.
# Instead: give every grade of the scale: labels=range(5).
# Source: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.cohen_kappa_score.html ("labels: list of labels
#   to index the matrix. This may be used to select a subset of labels").
# Guessed beforehand: yes, from how the matrix is made.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np, sklearn
from sklearn.metrics import cohen_kappa_score as kappa

print("scikit-learn", sklearn.__version__)


def by_hand(truth, guess, grades):
    seen = np.zeros((grades, grades))
    np.add.at(seen, (truth, guess), 1)
    apart = np.subtract.outer(np.arange(grades), np.arange(grades)) ** 2
    chance = np.outer(seen.sum(1), seen.sum(0)) / seen.sum()
    return 1 - (apart * seen).sum() / (apart * chance).sum()


truth = np.repeat([0, 1, 4], 20)  # a scale of 0 to 4; no image has 2 or 3
small, gross = truth.copy(), truth.copy()
small[:10] = 1  # ten of grade 0 are taken for 1
gross[-10:] = 1  # ten of grade 4 are taken for 1
found = {}
for name, guess in (("ten errors by one grade", small), ("ten errors by three grades", gross)):
    found[name] = [kappa(truth, guess, weights="quadratic"), kappa(truth, guess, weights="quadratic", labels=range(5))]
    assert abs(found[name][1] - by_hand(truth, guess, 5)) < 1e-12
    print(f"{name}: kappa {found[name][0]:.3f} as usually called, {found[name][1]:.3f} with labels=range(5) and by hand")
(plain, given), (other, far) = found.values()
assert abs(plain - other) < 1e-12, "the usual call tells the two apart now"
assert given > 0.94 and far < 0.75

# the same scale, and a bootstrap of 30 images with one of the rare grade: two scores in one interval
random = np.random.default_rng(0)
some = np.array([0] * 14 + [1] * 12 + [3] * 3 + [2])
guess = np.where(random.random(30) < 0.3, np.clip(some + random.choice([-1, 1, 3], 30), 0, 4), some)
worst = 0
for _ in range(500):
    rows = random.integers(0, 30, 30)
    pair = [kappa(some[rows], guess[rows], weights="quadratic", labels=given) for given in (None, range(5))]
    worst = max(worst, abs(pair[0] - pair[1]))
print(f"500 bootstrap samples of 30 images: the two calls differ by up to {worst:.3f}")
assert worst > 0.05
PY
