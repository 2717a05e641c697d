#!/usr/bin/env bash
# What: keras.metrics.AUC falls towards 0.5, chance, as the positives become rare, whatever the ranking: it counts at 200
#   thresholds spaced evenly over 0..1, and a calibrated network gives a class of one in a thousand probabilities that
#   nearly all lie below the first of them, 0.005. Of scores drawn alike throughout it makes 0.855 (exact: 0.855) at
#   one in two, 0.844 (0.858) at one in a hundred, 0.634 (0.821) at one in a thousand, 0.546 (0.818) at one in 3,000. from_logits=True changes nothing (the
#   logits become probabilities first), and curve="PR" fails alike.
# Why it surprises: the area under the ROC curve depends on the order of scores alone, so it is the metric people take just
#   because a class is rare. The documentation calls it an approximation; one expects an error in the third digit. Nothing
#   warns, and on a balanced set, where people check it, it is right to 0.001. The better calibrated, the worse it is.
# Who is hurt: screening, defects, rare species, multi-label heads; EarlyStopping and ModelCheckpoint on val_auc choose by
#   a number that moves with the calibration rather than with the ranking.
# Instead: scikit-learn's roc_auc_score on predictions, or thresholds= drawn from the quantiles of the scores.
# Source: https://keras.io/api/metrics/classification_metrics/#auc-class ("approximates the AUC ... via a Riemann sum").
# Guessed beforehand: 0.8 instead of 0.85 at one in a thousand.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check keras==3.15.1 jax==0.10.2 scikit-learn==1.9.1 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python - <<'PY'
import keras, numpy as np, sklearn
from sklearn.metrics import roc_auc_score

print("Keras", keras.__version__, "scikit-learn", sklearn.__version__)
rng = np.random.default_rng(0)
apart, found = 1.5, {}  # two normal distributions; the logit is that of the true probability, so calibrated exactly
for one_in in (2, 20, 100, 300, 1000, 3000):
    share = 1 / one_in
    labels = (rng.random(200_000) < share).astype("float32")
    scores = rng.normal(apart * labels, 1.0)
    logits = (apart * scores - apart**2 / 2 + np.log(share / (1 - share))).astype("float32")
    probabilities = 1 / (1 + np.exp(-logits))
    thresholds = np.unique(np.quantile(probabilities, np.linspace(0, 1, 400)[1:-1])).tolist()
    kinds = {"Keras": keras.metrics.AUC(), "from logits": keras.metrics.AUC(from_logits=True),
             "quantiles": keras.metrics.AUC(thresholds=thresholds)}
    row = {}
    for name, metric in kinds.items():
        metric.update_state(labels, logits if name == "from logits" else probabilities)
        row[name] = float(metric.result())
    row["exact"] = roc_auc_score(labels, scores)
    found[one_in] = row
    print(f"one in {one_in:5}:", ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
assert all(0.8 < row["exact"] < 0.88 for row in found.values())
assert all(abs(row["quantiles"] - row["exact"]) < 0.01 for row in found.values())
assert abs(found[2]["Keras"] - found[2]["exact"]) < 0.002
assert found[1000]["Keras"] < found[1000]["exact"] - 0.15, "AUC is closer to the truth now"
assert found[3000]["Keras"] < 0.6
assert all(abs(row["Keras"] - row["from logits"]) < 0.02 for row in found.values())
PY
