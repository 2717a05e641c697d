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
import sys
import tempfile
from pathlib import Path
from typing import Any

import recipe

SMALL = "mobilenetv2:alpha=0.35"
SETS = ("hymenoptera", "sign-digits@40", "ckplus48@40")
Row = dict[str, Any]


def candidates(asked: argparse.Namespace) -> dict[str, tuple[str, int | None, str]]:
    """Short name -> (backbone, side, weights)."""
    given = {f"mobilenetv2-0.35 at {side}": (SMALL, side, asked.weights) for side in (96, 160, 224)}
    files = {f"{Path(file).stem} at {asked.side}": (file, asked.side, "imagenet") for file in asked.files}
    return {**given, "nano": ("nano", None, "imagenet"), **files}


def flags(one: tuple[str, int | None, str]) -> list[str]:
    backbone, side, weights = one
    size = ["--image-size", str(side)] if side else []
    return ["--backbone", backbone, *size, *(["--weights", weights] if weights != "imagenet" else [])]


def typed(one: tuple[str, int | None, str]) -> str:
    """As `--backbones` takes it."""
    backbone, side, weights = one
    own = ([f"size={side}"] if side else []) + ([f"weights={weights}"] if weights != "imagenet" else [])
    return backbone + ("," if ":" in backbone else ":") * bool(own) + ",".join(own)


# -- measuring ---------------------------------------------------------------------------------


def rank(asked: argparse.Namespace, name: str, seed: int) -> Row:
    """What every candidate's features say of the images that may be learned from."""
    with tempfile.TemporaryDirectory() as scratch:
        recipe.write_images(asked.data, name, seed, Path(scratch))
        every = candidates(asked)
        program = [sys.executable, "-m", "tlkit", "rank", f"{scratch}/images.csv", "--seed", str(seed), "--json"]
        program += ["--backbones", ",".join(map(typed, every.values())), "--out", f"{scratch}/rank"]
        output, seconds, _ = recipe.called(program, {"TLKIT_CACHE": f"{scratch}/cache"})
    found = json.loads(output)
    by_name = {one["name"]: one for one in found["candidates"]}
    kept = ("accuracy", "logme", "parameters", "features", "milliseconds")
    scores = {short: {each: by_name[typed(one)][each] for each in kept} for short, one in every.items()}
    return {"scores": scores, "images": found["images"], "classes": len(found["classes"]), "seconds": seconds}


def finetune(asked: argparse.Namespace, name: str, seed: int, short: str) -> Row:
    """Test accuracy after fine-tuning, and which images of the test split were right."""
    with tempfile.TemporaryDirectory() as scratch:
        recipe.write_images(asked.data, name, seed, Path(scratch))
        program = [sys.executable, "-m", "tlkit", "finetune", f"{scratch}/images.csv", "--seed", str(seed), "--json"]
        program += [*flags(candidates(asked)[short]), *asked.also.split(), "--out", f"{scratch}/run"]
        output, seconds, _ = recipe.called(program, {"TLKIT_CACHE": f"{scratch}/cache"})
        with next(Path(scratch, "run").rglob("predictions.csv")).open() as file:
            answers = sorted((row["path"], row["label"] == row["predicted"]) for row in csv.DictReader(file))
    found = json.loads(output)["metrics"]["test"]["accuracy"]
    right = "".join(str(int(one)) for _, one in answers)
    return {"tuned": found["value"], "right": right, "seconds": seconds}


def measure(asked: argparse.Namespace) -> None:
    left = asked.most
    for seed in asked.seeds:
        for name in asked.sets:
            for short in ("", *candidates(asked)):
                key = {"set": name, "seed": seed, "candidate": short, "also": asked.also}
                if left == 0:
                    return
                if any(all(row[field] == value for field, value in key.items()) for row in read(asked.rows)):
                    continue
                before = recipe.processor_seconds()
                found = finetune(asked, name, seed, short) if short else rank(asked, name, seed)
                found["processor_seconds"] = recipe.processor_seconds() - before
                recipe.append(asked.rows, key | found)
                print(key, found.get("tuned", ""), f"{found['processor_seconds']:.0f} s", flush=True)
                left -= 1


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure",))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder that holds a folder for each set")
    parser.add_argument("--weights", help="ImageNet weights of MobileNetV2-0.35, 224 px, no top")
    parser.add_argument("--files", nargs="*", default=[], help="more candidates, .keras")
    parser.add_argument("--side", type=int, default=224, help="of the images for those")
    parser.add_argument("--sets", type=recipe.listed, default=SETS)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in recipe.listed(text)], default=[0])
    parser.add_argument("--also", default="", help="flags for every fine-tuning, such as '--epochs 10'")
    parser.add_argument("--most", type=int, default=-1, help="rows to add, at most")
    asked = parser.parse_args()
    measure(asked)


if __name__ == "__main__":
    main()
