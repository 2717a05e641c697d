#!/usr/bin/env bash
# What: skl2onnx converts a TunedThresholdClassifierCV without its threshold: the ONNX model decides at 0.5. A one-vs-rest of
#   linear support vector machines with two classes decides at a place of its own as well. No error, no warning.
# Why it surprises: the threshold is all that this class adds, FixedThresholdClassifier raises an error, and the probabilities
#   of the ONNX model are right to six digits, so that the usual comparison of outputs passes if it looks at them.
# Who is hurt: screening and other rare classes, for which the threshold was tuned: recall falls to what it was before, in
#   production only; anyone who takes labels from a converted model.
# Instead: take probabilities from the ONNX model and compare with best_threshold_ (checked below); compare labels, not only
#   probabilities, of all test images after each conversion.
# Source: https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.TunedThresholdClassifierCV.html ("the
#   decision threshold"), https://onnx.ai/sklearn-onnx/supported.html.
# Guessed beforehand: an error, or the threshold kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
ORT_DISABLE_TELEMETRY=1 venv/bin/python - 2> errors.txt <<'PY' || { cat errors.txt; exit 1; }
import numpy as np, onnxruntime, skl2onnx, sklearn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

print("skl2onnx", skl2onnx.__version__, "scikit-learn", sklearn.__version__, "ONNX Runtime", onnxruntime.__version__)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, eight = (digits.data[order] + np.random.default_rng(1).normal(0, 6, digits.data.shape)).astype("float32"), digits.target[order] == 8
train, test = slice(0, 900), slice(900, None)  # one digit in ten is the rare class


def converted(model):
    made = skl2onnx.to_onnx(model, images[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images[test]})


found = {}
base = LogisticRegression(max_iter=2000, C=0.001)
tuned = TunedThresholdClassifierCV(base, scoring="balanced_accuracy", random_state=0).fit(images[train], eight[train].astype(int))
labels, probabilities = converted(tuned)[:2]
labels = np.ravel(labels)
assert np.allclose(probabilities, tuned.predict_proba(images[test]), atol=1e-4)
for name, guess in (("scikit-learn", tuned.predict(images[test])), ("ONNX", labels)):
    found[name] = recall_score(eight[test], guess)
    print(f"  tuned threshold {tuned.best_threshold_:.3f}: recall of the rare class {found[name]:.2f} by {name}")
assert found["ONNX"] < found["scikit-learn"] - 0.2, "the threshold is kept now"
assert np.array_equal(labels, (probabilities[:, 1] > 0.5).astype(int))
assert np.array_equal((probabilities[:, 1] >= tuned.best_threshold_).astype(int), tuned.predict(images[test]))
try:
    converted(FixedThresholdClassifier(base, threshold=0.2).fit(images[train], eight[train].astype(int)))
    raise SystemExit("FixedThresholdClassifier is converted now")
except skl2onnx.common.exceptions.MissingShapeCalculator:
    print("  FixedThresholdClassifier: an error")

many = OneVsRestClassifier(LinearSVC(random_state=0)).fit(images[train], eight[train].astype(int))
labels = np.ravel(converted(many)[0])
differ = np.mean(labels != many.predict(images[test]))
right = [float(np.mean(guess == eight[test])) for guess in (many.predict(images[test]), labels)]
print(f"  one-vs-rest of LinearSVC, two classes: {differ:.1%} other labels, accuracy {right[0]:.3f} by scikit-learn, {right[1]:.3f} by ONNX")
assert differ > 0.01
PY
