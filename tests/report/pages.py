"""A page with every section, made from drawn predictions."""

import io

import numpy as np
from PIL import Image

from tlkit.auditing.findings import AuditResult, Finding, ImageGroup
from tlkit.classifier.answers import Predictions
from tlkit.data.dataset import SPLITS, Problem
from tlkit.evaluation.choice import Candidate, Choice
from tlkit.evaluation.results import (
    Abstention,
    ClassCurves,
    ClassResult,
    ConfusedPair,
    Curve,
    EvaluationResult,
    Leak,
    Metric,
    Reliability,
    RiskCoverage,
    SliceResult,
    SplitResult,
)
from tlkit.report.build import Data, EpochRow, ModelSection, NearestImage, Page, PlanRow

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
        threshold=0.6,
        unfamiliarity=rng.uniform(0, 1.1, n).astype(np.float32),
    )


def evaluation(rows):
    """A result like that of the evaluation, without intervals: the report must not need that layer."""
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
        uncalibrated=Reliability(np.array([0, 0.5, 1]), filled, np.array([0.3, np.nan]), np.array([0.45, np.nan])),
        risk_coverage=_risk_coverage(rows),
        abstention=Abstention(0.95, 0.6, Metric(0.7, n, 0.6, 0.8), Metric(0.94, n, 0.85, 0.98)),
        curves=tuple(_curves(rows, i) for i in range(min(count, 30))),
        slices=(
            SliceResult("brightness", "dark", Metric(0.5, 20, 0.3, 0.7), Metric(share, n - 20), 0.0004, True),
            SliceResult("camera", rows.classes[0], Metric(0.8, 20), Metric(share, n - 20), 0.4, False),
        ),
        leak=Leak(3, 2, n) if split == "test" else None,
    )


def _risk_coverage(rows):
    order = np.argsort(-rows.confidence, kind="stable")
    wrong = (rows.predicted != rows.labels)[order]
    count = np.arange(1, len(rows) + 1)
    risk = np.cumsum(wrong) / count
    return RiskCoverage(count / len(rows), risk, rows.confidence[order], Metric(float(risk.mean()), len(rows)))


def _curves(rows, label):
    scores, truth = rows.probabilities[:, label], rows.labels == label
    order = np.argsort(-scores, kind="stable")
    hits, misses = np.cumsum(truth[order]), np.cumsum(~truth[order])
    rates = [np.concatenate([[0], part / max(1, part[-1])]) for part in (misses, hits)]
    precision = np.concatenate([[1], hits / (hits + misses)])
    area, average = Metric(0.9, len(rows), 0.8, 0.95), Metric(0.8, len(rows))
    return ClassCurves(rows.classes[label], Curve(*rates), Curve(rates[1], precision), area, average)


def audit(classes, paths):
    """One finding of each severity; their texts contain the first class."""
    labels = (classes[0], classes[1])
    pair = ImageGroup(paths=tuple(paths[:2]), labels=labels, splits=("train", "test"), caption=f"copies, {classes[0]}")
    doubtful = [
        ImageGroup(paths=(path,), labels=(classes[0],), splits=("train",), suggested=classes[1], score=0.9)
        for path in paths[2:20]
    ]
    return AuditResult(
        images=len(paths),
        classes=tuple(classes),
        findings=(
            Finding(
                check="exact_duplicates",
                severity="serious",
                sentence=f"1 image of {classes[0]} is in train and in test.",
                remedy="Remove one.",
                command="tlkit finetune images --fixes fixes.csv",
                groups=(pair,) * 9,
            ),
            Finding(
                check="label_issues",
                severity="warning",
                sentence="18 images look mislabelled.",
                remedy="Look at them.",
                groups=tuple(doubtful),
            ),
            Finding(check="counts", severity="note", sentence="Classes are of unequal size.", remedy="Mind the rare."),
        ),
        checks={"counts": "", "metadata": "there is no EXIF"},
    )


def choice(name):
    """Three candidates, the last of which ships; the names hold a class."""
    loss = Metric(0.4, 30)
    return Choice(
        candidates=(
            Candidate(name="the probe", kind="probe", accuracy=Metric(0.8, 30, 0.63, 0.9), log_loss=loss),
            Candidate(
                name=f"top on {name}",
                kind="fine-tuned",
                accuracy=Metric(0.9, 30),
                log_loss=loss,
                gained=Metric(0.1, 30, -0.02, 0.2),
                lowered=Metric(0.0, 30),
            ),
        ),
        chosen=f"top on {name}",
        reason=f"top on {name} is better.",
        held_out="30 validation images",
        gained={"test": Metric(-0.05, 40, -0.1, 0.02)},
    )


def neighbours(classes, paths):
    """Five training images beside each path."""
    return lambda asked: {
        path: [NearestImage(path=near, label=classes[0], similarity=0.9) for near in paths[:5]] for path in asked
    }


def thumbnail(path):
    """A 160 pixel JPEG in a colour of its own; None for one image in ten."""
    shade = sum(path.encode("utf-8", "surrogateescape")) % 256
    if shade % 10 == 0:
        return None
    file = io.BytesIO()
    Image.new("RGB", (160, 120), (shade, 128, 255 - shade)).save(file, "JPEG")
    return file.getvalue()


def overlays(asked):
    """A picture for every path but the last."""
    return {path: thumbnail("y") for path in asked[:-1]}


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
        "choice": choice(classes[0]),
        "history": [
            EpochRow(stage=stage, epoch=i, loss=1 / i, accuracy=0.7, val_loss=1.1 / i, val_accuracy=None)
            for stage, i in [("head", 1), ("head", 2), ("head", 3), ("head", 4), ("top", 1), ("top", 2)]
        ],
        "evaluation": evaluation(rows),
        "predictions": rows,
        "audit": audit(classes, rows.paths),
        "model": ModelSection(
            backbone="nano",
            weights="imagenet",
            licence="MIT",
            head="a linear head",
            image_size=(112, 112),
            fit="squash",
            parameters=1_200_000,
            temperature=1.3,
            threshold=0.6,
        ),
        "thumbnail": thumbnail,
        "overlays": overlays,
        "neighbours": neighbours(classes, rows.paths),
        "fingerprints": {"data": "ab" * 32},
        "seeds": {"seed": 0},
        "config": "images = 'my <images>'\n",
    }
    return Page(**(fields | changes))
