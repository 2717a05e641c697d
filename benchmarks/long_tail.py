"""Long tails: every way of `--balance` on the same training images, macro-F1 and balanced accuracy on a balanced test set.

    tlkit features flowers-small --backbone FILE.keras --image-size 112 --out flowers-small.npz      # and so on
    python benchmarks/long_tail.py flowers-small.npz sign-digits.npz magnetic-tile.npz

Of the training split class after class (the largest first) fewer images are kept, the last one a fiftieth of the
first; which, and what class comes where among equals, is drawn by the seed. The test set has as many images of each class, at most 60,
of those that are not learned from. Features are 128 principal components of the training images that were kept. `auto` is what `balance.choose` takes; its gain and
everything else is against `none` on the same images, with the standard error over seeds.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import balanced_accuracy_score, f1_score

from tlkit.training.balance import TAU, choose, choose_strength, solve

WAYS = ("none", "weights", "logit-adjust", "post-hoc", "smote", "gaussian", "gan", "auto")
RATIO, COMPONENTS = 50, 128


def tail(labels: np.ndarray, held: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and a test set with as many of each class."""
    random = np.random.default_rng(seed)
    free = [random.permutation(np.flatnonzero((labels == each) & ~held)) for each in range(labels.max() + 1)]
    order = sorted(random.permutation(len(free)), key=lambda each: -len(free[each]) // 100)
    most, steps = len(free[order[0]]), len(free) - 1
    kept = [free[each][: max(2, round(most * RATIO ** (-place / steps)))] for place, each in enumerate(order)]
    train = np.concatenate(kept)
    others = [np.setdiff1d(np.flatnonzero(labels == each), train) for each in range(len(free))]
    some = min(60, *map(len, others))
    return np.sort(train), np.concatenate([random.permutation(rows)[:some] for rows in others])


def measure(file: Path, seeds: int, timed: dict[str, list[float]]) -> tuple[str, dict[str, np.ndarray]]:
    table = np.load(file)
    labels = np.unique(table["label"], return_inverse=True)[1]
    found, chosen, classes = {way: [] for way in WAYS}, [], int(labels.max()) + 1
    for seed in range(seeds):
        train, test = tail(labels, table["split"] == "test", seed)
        reduced = PCA(min(COMPONENTS, len(train) - 1), random_state=0).fit(table["features"][train])
        known, new = (reduced.transform(table["features"][rows]).astype(np.float32) for rows in (train, test))
        given = {"units": np.arange(len(train)), "seed": seed}
        for way in WAYS:
            started, name, tau = time.perf_counter(), way, TAU
            if way in ("auto", "post-hoc"):
                choice = (choose if way == "auto" else choose_strength)(known, labels[train], classes=classes, **given)
                name, tau = choice.balance, choice.tau
                chosen += [name] if way == "auto" else []
            probe = solve([known], labels[train], balance=name, tau=tau, **given)
            timed.setdefault(way, []).append(time.perf_counter() - started)
            guess = (new @ probe.kernel + probe.bias).argmax(axis=1)
            f1 = f1_score(labels[test], guess, average="macro", zero_division=0)
            found[way].append((f1, balanced_accuracy_score(labels[test], guess)))
    sizes = np.bincount(labels[train])
    about = f"{file.stem}, {sizes.max()} to {sizes.min()}, {len(test)} to test; auto took {', '.join(chosen)}"
    return about, {way: np.array(values) for way, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    timed: dict[str, list[float]] = {}
    for file in options.tables:
        about, found = measure(file, options.seeds, timed)
        print(f"\n{about}\n\n| | macro-F1 | balanced accuracy | points above none, macro-F1 | balanced accuracy |")
        print("|---|---|---|---|---|")
        for way, values in found.items():
            ahead = 100 * (values - found["none"])
            error = ahead.std(axis=0, ddof=1) / np.sqrt(len(ahead))
            gains = [f"{gain:+.1f} ± {each:.1f}" for gain, each in zip(ahead.mean(axis=0), error, strict=True)]
            f1, recall = values.mean(axis=0)
            print(f"| {way} | {f1:.3f} | {recall:.3f} | {' | '.join(gains)} |", flush=True)
    print("\nseconds, mean:", {way: round(float(np.mean(values)), 2) for way, values in timed.items()})


if __name__ == "__main__":
    main()
