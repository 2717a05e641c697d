"""Codes of autoencoders beside principal components of the same width: a probe on them, and what they restore.

    tlkit features flowers-small --backbone FILE.keras --image-size 112 --out flowers-small.npz      # and so on
    python benchmarks/reduce.py flowers-small.npz sign-digits.npz magnetic-tile.npz ckplus48.npz hymenoptera.npz --log reduce.jsonl

Each is fitted on the training split, and the logistic regression (`fit_probe`, its penalty cross-validated) too; what is
measured is measured on the images held out (test, else validation): accuracy, and the share of their variance around the training mean that is
not restored. Seeds: of the training; for all of them another 90 % of the training images. Every fit is a line of --log, and what
stands there is not measured again, so that a long measurement may be stopped and taken up.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from measure import Log

from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.table import TRANSFORMS
from tlkit.training.probe import fit_probe


def once(name: str, width: int, known: tuple, new: tuple, seed: int) -> tuple[float, float, float]:
    """Accuracy, share of the variance lost, seconds."""
    started = time.perf_counter()
    made = TRANSFORMS[name].fit(Rows(known[0]), width, seed)
    seconds = time.perf_counter() - started
    codes = made.apply(new[0])
    lost = ((made.restore(codes) - new[0]) ** 2).sum() / ((known[0].mean(axis=0) - new[0]) ** 2).sum()
    probe = fit_probe([made.apply(known[0])], known[1], units=np.arange(len(known[1])), seed=seed)
    return float(((codes @ probe.kernel + probe.bias).argmax(axis=1) == new[1]).mean()), float(lost), seconds


def measure(file: Path, width: int, seeds: int, log: Log) -> str:
    """A row of the table: each way on one set with one width."""
    table = np.load(file)
    labels = np.unique(table["label"], return_inverse=True)[1]
    features, train = table["features"], np.flatnonzero(table["split"] == "train")
    held = table["split"] == ("test" if "test" in table["split"] else "val")
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in TRANSFORMS}
    for seed in range(seeds):
        rows = np.sort(np.random.default_rng(seed).permutation(train)[: int(0.9 * len(train))])
        known, new = (features[rows], labels[rows]), (features[held], labels[held])
        for name, results in found.items():
            measured = partial(once, name, width, known, new, seed)
            results.append(log.result((file.stem, name, width, seed), measured))
    cells = []
    for name, results in found.items():
        accuracy, lost, seconds = np.array(results).T
        gain = accuracy - np.array(found["pca"])[:, 0]
        error = gain.std(ddof=1) / np.sqrt(seeds)
        against = "" if name == "pca" else f" ({100 * gain.mean():+.1f} ± {100 * error:.1f})"
        cells.append(f"{accuracy.mean():.3f}{against}, {lost.mean():.3f}, {seconds.mean():.1f} s")
    return f"| {file.stem} | {width} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--widths", nargs="+", type=int, default=(8, 16, 32))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--log", type=Path, default=Path("reduce.jsonl"))
    options = parser.parse_args()
    log = Log(options.log)
    print(f"| set | N | {' | '.join(f'{name}: accuracy (points against pca), lost, time' for name in TRANSFORMS)} |")
    print("|---|---|---|---|---|")
    for file in options.tables:
        for width in options.widths:
            print(measure(file, width, options.seeds, log), flush=True)


if __name__ == "__main__":
    main()
