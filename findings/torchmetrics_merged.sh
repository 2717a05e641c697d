#!/usr/bin/env bash
# What: TorchMetrics' MetricCollection makes one of all metrics whose counts are equal after the first batch, for good: recall at thresholds
#   0.3, 0.5 and 0.8 is 0.90 three times (right: 0.90, 0.74, 0.34), if the first batch is an easy one. Accuracy, top-3
#   accuracy and accuracy that ignores a class are 0.70 three times (right: 0.70, 0.92, 0.64).
# Why it surprises: it is the default, meant for accuracy, precision and F1 of the same options, but options are not compared: only the
#   numbers are. A validation set that is sorted by class, as folders are read, begins with one class, whose images nothing tells
#   apart; shuffled, or with larger batches, the very same code is right.
# Who is hurt: whoever has several thresholds, top-k or ignored classes in one collection: the values are plausible, being those of
#   another one; a threshold is chosen by numbers that do not depend on it.
# Instead: MetricCollection(..., compute_groups=False) (checked below).
# Source: https://lightning.ai/docs/torchmetrics/stable/pages/overview.html#metriccollection ("All metrics in a compute group share the same
#   metric state"); torchmetrics#2596 has it of a user's own metrics, #2916 had it of BLEU.
# Guessed beforehand: yes of thresholds, from the code; that the default order of a folder is enough for it was not thought of.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np, torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryPrecision, BinaryRecall, MulticlassAccuracy

print("TorchMetrics", version("torchmetrics"), "PyTorch", torch.__version__)
torch.set_num_threads(1)
random = np.random.default_rng(0)


def measured(metrics, scores, labels, size, **options):
    collection = MetricCollection(metrics(), **options)
    for first in range(0, len(labels), size):
        collection.update(scores[first : first + size], labels[first : first + size])
    return {name: round(value.item(), 3) for name, value in collection.compute().items()}


def compare(title, metrics, scores, labels, size):
    merged, apart = measured(metrics, scores, labels, size), measured(metrics, scores, labels, size, compute_groups=False)
    print(f"  {title}: {merged}{'' if merged == apart else f' -- right: {apart}'}")
    return merged, apart


def thresholds():
    return {f"recall_{percent}": BinaryRecall(threshold=percent / 100) for percent in (30, 50, 80)}


def mixed():
    return {"accuracy_50": BinaryAccuracy(threshold=0.5), "accuracy_90": BinaryAccuracy(threshold=0.9), "precision_90": BinaryPrecision(threshold=0.9)}


def kinds():
    return {"accuracy": MulticlassAccuracy(10), "top_3": MulticlassAccuracy(10, top_k=3), "without_9": MulticlassAccuracy(10, ignore_index=9)}


sick = torch.tensor(np.repeat([0, 1], [700, 300]))
scores = torch.sigmoid(torch.tensor(random.normal(-3, 1.5, 1000) + 4 * sick.numpy()))
order = torch.tensor(random.permutation(1000))
for size in (8, 32, 128):
    for metrics in (thresholds, mixed):
        merged, apart = compare(f"sorted, batches of {size}", metrics, scores, sick, size)
        assert (merged != apart) == (size < 128), "metrics are kept apart now"
        if size < 128 and metrics is thresholds:
            assert len(set(merged.values())) == 1 and len(set(apart.values())) == 3
merged, apart = compare("shuffled, batches of 32", thresholds, scores[order], sick[order], 32)
assert merged == apart

labels = np.repeat(np.arange(10), 100)
logits = random.normal(0, 1, (1000, 10))
logits[np.arange(1000), labels] += 2
logits[:100, 0] += 6  # the first class is an easy one
scores, labels = torch.softmax(torch.tensor(logits), 1), torch.tensor(labels)
merged, apart = compare("ten classes, sorted, batches of 32", kinds, scores, labels, 32)
assert len(set(merged.values())) == 1 and merged["top_3"] < apart["top_3"] - 0.2, "metrics are kept apart now"
merged, apart = compare("ten classes, shuffled, batches of 32", kinds, scores[order], labels[order], 32)
assert merged == apart
PY
