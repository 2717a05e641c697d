"""How often 95 % intervals hold the truth, by simulation: every headline metric, by image and by group.

    python benchmarks/coverage.py --times 1000

Classifiers are drawn with known properties, test sets of n images are drawn from them again and again,
and each interval that `tlkit evaluate` and `tlkit compare` would print is held against the value on
400,000 images (in as many groups as that takes). Needs no images and no network.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tlkit.classifier.answers import Predictions
from tlkit.evaluation.calibration import choose_threshold
from tlkit.evaluation.compare import compare
from tlkit.evaluation.evaluate import evaluate

MANY = 400_000
Draw = Callable[[np.random.Generator, int], Predictions]


def drawing(classes: int, strength: float, *, heat: float = 1.5, each: int = 0, likeness: float = 1.0) -> Draw:
    """A classifier and the images it meets.

    Args:
        classes: K, each half as common again as the next.
        strength: how far the true class stands out; higher is more accurate.
        heat: how much too sure the classifier is; 1 and below is too modest.
        each: images of a group; 0 for images that are independent.
        likeness: how much more the images of some groups stand out than those of others.
    """
    shares = 1.5 ** -np.arange(classes)

    def draw(rng: np.random.Generator, n: int) -> Predictions:
        labels = rng.choice(classes, n, p=shares / shares.sum())
        logits = rng.normal(size=(n, classes))
        groups = np.arange(n) // each if each else None
        easier = 0.0 if groups is None else rng.normal(scale=likeness, size=n // each + 1)[groups]
        logits[np.arange(n), labels] += strength + easier
        return predictions(labels, heat * logits, groups)

    return draw


def predictions(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray | None = None) -> Predictions:
    n = len(labels)
    return Predictions(
        paths=[""] * n,
        sha256=[""] * n,
        labels=labels.astype(np.int32),
        splits=np.full(n, 2, np.int8),
        logits=logits.astype(np.float32),
        classes=tuple(f"class {k}" for k in range(logits.shape[1])),
        groups=None if groups is None else [f"g{code}" for code in groups],
    )


# name -> (how it is drawn, n)
SCENES: dict[str, tuple[Draw, int]] = {
    "3 classes, 150 images": (drawing(3, 2.0), 150),
    "3 classes, 500 images": (drawing(3, 2.0), 500),
    "2 classes, 300 images": (drawing(2, 2.0, heat=2.0), 300),
    "10 classes, 500 images": (drawing(10, 2.5), 500),
    "3 classes, 40 groups of 10": (drawing(3, 2.0, each=10), 400),
}


def metrics(draw: Draw, n: int, times: int) -> dict[str, tuple[int, int]]:
    """Metric -> (intervals that hold the truth, intervals)."""
    known = {
        name: found.value
        for name, found in evaluate(draw(np.random.default_rng(1), MANY)).splits["test"].metrics.items()
    }
    held: dict[str, list[bool]] = defaultdict(list)
    rng = np.random.default_rng(2)
    for _ in range(times):
        for name, found in evaluate(draw(rng, n)).splits["test"].metrics.items():
            truth = known[name]
            if found.low is not None and found.high is not None and truth is not None:
                held[name].append(found.low <= truth <= found.high)
    return {name: (sum(hits), len(hits)) for name, hits in held.items()}


def differences(each: int, n: int, times: int) -> dict[str, tuple[int, int]]:
    """The same for the paired differences of `tlkit compare`, between two classifiers that see the same images."""

    def both(rng: np.random.Generator, count: int) -> tuple[Predictions, Predictions]:
        labels = rng.choice(3, count)
        groups = np.arange(count) // each if each else None
        easier = 0.0 if groups is None else rng.normal(size=count // each + 1)[groups]
        shared = rng.normal(size=(count, 3))
        made = []
        for strength in (2.0, 2.3):
            logits = 0.8 * shared + 0.6 * rng.normal(size=(count, 3))
            logits[np.arange(count), labels] += strength + easier
            made.append(predictions(labels, 1.5 * logits, groups))
        return made[0], made[1]

    def gained(rng: np.random.Generator, count: int) -> Mapping[str, object]:
        first, second = both(rng, count)
        return compare({"first": first, "second": second})[0].differences

    # The truth needs no resamples, and 400,000 images would take many.
    first, second = both(np.random.default_rng(1), MANY)
    hits = (second.predicted == second.labels).astype(float) - (first.predicted == first.labels)
    truth = {"accuracy": hits.mean(), "balanced_accuracy": np.mean([hits[first.labels == k].mean() for k in range(3)])}
    rng, held = np.random.default_rng(2), defaultdict(list)
    for _ in range(times):
        found = gained(rng, n)
        for name, value in truth.items():
            held[f"difference in {name}"].append(found[name].low <= value <= found[name].high)  # type: ignore[attr-defined]
    return {name: (sum(hits), len(hits)) for name, hits in held.items()}


def promises(target: float, n: int, times: int) -> tuple[int, int, float]:
    """(thresholds chosen, of them those whose true precision falls short, mean coverage) of `--target-precision`."""
    rng, chosen, short, coverage = np.random.default_rng(3), 0, 0, 0.0
    many = np.sort(_sure(rng, MANY))[::-1]  # calibrated: the confidence is the chance to be right
    precision = many.cumsum() / np.arange(1, MANY + 1)
    for _ in range(times):
        confidence = _sure(rng, n)
        threshold = choose_threshold(confidence, rng.random(n) < confidence, target)
        if threshold is not None:
            answered = int(np.searchsorted(-many, -threshold, "right"))
            chosen, short, coverage = chosen + 1, short + (precision[answered - 1] < target), coverage + answered / MANY
    return chosen, int(short), coverage / max(1, chosen)


def _sure(rng: np.random.Generator, n: int) -> np.ndarray:
    return 0.3 + 0.7 * rng.beta(8, 1, n)


def table(columns: Mapping[str, Mapping[str, tuple[int, int]]], times: int) -> str:
    """Rows of metrics, columns of scenes; a star where some samples had no interval."""
    names: Sequence[str] = list(dict.fromkeys(name for found in columns.values() for name in found))
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = []
        for found in columns.values():
            hits, count = found.get(name, (0, 0))
            star = f" ({count / times:.0%} have one)" if count < 0.995 * times else ""
            cells.append(f"{hits / count:.3f}{star}" if count else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--tables", default="metrics,differences,thresholds", help="which, comma-separated")
    options = parser.parse_args()
    times, tables = options.times, options.tables.split(",")
    if "metrics" in tables:
        print(table({name: metrics(draw, n, times) for name, (draw, n) in SCENES.items()}, times) + "\n", flush=True)
    if "differences" in tables:
        pairs = {"300 images": differences(0, 300, times), "40 groups of 10": differences(10, 400, times)}
        print(table(pairs, times) + "\n", flush=True)
    if "thresholds" in tables:
        print("| target | validation images | a threshold is found | and its precision falls short | mean coverage |")
        print("|---|---|---|---|---|")
        for target, n in ((0.9, 100), (0.95, 200), (0.95, 600), (0.98, 1000)):
            chosen, short, coverage = promises(target, n, times)
            print(f"| {target} | {n} | {chosen / times:.1%} | {short / times:.1%} | {coverage:.1%} |", flush=True)


if __name__ == "__main__":
    main()
