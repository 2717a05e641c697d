r"""What the default recipe of `tlkit finetune` is worth, and what each part of it brings.

    python benchmarks/recipe.py --data FOLDER --weights mobilenetv2_0.35_224_no_top.h5 --rows rows.jsonl
    python benchmarks/recipe.py --data FOLDER --rows rows.jsonl --print     # the tables again, of what there is
    python benchmarks/recipe.py --data FOLDER --weights FILE --sets hymenoptera --recipes probe,default --seeds 0,1

FOLDER holds one folder of images for each set. A row is (set, recipe, seed): it runs in a process of its own and is
appended to a file of JSON lines once it is finished. Rows that are there are not run again, so that hours of work
survive an interruption and come from as many calls as it takes; rows of other flags count as other rows. With
`--executor ray:HOST:6379` rows run on the workers of a Ray cluster, several at a time; FOLDER must be there on every node.

The images: a set's own `val` folder is its test split (hymenoptera); elsewhere tlkit's own split holds out 20 % of each
class by content with the row's seed, whole groups where `GROUPS` has a pattern. `SET@N` keeps N training images of each
class, drawn by content with the seed, and the whole test split. All recipes of a (set, seed) are tested on the same
images and may learn from the same others: the standard recipes (benchmarks/standard_recipes.py) train on all of them,
tlkit takes its validation images out of them.

Seconds are wall time of the whole process: imports, and for tlkit everything from an empty store to the written report.

`how-many` runs `tlkit rank --how-many` on half of a set, drawn by content, and holds what it expects from twice as
many images against the accuracy measured with so many of the whole. What `tlkit rank` is worth against the accuracy after
fine-tuning: benchmarks/rank.py.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from measure import machine

GROUPS = {"ckplus48": r"(S\d+)_"}  # faces of one subject stay on one side
HELD_OUT = 0.2
BACKBONE = "mobilenetv2:alpha=0.35"

# What a recipe adds to `tlkit finetune IMAGES --backbone ... --weights ... --seed ... --out ...`. Add rows freely.
RECIPES = {
    "default": [],
    "probe": ["--stages", "head"],
    "minutes-1": ["--minutes", "1"],
    "minutes-2": ["--minutes", "2"],
    "minutes-3": ["--minutes", "3"],
    "minutes-8": ["--minutes", "8"],
    "balance-none": ["--balance", "none"],
    "balance-weights": ["--balance", "weights"],
    "balance-sample": ["--balance", "sample"],
    "balance-logit-adjust": ["--balance", "logit-adjust"],
    "balance-auto": ["--balance", "auto"],
}
# The default with one part off, or with another in its place or on top.
ABLATIONS = {
    "gradient centralization": ["--centralize", "on"],
    "no gradient centralization": ["--centralize", "off"],
    "no label smoothing": ["--label-smoothing", "0"],
    "no augmentation": ["--augment", "none"],
    "no flip": ["--no-flip"],
    "no weight decay": ["--weight-decay", "0"],
    "one view": ["--views", "1"],
    "all instead of top": ["--stages", "head,all"],
    "BatchNorm learns": ["--batchnorm", "train"],
    "rates decaying by block": ["--layer-decay", "0.85"],
    "averaged weights": ["--ema", "0.99"],
    "mixup": ["--mix", "mixup"],
    "accumulated gradients": ["--batch-size", "8", "--accumulate", "4"],
    "bfloat16": ["--precision", "bfloat16"],
}
ALSO: list[str] = []  # flags of every row of tlkit, as --also has them
STANDARD = ("tutorial", "guide")  # those of benchmarks/standard_recipes.py
HOW_MANY = "how-many"

MAIN_SETS = ("hymenoptera", "flowers-small", "sign-digits", "magnetic-tile", "ckplus48")
SOME_SETS = ("hymenoptera", "flowers-small", "magnetic-tile")
FEW_SETS = tuple(f"{name}@{count}" for name in ("hymenoptera", "flowers-small", "sign-digits") for count in (5, 20))

Row = dict[str, Any]


# -- images ------------------------------------------------------------------------------------


def write_images(data: Path, name: str, seed: int, into: Path) -> int:
    """`into/images.csv`, and links in `into/train` and `into/val`, the held-out images. Returns how many are held out."""
    from tlkit.data.dataset import UNASSIGNED
    from tlkit.data.scan import scan
    from tlkit.data.split import order_keys, split

    folder, _, few = name.partition("@")
    dataset = scan(data / folder, group_by=GROUPS.get(folder))
    own = (dataset.given != UNASSIGNED).any()
    held = (dataset.given if own else split(dataset, val=HELD_OUT, test=0.0, seed=seed).codes) > 0
    rows = np.argsort(order_keys(dataset, np.arange(len(dataset)), seed), kind="stable")
    taken = [rows[held[rows]]]
    for label in range(len(dataset.classes)):
        learnt = rows[~held[rows] & (dataset.labels[rows] == label)]
        taken.append(learnt[: int(few)] if few else learnt)
    chosen = np.sort(np.concatenate(taken)).tolist()
    write_table(dataset, chosen, into / "images.csv", ["test" if held[i] else "train" for i in chosen])
    for index in chosen:
        file = dataset.file(index)
        link = into / ("val" if held[index] else "train") / dataset.label_name(index) / f"{index:06d}{file.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    return int(held.sum())


def write_table(dataset: Any, rows: Sequence[int], path: Path, splits: Sequence[str]) -> None:
    """A table as `tlkit finetune` reads it."""
    groups = dataset.groups or [""] * len(dataset)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split", "group"))
        for index, split in zip(rows, splits, strict=True):
            writer.writerow((dataset.file(index).resolve(), dataset.label_name(index), split, groups[index]))


# -- a row -------------------------------------------------------------------------------------


def run_row(options: argparse.Namespace, name: str, recipe: str, seed: int) -> Row:
    """Run one row; what went wrong is a row as well, which the next call tries again."""
    row: Row = {"set": name, "recipe": recipe, "seed": seed, "flags": flags_of(recipe), "backbone": options.backbone}
    with tempfile.TemporaryDirectory() as scratch:
        started, before = time.perf_counter(), processor_seconds()
        try:
            if recipe == HOW_MANY:
                found = how_many(options, name, seed, Path(scratch))
            else:
                held = write_images(options.data, name, seed, Path(scratch))
                found = (standard if recipe in STANDARD else finetune)(options, recipe, seed, Path(scratch))
                found["held_out"] = held
        except subprocess.CalledProcessError as error:
            found = {"error": [" ".join(line.split()) for line in error.stderr.strip().splitlines()[-3:]]}
        row |= {"seconds": time.perf_counter() - started} | found
        row["processor_seconds"] = processor_seconds() - before
    return row | {"code": code(), "load": os.getloadavg()[0], "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def standard(options: argparse.Namespace, recipe: str, seed: int, scratch: Path) -> Row:
    """A standard recipe, as benchmarks/standard_recipes.py runs it."""
    program = [sys.executable, str(Path(__file__).with_name("standard_recipes.py")), str(scratch)]
    (scratch / "images.csv").unlink()  # what remains is a folder of splits
    program += ["--weights", options.weights, "--recipe", recipe, "--seed", str(seed)]
    output, seconds, peak = called(program, {})
    return json.loads(output.splitlines()[-1]) | {"seconds": seconds, "peak_mb": peak}


def finetune(options: argparse.Namespace, recipe: str, seed: int, scratch: Path) -> Row:
    """`tlkit finetune` from an empty store."""
    run = scratch / "run"
    program = [sys.executable, "-m", "tlkit", "finetune", str(scratch / "images.csv"), "--backbone", options.backbone]
    program += [] if options.backbone.endswith(".keras") else ["--weights", options.weights]
    program += ["--image-size", str(options.image_size)] if options.image_size else []
    program += ["--seed", str(seed), "--out", str(run), "--json"]
    cache = str(options.cache or scratch / "cache")
    output, seconds, peak = called([*program, *flags_of(recipe)], {"TLKIT_CACHE": cache})
    metrics = json.loads(output)["metrics"]
    row: Row = {what: metrics["test"][what]["value"] for what in ("accuracy", "macro_f1")}
    row |= {"tested": metrics["test"]["accuracy"]["n"], "seconds": seconds, "peak_mb": peak}
    if "val" in metrics:
        row["validation_accuracy"] = metrics["val"]["accuracy"]["value"]
    row["stages"] = json.loads((run / "run.json").read_text())["stages"]
    if (run / "choice.json").exists():
        row["choice"] = json.loads((run / "choice.json").read_text())
    return row


def how_many(options: argparse.Namespace, name: str, seed: int, scratch: Path) -> Row:
    """What half of a set makes of twice as many images, and what was measured with so many of the whole.

    The curve of the whole ends at 80 % of it. Half of it less a fifth, doubled, is as much.
    """
    from tlkit.data.scan import scan
    from tlkit.ranking.selection import choose

    dataset = scan(options.data / name, group_by=GROUPS.get(name))
    half = choose(dataset, np.arange(len(dataset)), len(dataset) // 2, seed)
    candidate = options.backbone
    if options.weights != "imagenet":
        candidate += ("," if ":" in candidate else ":") + f"weights={options.weights}"
    curves, seconds = [], 0.0
    for part, rows, test in (("whole", range(len(dataset)), "0"), ("half", np.sort(half).tolist(), "0.2")):
        table = scratch / f"{part}.csv"
        write_table(dataset, rows, table, [""] * len(rows))
        program = [sys.executable, "-m", "tlkit", "rank", str(table), "--backbones", candidate, "--how-many", "--json"]
        program += ["--val", "0", "--test", test, "--limit", "1000000", "--seed", str(seed)]
        output, seconds, _ = called([*program, "--out", str(scratch / part)], {"TLKIT_CACHE": str(scratch / "cache")})
        curves.append(json.loads(output)["curve"])
    images, measured = curves[0]["points"][-1]
    if curves[1]["trouble"]:
        return {"trouble": curves[1]["trouble"], "truth": measured["value"], "seconds": seconds}
    expected = next(one for one in curves[1]["forecasts"] if one["times"] == 2)
    truth = {"truth": measured["value"], "truth_images": images}
    return truth | {"expected": expected["accuracy"], "expected_images": expected["images"], "seconds": seconds}


def called(command: list[str], environment: Mapping[str, str]) -> tuple[str, float, float]:
    """Standard output of a process, its seconds, and the most memory it took, in MB."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, output, errors.read())
    return output, time.perf_counter() - started, used.ru_maxrss * 1024 / 1e6


def processor_seconds() -> float:
    """Of all processes that have been waited for: what a row costs, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def flags_of(recipe: str) -> list[str]:
    return [] if recipe in (*STANDARD, HOW_MANY) else [*ALSO, *(RECIPES | ABLATIONS)[recipe]]


def code() -> str:
    """Which state of tlkit's sources made a row."""
    import tlkit

    files = sorted(Path(str(tlkit.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


# -- rows kept ---------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, of those run twice the last; a line that was cut off is left out."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[key(row)] = row
    return list(found.values())


def key(row: Row) -> tuple:
    return row["set"], row["recipe"], row["seed"], tuple(row["flags"]), row["backbone"]


def append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


class Found:
    """Finished rows of the recipes as they are now, by set and recipe, then by seed."""

    def __init__(self, rows: Iterable[Row], backbone: str) -> None:
        self.rows: dict[tuple[str, str], dict[int, Row]] = {}
        self.failed: list[Row] = []
        for row in rows:
            known = row["recipe"] in (*STANDARD, HOW_MANY, *RECIPES, *ABLATIONS)
            if not known or row["flags"] != flags_of(row["recipe"]) or row["backbone"] != backbone:
                continue
            if "error" in row:
                self.failed.append(row)
            else:
                self.rows.setdefault((row["set"], row["recipe"]), {})[row["seed"]] = row

    def sets(self, wanted: Iterable[str], recipes: Iterable[str]) -> list[str]:
        """Those of the sets that have a row of one of the recipes."""
        return [name for name in wanted if any((name, recipe) in self.rows for recipe in recipes)]

    def values(self, name: str, recipe: str, what: str) -> dict[int, float]:
        """One figure of every row, by seed."""
        return {seed: row[what] for seed, row in sorted(self.rows.get((name, recipe), {}).items())}

    def differences(self, name: str, recipe: str, base: str, what: str) -> list[float]:
        """Recipe less base, seed by seed."""
        ours, theirs = self.values(name, recipe, what), self.values(name, base, what)
        return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


# -- tables ------------------------------------------------------------------------------------


def error(values: Sequence[float]) -> float:
    """Standard error of the mean; NaN of a single value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def shown(values: Iterable[float], sign: str = "") -> str:
    """Mean ± standard error."""
    values = list(values)
    if not values:
        return "–"
    spread = f" ± {error(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.4f}{spread}"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join(rows)


def not_below(differences: Sequence[float]) -> str:
    """Whether the mean difference is no further below zero than its standard error."""
    if len(differences) < 2:
        return "one seed does not tell"
    return "yes" if mean(differences) >= -error(differences) else "no"


def quality(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    lines = []
    for name in sets:
        for recipe in recipes:
            right = found.values(name, recipe, "accuracy")
            if right:
                cells = [shown(right.values()), f"{min(right.values()):.4f} to {max(right.values()):.4f}"]
                cells += [shown(found.values(name, recipe, "macro_f1").values())]
                for what in ("seconds", "processor_seconds"):
                    seconds = list(found.values(name, recipe, what).values())
                    cells.append(f"{mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})")
                cells.append(ships(found.rows[name, recipe].values()))
                lines.append((name, recipe, *cells, ", ".join(map(str, right))))
    figures = ("test accuracy", "least to most", "macro-F1", "seconds", "of all cores", "what ships")
    heads = ("set", "recipe", *figures, "seeds")
    held = list(claims(found, sets, recipes))
    return table(heads, lines) + ("\n\n" + table(("claim", "set", "found", "holds"), held) if held else "")


def ships(rows: Iterable[Row]) -> str:
    """How often which kind of weights ships, where there was a choice."""
    made = [row["choice"] for row in rows if "choice" in row]
    kinds = Counter(next(one["kind"] for one in each["candidates"] if one["name"] == each["chosen"]) for each in made)
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def claims(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> Iterable[Sequence[str]]:
    """What the default is meant to reach."""
    for name in sets:
        others = {recipe: found.values(name, recipe, "accuracy") for recipe in recipes if recipe != "default"}
        others = {recipe: right for recipe, right in others.items() if right}
        ours = found.values(name, "default", "accuracy")
        if ours and others:
            best = max(others, key=lambda recipe: mean(others[recipe].values()))
            ahead = found.differences(name, "default", best, "accuracy")
            claim = f"at least as good as the best other ({best}), within one standard error"
            yield claim, name, shown(ahead, "+"), not_below(ahead)
        for against, by in {"hymenoptera": {"tutorial": 0.05}, "flowers-small": {"probe": 0.06}}.get(name, {}).items():
            ahead = found.differences(name, "default", against, "accuracy")
            if ahead:
                yield f"{by:g} above the {against}", name, shown(ahead, "+"), "yes" if mean(ahead) >= by else "no"
        least = {"sign-digits": 0.99, "magnetic-tile": 0.95}.get(name)
        if least and ours:
            yield f"at least {least}", name, shown(ours.values()), "yes" if mean(ours.values()) >= least else "no"
        for recipe in STANDARD:
            times = [found.values(name, one, "seconds").values() for one in ("default", recipe)]
            if all(times):
                share = mean(times[0]) / mean(times[1])
                yield f"less time than the {recipe}", name, f"{share:.2f} of it", "yes" if share < 1 else "no"


def paired(found: Found, sets: Sequence[str], recipes: Sequence[str], base: str, what: str = "accuracy") -> str:
    """Every recipe less the base, seed by seed."""
    lines = []
    for name in sets:
        if (name, base) not in found.rows:
            continue
        lines.append((name, base, shown(found.values(name, base, what).values()), "", "", ""))
        for recipe in recipes:
            ahead = found.differences(name, recipe, base, what)
            if recipe != base and ahead:
                spread = f"{min(ahead):+.4f} to {max(ahead):+.4f}"
                value = shown(found.values(name, recipe, what).values())
                lines.append((name, recipe, value, shown(ahead, "+"), spread, not_below(ahead)))
    heads = ("set", "recipe", what.replace("_", "-"), f"less {base}", "least to most", f"not below {base}")
    return table(heads, lines)


def ablation(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    told = "\n\nA part of the default pays where leaving it out is below zero, another would where adding it is above."
    return paired(found, sets, recipes, "default") + told


def few(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    return paired(found, sets, recipes, "probe")


def balance(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    return "\n\n".join(paired(found, sets, recipes, "balance-none", what) for what in ("macro_f1", "accuracy"))


def minutes(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    lines = []
    for name in sets:
        for recipe in recipes:
            seconds = list(found.values(name, recipe, "seconds").values())
            if seconds:
                promised = float(recipe.removeprefix("minutes-"))
                kept = [each / 60 / promised for each in seconds]
                right = shown(found.values(name, recipe, "accuracy").values())
                actual = f"{mean(seconds) / 60:.2f}"
                lines.append((name, f"{promised:g}", actual, f"{min(kept):.2f} to {max(kept):.2f}", right))
    return table(("set", "minutes promised", "taken", "taken / promised", "test accuracy"), lines)


def forecasts(found: Found, sets: Sequence[str], recipes: Sequence[str]) -> str:
    lines = []
    for name in sets:
        for seed, row in sorted(found.rows[name, HOW_MANY].items()):
            if "trouble" in row:
                lines.append((name, str(seed), "", row["trouble"], f"{row['truth']:.4f}", ""))
                continue
            one, truth = row["expected"], row["truth"]
            expected = f"{one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"
            inside = "yes" if one["low"] <= truth <= one["high"] else "no"
            images = f"{row['expected_images']:,} and {row['truth_images']:,}"
            lines.append((name, str(seed), images, expected, f"{truth:.4f}", inside))
    return table(("set", "seed", "images", "expected of the half, 95 %", "measured on the whole", "inside"), lines)


@dataclass(frozen=True)
class Table:
    """Rows that belong together, and how they are shown."""

    title: str
    sets: tuple[str, ...]
    recipes: tuple[str, ...]
    show: Callable[[Found, Sequence[str], Sequence[str]], str]


BALANCES = tuple(recipe for recipe in RECIPES if recipe.startswith("balance-"))
TABLES = {
    "quality": Table(
        "Standard recipes, probe, default", MAIN_SETS, (*STANDARD, "probe", "default", "minutes-2"), quality
    ),
    "ablation": Table("The default with one part changed", SOME_SETS, ("default", "probe", *ABLATIONS), ablation),
    "few": Table("Few images of each class", FEW_SETS, ("probe", "default"), few),
    "balance": Table("Imbalance", ("magnetic-tile",), BALANCES, balance),
    "minutes": Table("Minutes", ("flowers-small", "sign-digits"), ("minutes-1", "minutes-3", "minutes-8"), minutes),
    "how-many": Table("What twice as many images bring", ("flowers-small",), (HOW_MANY,), forecasts),
}


def tables(rows: list[Row], names: Sequence[str], asked: argparse.Namespace) -> str:
    """Every table that has a row, and what did not come about."""
    found, parts, shown_of = Found(rows, asked.backbone), [], set()
    for name in names:
        one = TABLES[name]
        recipes = [recipe for recipe in one.recipes if recipe in (asked.recipes or one.recipes)]
        sets = found.sets(asked.sets or one.sets, recipes)
        shown_of |= {(row["set"], row["recipe"]) for row in rows if row["recipe"] in recipes and row["set"] in sets}
        if sets and recipes:
            parts.append(f"### {one.title}\n\n{one.show(found, sets, recipes)}")
    told = "failed: {set}, {recipe}, seed {seed}: {error}"
    failed = (row for row in found.failed if not asked.recipes or row["recipe"] in asked.recipes)
    parts += [told.format(**row | {"error": " ".join(row["error"])}) for row in failed]
    made = {row["code"] for row in rows if (row["set"], row["recipe"]) in shown_of and row["recipe"] not in STANDARD}
    if len(made) > 1:
        parts.append(f"WARNING: {len(made)} states of tlkit's sources made these rows.")
    return "\n\n".join(parts)


# -- the program -------------------------------------------------------------------------------


def wanted(asked: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, str, int]]:
    """(set, recipe, seed) of every row, seed by seed so that an interrupted run has a bit of everything."""
    pairs: dict[tuple[str, str], None] = {}
    for name in names:
        for one in asked.sets or TABLES[name].sets:
            pairs |= dict.fromkeys((one, recipe) for recipe in asked.recipes or TABLES[name].recipes)
    return [(one, recipe, seed) for seed in asked.seeds for one, recipe in pairs]


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds a folder for each set")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--backbone", default=BACKBONE, help="of tlkit; the standard recipes know one alone")
    parser.add_argument("--image-size", type=int, help="that of the network unless given")
    parser.add_argument("--cache", type=Path, help="a store for all rows; without, each begins with an empty one")
    parser.add_argument("--table", choices=TABLES, action="append", help="rows of this table; again for more; all")
    parser.add_argument("--sets", type=listed, help="folders, comma-separated, NAME or NAME@IMAGES; those of the table")
    parser.add_argument("--recipes", type=listed, help="comma-separated; those of the table")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in listed(text)], default=list(range(5)))
    parser.add_argument("--rows", type=Path, default=Path("recipe-rows.jsonl"), help="where finished rows are kept")
    parser.add_argument("--print", action="store_true", help="run nothing, print the tables of the rows there are")
    parser.add_argument("--also", default="", help="flags for every row of tlkit, such as '--epochs 10'")
    parser.add_argument(
        "--executor", default="here", help="here, or ray[:ADDRESS]: a row to each worker of the cluster"
    )
    asked = parser.parse_args()
    ALSO.extend(shlex.split(asked.also))
    unknown = set(asked.recipes or ()) - {*STANDARD, HOW_MANY, *RECIPES, *ABLATIONS}
    if unknown:
        parser.error(f"unknown recipes {sorted(unknown)}; known: {[*STANDARD, HOW_MANY, *RECIPES, *ABLATIONS]}")
    names = asked.table or list(TABLES)
    rows = [] if asked.print else wanted(asked, names)
    absent = [name for name in dict.fromkeys(row[0] for row in rows) if not (asked.data / name.split("@")[0]).is_dir()]
    if absent:
        parser.error(f"--data {asked.data} has no folder {', '.join(absent)}")
    carry_out(asked, rows)
    print(tables(read_rows(asked.rows), names, asked) + "\n\n" + machine())


def carry_out(asked: argparse.Namespace, rows: Sequence[tuple[str, str, int]]) -> None:
    """Run the rows that are not there yet, by the executor that was asked for; each is kept as soon as it is finished."""
    from tlkit.base.story import PlainStory
    from tlkit.extraction.executors import opened

    finished = {key(row) for row in read_rows(asked.rows) if "error" not in row}
    left = [one for one in rows if (*one, tuple(flags_of(one[1])), asked.backbone) not in finished]
    with opened(asked.executor) as executor:
        work, named = partial(of_one, asked), "{0[0]}, {0[1]}, seed {0[2]}".format
        for number, (place, row) in enumerate(executor.each(work, left, PlainStory(), named), 1):
            append(asked.rows, row)
            said = " ".join(row["error"]) if "error" in row else told(row)
            print(f"{number}/{len(left)} {named(left[place])}: {said}", file=sys.stderr, flush=True)


def of_one(asked: argparse.Namespace, one: tuple[str, str, int]) -> Row:
    return run_row(asked, *one)


def told(row: Row) -> str:
    shown_of = {"accuracy": "accuracy {:.4f}", "macro_f1": "macro-F1 {:.4f}", "truth": "truth {:.4f}"}
    parts = [text.format(row[name]) for name, text in shown_of.items() if name in row]
    if row.get("tested", row.get("held_out")) != row.get("held_out"):
        parts.append(f"WARNING: tested on {row['tested']} images, {row['held_out']} are held out")
    return ", ".join([*parts, f"{row['seconds']:.0f} s"])


if __name__ == "__main__":
    main()
