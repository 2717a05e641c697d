"""A page with every section, made from drawn predictions."""

import io

import numpy as np
from PIL import Image

from tlkit.core.manifest import Problem
from tlkit.core.predictions import Predictions
from tlkit.core.results import ClassResult, ConfusedPair, EvaluationResult, Metric, Reliability, SplitResult
from tlkit.core.splits import SPLITS
from tlkit.report.build import Data, EpochRow, Page, PlanRow

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror="document.title=1">',
    "\u202eevil\u202c עברית",
    "caf\udce9",  # a byte that is no UTF-8, as os.listdir gives it
    "{{ 7 * 7 }} $\\frac{1}{0}$ &amp; '",
    "two\nlines\tand a tab",
)


def predictions(classes=("ants", "bees", "wasps"), n=120, strength=1.5, seed=0):
    rng = np.random.default_rng(seed)
    count = len(classes)
    labels = rng.integers(0, count, n).astype(np.int32)
    logits = rng.normal(size=(n, count)).astype(np.float32)
    logits[np.arange(n), labels] += strength
    return Predictions(
        paths=[f"{classes[label]}/{i:04d}.jpg" for i, label in enumerate(labels)],
        sha256=["0" * 64] * n,
        labels=labels,
        splits=rng.integers(0, 3, n).astype(np.int8),
        logits=logits,
        classes=tuple(classes),
    )


def evaluation(rows):
    """What the evaluation would find, short of intervals: the report must not need that layer."""
    return EvaluationResult(
        splits={name: _result(rows.of_split(name), name) for name in SPLITS if len(rows.of_split(name))},
        notes=("train: <b>one</b> image has no label.",),
    )


def _result(rows, split):
    count, n = len(rows.classes), len(rows)
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (rows.labels, rows.predicted), 1)
    share = float(np.trace(confusion) / n)
    pairs = [(confusion[i, j], i, j) for i, j in np.argwhere(confusion) if i != j]
    filled = np.array([n, 0])
    return SplitResult(
        split=split,
        n=n,
        metrics={
            "accuracy": Metric(share, n, max(0.0, share - 0.06), min(1.0, share + 0.06)),
            "top_2_accuracy": Metric(0.9, n),
            "balanced_accuracy": Metric(share, n, share, share),
            "macro_f1": Metric(0.8, n),
            "log_loss": Metric(0.5, n, 0.4, 0.6),
            "roc_auc": Metric(None, n),
        },
        confusion=confusion,
        classes=tuple(
            ClassResult(name, int(confusion[i].sum()), int(confusion[:, i].sum()), None if i else 0.75, 0.5, 0.6)
            for i, name in enumerate(rows.classes)
        ),
        confused=tuple(
            ConfusedPair(rows.classes[i], rows.classes[j], int(count)) for count, i, j in sorted(pairs, reverse=True)
        ),
        reliability=Reliability(np.array([0, 0.5, 1]), filled, np.array([0.4, np.nan]), np.array([0.45, np.nan])),
    )


def thumbnail(path):
    """A 160 pixel JPEG in a colour of its own; None for one image in ten."""
    shade = sum(path.encode("utf-8", "surrogateescape")) % 256
    if shade % 10 == 0:
        return None
    file = io.BytesIO()
    Image.new("RGB", (160, 120), (shade, 128, 255 - shade)).save(file, "JPEG")
    return file.getvalue()


def full_page(classes=("ants", "bees", "wasps"), **changes):
    rows = predictions(classes, n=max(120, 4 * len(classes)))
    fields = {
        "title": "nano on " + classes[0],
        "command": "tlkit finetune 'my <images>' --out run",
        "created": "2026-01-02 03:04",
        "versions": {"tlkit": "0.1.0", "keras": "3.10.0"},
        "hardware": {"cpu": "2 cores"},
        "data": Data(
            classes=tuple(classes),
            counts={
                name: np.bincount(rows.labels[rows.splits == code], minlength=len(classes)).tolist()
                for code, name in enumerate(SPLITS)
            },
            rule="by content",
            set_aside=[Problem(f"{classes[0]}/broken.jpg", "truncated")],
            ignored=2,
            notes=["two images are the same"],
        ),
        "plan": [
            PlanRow(stage="head", learns="the head", epochs=4, learning_rate=1e-3, seconds=3.0, val_accuracy=0.8),
            PlanRow(stage="top", learns="blocks", epochs=2, learning_rate=1e-5, reason="few images", gained=-0.01),
        ],
        "history": [
            EpochRow(stage=stage, epoch=i, loss=1 / i, accuracy=0.7, val_loss=1.1 / i, val_accuracy=None)
            for stage, i in [("head", 1), ("head", 2), ("head", 3), ("head", 4), ("top", 1), ("top", 2)]
        ],
        "evaluation": evaluation(rows),
        "predictions": rows,
        "thumbnail": thumbnail,
        "fingerprints": {"data": "ab" * 32},
        "seeds": {"seed": 0},
        "config": "images = 'my <images>'\n",
    }
    return Page(**(fields | changes))
