r"""Wall time of the default `tlkit finetune` against an earlier state of tlkit, and what its plan said of each stage.

    python benchmarks/default_time.py --data FOLDER --before OTHER/.venv/bin/python --seeds 0,1,2,3,4
    python benchmarks/default_time.py --data FOLDER --sets hymenoptera --seeds 0      # this state alone

FOLDER holds a folder of images for each set; splits are those of `benchmarks/recipe.py`. Each run is a process of its own
from an empty store to the written report, both states in turn. A stage's stated seconds are those of the plan in run.json, after
the trial of its rate where there is one, and for as many epochs as were trained where it ended early; the taken ones are the sum of its
epochs in history.csv, validation and checkpoints included. What extraction took is what the run says of it. Wall time means something
alone on the machine; processor time of all cores stands beside it.
"""

import argparse
import csv
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import machine
from recipe import BACKBONE, MAIN_SETS, called, listed, processor_seconds, write_images

Run = dict[str, Any]


def finetune(python: str, backbone: str, seed: int, scratch: Path) -> Run:
    """One run of the default by an interpreter whose tlkit it is (-P: not the one in this folder), on `scratch/images.csv`."""
    run, before = scratch / "run", processor_seconds()
    program = [python, "-P", "-m", "tlkit", "finetune", str(scratch / "images.csv"), "--backbone", backbone]
    program += ["--seed", str(seed), "--out", str(run), "--overwrite", "--json"]
    program = ["sh", "-c", f'exec "$@" 2> {scratch / "story.txt"}', "sh", *program]
    with tempfile.TemporaryDirectory() as cache:
        output, seconds, _ = called(program, {"TLKIT_CACHE": cache})
    accuracy = json.loads(output)["metrics"]["test"]["accuracy"]["value"]
    plan = json.loads((run / "run.json").read_text())["plan"]
    extracted = re.search(r"extracted \d+ images in ([\d.]+) s", (scratch / "story.txt").read_text())
    taken = {"extraction": float(extracted[1])} if extracted else {}
    epochs: dict[str, str] = {}
    with (run / "history.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            taken[row["stage"]] = taken.get(row["stage"], 0.0) + float(row["seconds"] or 0)
            epochs[row["stage"]] = row["epoch"]
    stated = {"extraction": plan["extraction_seconds"]}
    for stage in plan["stages"]:
        trained = int(epochs.get(stage["name"], 0)) / stage["epochs"] if stage["method"] == "gradient" else 1
        stated[stage["name"]] = stage["seconds"] * trained
    shipped = json.loads((run / "choice.json").read_text())["chosen"]
    used = processor_seconds() - before
    facts = {"seconds": seconds, "processor": used, "accuracy": accuracy, "epochs": epochs.get("top"), "ships": shipped}
    return facts | {"stated": stated, "taken": taken}


def told(name: str, seed: int, state: str, run: Run) -> str:
    """A row of the table."""
    held = ", ".join(f"{stage} {run['stated'][stage]:.0f} / {seconds:.0f} s" for stage, seconds in run["taken"].items())
    figures = f"{run['seconds']:.1f} | {run['processor']:.0f} | {run['accuracy']:.4f}"
    return f"| {name} | {seed} | {state} | {figures} | {run['epochs']} | {run['ships']} | {held} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds a folder for each set")
    parser.add_argument("--before", help="an interpreter that has the earlier state of tlkit")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--sets", type=listed, default=list(MAIN_SETS))
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in listed(text)], default=[0])
    asked = parser.parse_args()
    states = ({"before": asked.before} if asked.before else {}) | {"now": sys.executable}
    found: dict[tuple[str, int], dict[str, Run]] = {}
    print("| set | seed | state | s | processor s | accuracy | epochs | ships | stated / taken |\n" + "|---" * 9 + "|")
    for seed in asked.seeds:
        for name in asked.sets:
            for state, python in states.items():
                with tempfile.TemporaryDirectory() as scratch:
                    write_images(asked.data, name, seed, Path(scratch))
                    run = finetune(python, asked.backbone, seed, Path(scratch))
                found.setdefault((name, seed), {})[state] = run
                print(told(name, seed, state, run), flush=True)
    if asked.before:
        print("\n" + compared(found, asked.sets))
    print("\n" + machine())


def compared(found: dict[tuple[str, int], dict[str, Run]], sets: list[str]) -> str:
    """Now over before, in seconds and processor seconds, and points of accuracy; by set and of the sums."""
    lines = ["| set | seconds | processor seconds | points |", "|---|---|---|---|"]
    for name in (*sets, "sum"):
        rows = [pair for (one, _), pair in found.items() if name in (one, "sum")]
        sums = {
            what: [sum(row[state][what] for row in rows) for state in ("now", "before")]
            for what in ("seconds", "processor", "accuracy")
        }
        ratios = [f"{now / before:.2f}" for now, before in (sums["seconds"], sums["processor"])]
        points = 100 * (sums["accuracy"][0] - sums["accuracy"][1]) / len(rows)
        lines.append(f"| {name} | {ratios[0]} | {ratios[1]} | {points:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
