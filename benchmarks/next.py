"""Labels needed with `tlkit next` against random choice, on stored features.

    tlkit features flowers-small --backbone FILE.keras --image-size 112 --out flowers-small.npz      # and so on
    python benchmarks/next.py flowers-small.npz sign-digits.npz magnetic-tile.npz ckplus48.npz

Features are 128 principal components of those in the tables, which need no label. Every draw: 80 % of the images that are not in the test split, of which labels are asked for in rounds, by
`labelling.suggest` or at random, ten, twenty, thirty, fifty, then fifty more each time; a linear head (inverse penalty 0.01) learns from those labelled so far, and is the
classifier of the next round. The full accuracy is that of the same head with every label. What is
given is the number of labels at which the mean curve of all draws first reaches 95 % of it, interpolated between rounds, with
the standard error of the ratio (bootstrap over draws, both ways on the same ones). What was chosen by looking at some draws
is measured on others with `--first`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from tlkit.classifier.answers import softmax
from tlkit.labelling.suggest import suggest
from tlkit.training.probe import fit_probe

ROUNDS = (10, 20, 30, *range(50, 1051, 50))  # labels after each: first a few, then as many as `--count` is unless given
ENOUGH = 0.95
COMPONENTS = 128
Images = tuple[np.ndarray, np.ndarray]  # features (N, C), labels (N,)


def head(features: np.ndarray, labels: np.ndarray, classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Features to probabilities (n, K); classes without a label yet have none."""
    known = np.unique(labels)
    if len(known) == 1:
        return lambda other: np.tile(np.eye(classes)[known[0]], (len(other), 1))
    place = np.searchsorted(known, labels)
    probe = fit_probe([features], place, units=np.arange(len(place)), strength=1e-2)

    def chances(other: np.ndarray) -> np.ndarray:
        found = np.zeros((len(other), classes))
        found[:, known] = softmax(other @ probe.kernel + probe.bias)
        return found

    return chances


def curve(pool: Images, test: Images, classes: int, guided: bool, seed: int) -> list[float]:
    """Accuracy on the test images after each round of labels."""
    features, labels = pool
    labelled = np.zeros(len(labels), bool)
    order = np.random.default_rng((seed, 7)).permutation(len(labels))
    chances, reached = None, []
    for wanted in ROUNDS:
        more = max(0, min(wanted, len(labels)) - int(labelled.sum()))
        rows = np.empty(0, np.int64)
        if guided and more:
            rows = suggest(features, labelled, count=more, chances=chances, seed=seed).rows
        others = order[~labelled[order] & ~np.isin(order, rows)]
        labelled[np.concatenate([rows, others[: more - len(rows)]])] = True
        said = head(features[labelled], labels[labelled], classes)
        chances = said(features) if guided and len(np.unique(labels[labelled])) > 1 else None
        reached.append(accuracy(said, test))
    return reached


def accuracy(said: Callable[[np.ndarray], np.ndarray], test: Images) -> float:
    return float((said(test[0]).argmax(axis=1) == test[1]).mean())


def needed(curves: np.ndarray, goals: np.ndarray) -> float:
    """Labels at which the mean of curves (draws, rounds), over their goals (draws,), first reaches 1; NaN where never."""
    mean = np.maximum.accumulate((curves / goals[:, None]).mean(axis=0))
    return float(np.exp(np.interp(1, mean, np.log(ROUNDS)))) if mean[-1] >= 1 else float("nan")


def measure(file: Path, draws: int, first: int) -> str:
    table = np.load(file)
    classes, labels = np.unique(table["label"], return_inverse=True)
    held = table["split"] == "test"
    features = PCA(COMPONENTS, random_state=0).fit(table["features"][~held]).transform(table["features"])
    test, found, full = (features[held], labels[held]), {True: [], False: []}, []
    for seed in range(first, first + draws):
        random = np.random.default_rng(seed)
        rows = random.permutation(np.flatnonzero(~held))[: int(0.8 * (~held).sum())]
        pool = features[rows], labels[rows]
        full.append(accuracy(head(*pool, len(classes)), test))
        for guided, curves in found.items():
            curves.append(curve(pool, test, len(classes), guided, seed))
    goals, with_next, plain = ENOUGH * np.array(full), np.array(found[True]), np.array(found[False])
    again = np.random.default_rng(0).integers(draws, size=(1000, draws))
    ratios = [needed(with_next[at], goals[at]) / needed(plain[at], goals[at]) for at in again]
    counts = [needed(curves, goals) for curves in (plain, with_next)]
    area = (with_next - plain).mean(axis=1)
    return (
        f"| {file.stem} | {len(rows)} | {np.mean(full):.3f} | {counts[0]:.0f} | {counts[1]:.0f} | "
        f"{counts[1] / counts[0]:.2f} ± {np.nanstd(ratios):.2f} | "
        f"{100 * area.mean():+.1f} ± {100 * area.std(ddof=1) / np.sqrt(draws):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    options = parser.parse_args()
    print(
        "| set | pool | full accuracy | labels at random | with `next` | ratio | points of accuracy gained, mean of rounds |"
    )
    print("|---|---|---|---|---|---|---|")
    for file in options.tables:
        print(measure(file, options.draws, options.first), flush=True)


if __name__ == "__main__":
    main()
