#!/usr/bin/env bash
# What: a class that does not occur in a test set counts as 0 in TorchMetrics' mean over classes of AUROC, and of average precision with
#   thresholds, but is left out of average precision without, of accuracy, F1 and Jaccard. An ignored class (ignore_index) counts as 0
#   in AUROC, and in accuracy and F1 as soon as one image is predicted as it, but not in Jaccard.
# Why it surprises: scores of one package on the same arrays, all with average="macro"; an AUROC of 0 is not "undefined" but worse than
#   tossing a coin, and a set that lacks one class of six has 0.75 in place of 0.90. thresholds=, which is recommended to save
#   memory, changes average precision from 0.73 to 0.61. Only the forms without thresholds warn, AUROC of a true positive rate.
# Who is hurt: rare classes that are in one fold and not in the other, a network of 1,000 classes tested on 200 of them, segmentation with
#   ignore_index=0 for the background: networks are compared by how many classes are missing, or by how often they say background.
# Instead: average=None, and the mean of those that occur (checked below); drop ignored images before.
# Source: https://lightning.ai/docs/torchmetrics/stable/classification/auroc.html ("macro: Calculate score for each class and average
#   them"); torchmetrics#583 has the 0 of AUROC, #1691 and #2441 the ignored class.
# Guessed beforehand: that AUROC leaves absent classes out as average precision does, and ignore_index takes the class out of the mean.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np, torch
from sklearn import metrics as exact
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassAveragePrecision, MulticlassF1Score, MulticlassJaccardIndex

print("TorchMetrics", version("torchmetrics"), "PyTorch", torch.__version__)
torch.set_num_threads(1)
random = np.random.default_rng(0)
CLASSES, IMAGES = 6, 600
SCORES = {
    "AUROC": MulticlassAUROC,
    "AUROC, thresholds": lambda *given, **options: MulticlassAUROC(*given, thresholds=200, **options),
    "average precision": MulticlassAveragePrecision,
    "average precision, thresholds": lambda *given, **options: MulticlassAveragePrecision(*given, thresholds=200, **options),
    "accuracy": MulticlassAccuracy,
    "F1": MulticlassF1Score,
    "Jaccard": MulticlassJaccardIndex,
}


def by_hand(labels, probabilities, classes):
    guesses = probabilities.argmax(1)
    ranked = {
        "AUROC": np.mean([exact.roc_auc_score(labels == k, probabilities[:, k]) for k in classes]),
        "average precision": np.mean([exact.average_precision_score(labels == k, probabilities[:, k]) for k in classes]),
    }
    return ranked | {
        "accuracy": exact.recall_score(labels, guesses, labels=classes, average="macro"),
        "F1": exact.f1_score(labels, guesses, labels=classes, average="macro"),
        "Jaccard": exact.jaccard_score(labels, guesses, labels=classes, average="macro"),
    }


def compare(title, labels, logits, classes, low, **options):
    probabilities = torch.softmax(torch.tensor(logits), 1)
    kept = ~np.isin(labels, [options.get("ignore_index")])
    right = by_hand(labels[kept], probabilities.numpy()[kept], classes)
    print(f"  {title}")
    for name, make in SCORES.items():
        wanted = right[name.split(",")[0]]
        score, each = make(CLASSES, **options), make(CLASSES, average=None, **options)
        for first in range(0, IMAGES, 50):
            batch = probabilities[first : first + 50], torch.tensor(labels[first : first + 50])
            score.update(*batch)
            each.update(*batch)
        found, mean = score.compute().item(), each.compute()[classes].mean().item()
        print(f"    {name}: {found:.3f} (over the classes that count: {wanted:.3f})")
        assert abs(mean - wanted) < 0.01
        if name in low:
            assert abs(found - wanted * len(classes) / CLASSES) < 0.01, "the mean is over other classes now"
        else:
            assert abs(found - wanted) < 0.01, "the mean is over other classes now"


labels = random.integers(0, CLASSES - 1, IMAGES)  # the last one does not occur
logits = random.normal(0, 1, (IMAGES, CLASSES))
logits[np.arange(IMAGES), labels] += 1.5
logits[:, -1] -= 100  # and is never predicted
compare("class 5 neither occurs nor is predicted", labels, logits, list(range(5)), ("AUROC", "AUROC, thresholds", "average precision, thresholds"))

labels = random.integers(0, CLASSES, IMAGES)
logits = random.normal(0, 1, (IMAGES, CLASSES))
logits[np.arange(IMAGES), labels] += 1.5
counted = ("AUROC", "AUROC, thresholds", "average precision, thresholds", "accuracy", "F1")
compare("class 0 is ignored, and predicted for some of the others", labels, logits, list(range(1, 6)), counted, ignore_index=0)
PY
