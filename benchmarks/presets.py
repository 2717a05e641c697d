r"""What each `--preset` costs and gains against the default, on several sets and seeds, as a page.

    python benchmarks/presets.py --data FOLDER --weights FILE --rows rows.jsonl --page benchmarks/results/presets.md
    python benchmarks/presets.py --data FOLDER --rows rows.jsonl --print      # the page again, of the rows there are

A row is (set, preset, seed): `tlkit finetune --preset NAME` in a process of its own, from an empty store to the written
report, tested on the same held-out images for every preset; how is said at the top of benchmarks/recipe.py, which runs
the rows. Rows that are there are not run again. A preset is worth its name where its gain, or what it saves, is more than
chance over sets and seeds: the page says which.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

import recipe
from measure import machine
from recipe import Found, append, error, key, read_rows, run_row, shown, table

from tlkit.options.catalog import PRESETS

SETS = ("hymenoptera", "flowers-small", "sign-digits")
BASE = "preset-default"
ROWS = {f"preset-{name}": ["--preset", name] for name in PRESETS}
recipe.RECIPES.update(ROWS)


def compared(found: Found, sets: Iterable[str]) -> tuple[str, list[str]]:
    """A table of every set and preset, and what its presets are worth over all of them, a sentence each."""
    lines, sentences = [], []
    for name in ROWS:
        gains, costs = [], []
        for folder in sets:
            right = found.values(folder, name, "accuracy")
            if not right:
                continue
            gained = found.differences(folder, name, BASE, "accuracy")
            ours, theirs = (found.values(folder, one, "processor_seconds") for one in (name, BASE))
            ratios = [ours[seed] / theirs[seed] for seed in ours if seed in theirs]
            gains += gained
            costs += ratios
            seconds = found.values(folder, name, "seconds").values()
            cells = [shown(right.values()), shown(gained, "+"), f"{mean(seconds):.0f}"]
            cost = f"{mean(ratios):.2f}" if ratios else "–"
            lines.append((name.removeprefix("preset-"), folder, *cells, cost, ", ".join(map(str, right))))
        if name != BASE and len(gains) > 1:
            sentences.append(verdict(name.removeprefix("preset-"), gains, costs))
    heads = ("preset", "set", "test accuracy", "less the default", "seconds", "times its processor time", "seeds")
    return table(heads, lines), sentences


def verdict(name: str, gains: list[float], costs: list[float]) -> str:
    """What a preset gains and costs over all sets and seeds, and whether that is more than chance."""
    gain, spread, cost = mean(gains), error(gains), mean(costs)
    pays = gain > 2 * spread or (cost < 0.8 and gain > -0.05)
    worth = "supported: it stays" if pays else "NOT supported: its row goes"
    return f"`--preset {name}`: {100 * gain:+.1f} ± {100 * spread:.1f} points in {cost:.2f} of the time; {worth}."


def page(asked: argparse.Namespace) -> str:
    """All of it, as Markdown."""
    rows = [row for row in read_rows(asked.rows) if row["recipe"] in ROWS]
    found = Found(rows, asked.backbone)
    compared_table, sentences = compared(found, asked.sets)
    failed = [f"failed: {row['set']}, {row['recipe']}, seed {row['seed']}: {row['error']}" for row in found.failed]
    states = {row["code"] for row in rows}
    mixed = [f"WARNING: {len(states)} states of tlkit's sources made these rows."] if len(states) > 1 else []
    command = f"`python benchmarks/presets.py --data FOLDER --weights FILE --sets {','.join(asked.sets)}`"
    means = "Means over seeds ± standard error; differences and times against `--preset default`, seed by seed."
    top = ["# Presets", f"{command}, backbone {asked.backbone}. {means}", compared_table]
    return "\n\n".join([*top, *sentences, *failed, *mixed, machine()]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds a folder for each set")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file in Keras's format")
    parser.add_argument("--backbone", default=recipe.BACKBONE)
    parser.add_argument("--sets", type=recipe.listed, default=list(SETS), help="folders, comma-separated")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in recipe.listed(text)], default=[0, 1, 2])
    parser.add_argument("--rows", type=Path, default=Path("preset-rows.jsonl"), help="where finished rows are kept")
    parser.add_argument("--page", type=Path, help="the page to write, besides showing it")
    parser.add_argument("--print", action="store_true", help="run nothing, make the page of the rows there are")
    parser.set_defaults(image_size=None, cache=None)  # each network's own, and an empty store for every row
    asked = parser.parse_args()
    for seed in () if asked.print else asked.seeds:
        for folder in asked.sets:
            for name, flags in ROWS.items():
                wanted = (folder, name, seed, tuple(flags), asked.backbone)
                if not any(key(row) == wanted and "error" not in row for row in read_rows(asked.rows)):
                    append(asked.rows, row := run_row(asked, folder, name, seed))
                    said = " ".join(row["error"]) if "error" in row else recipe.told(row)
                    print(f"{folder}, {name}, seed {seed}: {said}", file=sys.stderr, flush=True)
    text = page(asked)
    if asked.page:
        asked.page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
