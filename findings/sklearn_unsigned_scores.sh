#!/usr/bin/env bash
# What: five scores of scikit-learn are wrong for unsigned whole numbers. ndcg_score, dcg_score and
#   label_ranking_average_precision_score negate the scores to sort them, and in uint8 minus 0 is 0, minus 1 is 255: the labels with a
#   score of zero are taken for the best. max_error of 10 and 12 is 254, and median_absolute_error of values at most five apart
#   is 6 in place of 3, or hundreds.
# Why it surprises: a dozen others on the same arrays are right, among them mean_absolute_error, mean_squared_error (which was
#   repaired), label_ranking_loss, coverage_error and ndcg_score(ignore_ties=True); nothing is raised, and NDCG stays below 1.
# Who is hurt: quantised networks, whose scores are uint8, compared with the network they were made of: most labels of an image
#   have a score of 0, and all of them are put before the right one. Images compared pixel by pixel, depth in uint16.
# Instead: scores.astype(float) (checked below).
# Source: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.ndcg_score.html ("y_score: Target scores, can either be
#   probability estimates, confidence values, or non-thresholded measure of decisions").
# Guessed beforehand: all of them convert.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np, sklearn
from sklearn import metrics

print("scikit-learn", sklearn.__version__)
random = np.random.default_rng(0)
relevance = (random.random((200, 50)) < 0.04).astype(int)
relevance[np.arange(200), random.integers(0, 50, 200)] = 1
logits = random.normal(-4, 2, (200, 50)) + 6 * relevance
scores = np.floor(256 / (1 + np.exp(-logits))).clip(0, 255)  # what a network with an output of uint8 returns
print(f"  {np.mean(scores == 0):.0%} of the scores are 0")
ranking = {
    "NDCG": metrics.ndcg_score,
    "NDCG at 5": lambda truth, ranked: metrics.ndcg_score(truth, ranked, k=5),
    "NDCG without ties": lambda truth, ranked: metrics.ndcg_score(truth, ranked, ignore_ties=True),
    "label ranking precision": metrics.label_ranking_average_precision_score,
    "label ranking loss": metrics.label_ranking_loss,
    "coverage": metrics.coverage_error,
}
for name, score in ranking.items():
    values = {kind: float(score(relevance, scores.astype(kind))) for kind in ("float64", "int64", "uint8", "uint16")}
    print(f"  {name:24}", ", ".join(f"{kind} {value:.3f}" for kind, value in values.items()))
    right = values["float64"]
    assert abs(values["int64"] - right) < 1e-9
    for kind in ("uint8", "uint16"):
        if name in ("NDCG", "NDCG at 5", "label ranking precision"):
            assert values[kind] < right - 0.3, "unsigned scores are ranked as others now"
        else:
            assert abs(values[kind] - right) < 0.01 * right
truth = random.integers(5, 250, 1000)
guess = truth + random.integers(-5, 6, 1000)
for kind in ("float64", "uint8", "uint16"):
    pair = truth.astype(kind), guess.astype(kind)
    largest, median, mean = (float(score(*pair)) for score in (metrics.max_error, metrics.median_absolute_error, metrics.mean_absolute_error))
    print(f"  {kind:7} largest error {largest:.0f}, median {median:.0f}, mean {mean:.2f}")
    assert abs(mean - 2.7) < 0.2
    assert (largest == 5 and median <= 3) if kind == "float64" else (largest >= 255 and median >= 4), "unsigned numbers are subtracted rightly now"
PY
