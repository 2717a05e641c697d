"""Scores that say how unlike the training images an image is: the run's, and what else is simple on stored features.

    tlkit features flowers-small --backbone FILE.keras --image-size 112 --out flowers-small.npz      # and so on
    python benchmarks/unfamiliar.py flowers-small.npz sign-digits.npz magnetic-tile.npz

A class is held out in turn: the scores learn from the training split without it, and its images have to be told from the
images of the other classes in the test split; then all classes are known, and the images of each other set have to be told from
the test split. AUROC; the difference to the distance with its standard error over held-out classes, or over pairs of sets.

    distance    to the 5th nearest training image along 64 directions (Sun et al. 2022), as runs of before measure it
    default     what a run measures: outside of 128 directions, joined with the logits (Wang et al. 2022)
    nearest     the same without the reduction to 64 directions
    pca, ae     error of restoring features from 64 components, or codes
    energy      minus the log of the sum of exponentials of the logits of the probe (Liu et al. 2020)
    vim         residual outside the principal space, scaled to the logits, less that log sum (Wang et al. 2022)
    vim-unit    the same of features divided by their length
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from tlkit.classifier.familiarity import NEIGHBOURS, fit_familiarity, references, unit
from tlkit.extraction.store import Rows
from tlkit.extraction.transforms.autoencoder import Autoencoder
from tlkit.extraction.transforms.components import Components
from tlkit.training.probe import fit_probe

Score = Callable[[np.ndarray], np.ndarray]
Images = tuple[np.ndarray, np.ndarray]  # features (N, C), labels (N,)
WIDTH = 64


def scores(train: Images, held: np.ndarray, seed: int, autoencoder: bool) -> dict[str, Score]:
    """Each score, fitted; `held` are the features of validation images."""
    features, labels = train
    places = np.unique(labels, return_inverse=True)[1]
    probe = fit_probe([features], places, units=np.arange(len(places)), strength=1e-2)
    kept = features[references(places)]
    said = lambda new: new @ probe.kernel + probe.bias  # noqa: E731
    distance, default = fit_familiarity(kept, held), fit_familiarity(kept, held, said(held))
    found = {
        "distance": distance.distance,
        "default": lambda new: default.score(new, said(new)),
        "nearest": nearest(unit(features)),
        "pca": restoring(Components.fit(Rows(unit(features)), min(WIDTH, len(features) // 2), seed)),
        "energy": lambda new: -logsumexp(new @ probe.kernel + probe.bias, axis=1),
        "vim": vim(features, probe.kernel, probe.bias, lambda new: new),
        "vim-unit": vim(features, probe.kernel, probe.bias, unit),
    }
    if autoencoder:
        found["ae"] = restoring(Autoencoder.fit(Rows(unit(features)), WIDTH, seed))
    return found


def nearest(known: np.ndarray) -> Score:
    def score(new: np.ndarray) -> np.ndarray:
        return np.partition(2 - 2 * unit(new) @ known.T, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]

    return score


def restoring(made: Components | Autoencoder) -> Score:
    def score(new: np.ndarray) -> np.ndarray:
        return ((made.restore(made.apply(unit(new))) - unit(new)) ** 2).sum(axis=1)

    return score


def vim(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, seen: Callable) -> Score:
    """Virtual-logit matching; the origin is where all logits are equal to the bias taken away, as in the paper."""
    origin = -np.linalg.pinv(kernel.T) @ bias if seen is not unit else seen(features).mean(axis=0)
    centred = seen(features) - origin
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    width = (
        min(512, len(features) // 4) if features.shape[1] >= 1024 else min(features.shape[1] // 2, len(features) // 4)
    )
    rest = vectors[:, np.argsort(-values)[width:]]
    logits = features @ kernel + bias
    scale = logits.max(axis=1).mean() / np.linalg.norm(centred @ rest, axis=1).mean()

    def score(new: np.ndarray) -> np.ndarray:
        residual = np.linalg.norm((seen(new) - origin) @ rest, axis=1)
        return scale * residual - logsumexp(new @ kernel + bias, axis=1)

    return score


def areas(found: dict[str, Score], familiar: np.ndarray, strange: np.ndarray) -> dict[str, float]:
    truth = np.repeat([0, 1], [len(familiar), len(strange)])
    return {name: roc_auc_score(truth, score(np.concatenate([familiar, strange]))) for name, score in found.items()}


def shown(name: str, rows: list[dict[str, float]]) -> None:
    cells = []
    for score in rows[0]:
        values = np.array([row[score] for row in rows])
        ahead = values - np.array([row["distance"] for row in rows])
        error = ahead.std(ddof=1) / np.sqrt(len(rows))
        against = "" if score == "distance" else f" ({100 * ahead.mean():+.1f} ± {100 * error:.1f})"
        cells.append(f"{score} {values.mean():.3f}{against}")
    print(f"| {name} | {len(rows)} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--no-ae", action="store_true", help="leave the autoencoder out, which takes most of the time")
    options = parser.parse_args()
    tables = {file.stem: dict(np.load(file)) for file in options.tables}
    pairs = []
    for name, table in tables.items():
        labels, features = np.unique(table["label"], return_inverse=True)[1], table["features"]
        split = {part: np.flatnonzero(table["split"] == part) for part in ("train", "val", "test")}

        def learned(keep: np.ndarray, split=split, features=features, labels=labels) -> dict[str, Score]:
            train, val = split["train"][keep[split["train"]]], split["val"][keep[split["val"]]]
            return scores((features[train], labels[train]), features[val], 0, not options.no_ae)

        rows = []
        for label in np.unique(labels):
            keep = labels != label
            rows.append(areas(learned(keep), features[split["test"][keep[split["test"]]]], features[~keep]))
        shown(f"{name}, a class held out", rows)
        everything = learned(np.ones(len(labels), bool))
        others = [other["features"] for stem, other in tables.items() if stem != name]
        pairs += [areas(everything, features[split["test"]], other) for other in others]
    shown("another set", pairs)


if __name__ == "__main__":
    main()
