r"""Pairs of what `tlkit rank` sees before training and the test accuracy after fine-tuning; the prediction fitted to them.

    python benchmarks/ranked_pairs.py measure --data FOLDER --weights FILE --files a.keras b.keras --rows pairs.jsonl
    python benchmarks/ranked_pairs.py fit --rows pairs.jsonl

`measure` appends a line to a file for every ranking and every fine-tuning, and does not repeat what is there: it can be
interrupted, and `--most N` stops after N. Sets are those of recipe.py (`NAME@N`: N training images of each class); a ranking
sees the images that fine-tuning may learn from, never the test split.

`fit` prints the coefficients of `tlkit/ranking/predicted.py`, and how well sets are predicted that took no part in a fit:
every set by the others.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import recipe
from scipy.special import expit
from scipy.stats import spearmanr

from tlkit.options.obtain import Wanted
from tlkit.ranking import predicted

SMALL = "mobilenetv2:alpha=0.35"
SETS = ("hymenoptera", "sign-digits@40", "ckplus48@40")
Row = dict[str, Any]


def candidates(asked: argparse.Namespace) -> dict[str, Wanted]:
    """Short name -> candidate."""
    given = {f"mobilenetv2-0.35 at {side}": Wanted(SMALL, side, asked.weights) for side in (96, 160, 224)}
    files = {f"{Path(file).stem} at {asked.side}": Wanted(file, asked.side) for file in asked.files}
    return {**given, "nano": Wanted("nano"), **files}


# -- measuring ---------------------------------------------------------------------------------


def rank(asked: argparse.Namespace, images: str, seed: int, scratch: str) -> Row:
    """What every candidate's features say of the images that may be learned from."""
    from tlkit.options.commands import RankConfig
    from tlkit.pipelines import rank as pipeline

    every = candidates(asked)
    names = tuple(one.name for one in every.values())
    found = pipeline.run(RankConfig(images=images, backbones=names, seed=seed, out=f"{scratch}/rank"))
    by_name = {one["name"]: one for one in found["candidates"]}
    kept = ("accuracy", "logme", "explained", "parameters", "features", "milliseconds")
    scores = {short: {each: by_name[one.name][each] for each in kept} for short, one in every.items()}
    return {"scores": scores, "images": found["images"], "classes": len(found["classes"])}


def finetune(asked: argparse.Namespace, images: str, seed: int, short: str, scratch: str) -> Row:
    """Test accuracy after fine-tuning, and which images of the test split were right."""
    from tlkit.options.commands import FinetuneConfig
    from tlkit.pipelines import finetune as pipeline

    one = candidates(asked)[short]
    what = {"backbone": one.backbone, "weights": one.weights, "image_size": one.image_size}
    config = FinetuneConfig(
        images=images, **what, epochs=asked.epochs, views=asked.views, seed=seed, out=f"{scratch}/run"
    )
    found = pipeline.run(config)["metrics"]["test"]["accuracy"]["value"]
    with next(Path(scratch, "run").rglob("predictions.csv")).open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    right = "".join(str(int(row["label"] == row["predicted"])) for row in sorted(rows, key=lambda row: row["path"]))
    if not right or abs(right.count("1") / len(right) - found) > 1e-6:
        raise SystemExit(f"predictions.csv has {right.count('1')} of {len(right)} right, metrics {found}")
    return {"tuned": found, "right": right}


def measure(asked: argparse.Namespace) -> None:
    left, cut = asked.most, {"epochs": list(asked.epochs), "views": asked.views}
    for seed in asked.seeds:
        for name in asked.sets:
            for short in ("", *candidates(asked)):
                key = {"set": name, "seed": seed, "candidate": short, **(cut if short else {"side": asked.side})}
                if left == 0:
                    return
                if any(all(row.get(field) == value for field, value in key.items()) for row in read(asked.rows)):
                    continue
                started, used = time.perf_counter(), time.process_time()
                with tempfile.TemporaryDirectory() as scratch:
                    os.environ["TLKIT_CACHE"] = f"{scratch}/cache"
                    recipe.write_images(asked.data, name, seed, Path(scratch))
                    images = f"{scratch}/images.csv"
                    found = (
                        finetune(asked, images, seed, short, scratch) if short else rank(asked, images, seed, scratch)
                    )
                found["seconds"], found["processor_seconds"] = time.perf_counter() - started, time.process_time() - used
                recipe.append(asked.rows, key | found)
                print(key, found.get("tuned", ""), f"{found['processor_seconds']:.0f} s", flush=True)
                left -= 1


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, recipe.listed(text)))


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# -- fitting -----------------------------------------------------------------------------------

PRIOR = np.array([0.0, 1.0, 1.0])  # without pairs, what is expected of one candidate is the ridge accuracy
PRECISION = 0.5  # of the prior, in pairs


@dataclass(frozen=True)
class Pairs:
    """What was measured, a row a pair.

    Args:
        names: (set, seed, candidate).
        inputs: accuracy, explained, parameters, images of the ranking.
        tuned: test accuracy and how many images it is of.
        right: bool (n,) for each, the images of the test split, the same ones in a set and seed; empty where it was not kept.
    """

    names: list[tuple[str, int, str]]
    inputs: list[tuple[float, float, int, int]]
    tuned: list[tuple[float, int]]
    right: list[np.ndarray]

    @property
    def truth(self) -> np.ndarray:
        """float64 (n,): log odds of the test accuracy."""
        return np.array([predicted.log_odds(*one) for one in self.tuned])

    def of(self, keep: np.ndarray) -> "Pairs":
        """Those of a bool (n,)."""
        rows = np.flatnonzero(keep).tolist()
        return Pairs(*([values[i] for i in rows] for values in (self.names, self.inputs, self.tuned, self.right)))

    @property
    def rankings(self) -> list[list[int]]:
        """The rows of each set and seed."""
        found: dict[tuple[str, int], list[int]] = {}
        for row, (name, seed, _) in enumerate(self.names):
            found.setdefault((name, seed), []).append(row)
        return list(found.values())

    @property
    def terms(self) -> np.ndarray:
        """float64 (n, 3): what the weights multiply."""
        made = np.empty((len(self.names), 3))
        for rows in self.rankings:
            accuracies, explained, _, images = zip(*(self.inputs[row] for row in rows), strict=True)
            made[rows] = predicted.terms(accuracies, explained, images[0])
        return made


def pairs(rows: list[Row]) -> Pairs:
    scores: dict[tuple[str, int], Row] = {}
    for row in rows:
        if not row["candidate"]:
            known = scores.setdefault((row["set"], row["seed"]), {"images": row["images"], "scores": {}})
            known["scores"] |= row["scores"]
    found = Pairs([], [], [], [])
    for row in sorted(rows, key=lambda row: (row["set"], row["seed"])):
        ranking = scores.get((row["set"], row["seed"]))
        if not row["candidate"] or not ranking:
            continue
        score = ranking["scores"][row["candidate"]]
        found.names.append((row["set"], row["seed"], row["candidate"]))
        found.inputs.append((score["accuracy"]["value"], score["explained"], score["parameters"], ranking["images"]))
        right = np.array(list(row.get("right", "")), int) == 1
        found.right.append(right)
        found.tuned.append((row["tuned"], len(right) or row["tested"]))
    return found


def solve(found: Pairs) -> np.ndarray:
    """Least squares on log odds, drawn a little towards the ridge accuracy."""
    made = found.terms
    gram = made.T @ made + PRECISION * np.eye(len(PRIOR))
    return np.linalg.solve(gram, made.T @ found.truth + PRECISION * PRIOR)


def left_out(found: Pairs) -> np.ndarray:
    """(n,) log odds predicted for every pair by a fit to the other sets."""
    sets, said = np.array([name for name, _, _ in found.names]), np.empty(len(found.names))
    for name in np.unique(sets):
        here = sets == name
        said[here] = found.of(here).terms @ solve(found.of(~here))
    return said


def fit(asked: argparse.Namespace) -> None:
    found = pairs(read(asked.rows))
    said, sets = left_out(found), {name for name, _, _ in found.names}
    error = float(np.sqrt(np.mean((said - found.truth) ** 2)))
    weights = ", ".join(f"{one:.4f}" for one in solve(found))
    print(f"FITTED = Fit(weights=({weights}), error={error:.4f}, sets={len(sets)}, pairs={len(said)})\n")
    print(f"| set | seed | candidate | ridge | explained | parameters | predicted | fine-tuned |\n{'|---' * 8}|")
    for (name, seed, short), one, value, (tuned, _) in zip(found.names, found.inputs, said, found.tuned, strict=True):
        accuracy, explained, parameters, _ = one
        figures = f"{accuracy:.3f} | {explained:.3f} | {parameters:,} | {expit(value):.3f} | {tuned:.3f}"
        print(f"| {name} | {seed} | {short} | {figures} |")
    claims(found, said)


def standard_error(found: Pairs, one: int, other: int) -> float:
    """Of the difference of two test accuracies on the same images; of the one alone where images are not known."""
    if len(found.right[one]) and one != other:
        apart = found.right[one].astype(float) - found.right[other]
        return float(apart.std(ddof=1) / np.sqrt(len(apart)))
    share, count = found.tuned[one]
    return float(np.sqrt(share * (1 - share) / count))


def claims(found: Pairs, said: np.ndarray) -> None:
    """Of every set and seed: is the recommended within one standard error of the best, and does the order hold."""
    print(
        "\n| set | seed | recommended | its accuracy | the best | its accuracy | behind | one standard error | within |"
    )
    print("|---" * 9 + "|")
    orders: dict[str, list[float]] = {}
    for here in found.rankings:
        name, seed, _ = found.names[here[0]]
        accuracies = [found.tuned[i][0] for i in here]
        chosen, best = max(here, key=lambda i: said[i]), max(here, key=lambda i: found.tuned[i][0])
        behind, error = found.tuned[best][0] - found.tuned[chosen][0], standard_error(found, best, chosen)
        cells = [name, str(seed), found.names[chosen][2], f"{found.tuned[chosen][0]:.3f}", found.names[best][2]]
        cells += [f"{found.tuned[best][0]:.3f}", f"{behind:.3f}", f"{error:.3f}", "yes" if behind <= error else "no"]
        print("| " + " | ".join(cells) + " |")
        orders.setdefault(name, []).append(float(spearmanr([said[i] for i in here], accuracies).statistic))
    for name, values in orders.items():
        print(f"\n{name}: Spearman of predicted against measured {', '.join(f'{one:.2f}' for one in values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "fit"))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder that holds a folder for each set")
    parser.add_argument("--weights", help="ImageNet weights of MobileNetV2-0.35, 224 px, no top")
    parser.add_argument("--files", nargs="*", default=[], help="more candidates, .keras")
    parser.add_argument("--side", type=int, default=224, help="of the images for those")
    parser.add_argument("--sets", type=recipe.listed, default=SETS)
    parser.add_argument("--seeds", type=numbers, default=(0,))
    parser.add_argument("--epochs", type=numbers, default=(20, 8), help="at most, of the head and of the last blocks")
    parser.add_argument("--views", type=int, default=4, help="stored views of a training image")
    parser.add_argument("--most", type=int, default=-1, help="rows to add, at most")
    asked = parser.parse_args()
    (measure if asked.what == "measure" else fit)(asked)


if __name__ == "__main__":
    main()
