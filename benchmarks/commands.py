"""How long whole commands take, from the shell, against another checkout of tlkit.

    python benchmarks/commands.py IMAGES --against CHECKOUT [--backbone nano] [--weights FILE]
        [--commands features,again,grown,finetune,predict,rank,audit] [--repeats 5] [--megapixels 12 --count 500]

The two take turns, command after command, each with the tlkit of its own checkout (`python -P`, whatever folder this is run in). Every repeat begins with an empty cache, in which each command finds what the
ones before it of its own checkout left there: `features` an empty store, `again` (features once more) a full one, `grown`
one that lacks 1 % of the images. `predict` answers for the images of IMAGES with the run that `finetune` made. The table
has the seconds of the clock and those of the processor, the children's included.

With --megapixels, photographs of that size are made from the images of IMAGES first (as benchmarks/decode.py does).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measure import machine, ratio
from photographs import enlarged

OURS, THEIRS = "tlkit", "the other"
Seconds = dict[tuple[str, str], list[tuple[float, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--against", type=Path, required=True, help="another checkout of tlkit with its .venv")
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--weights", help="of the backbone; its own default without")
    parser.add_argument("--commands", default="features,again,grown,finetune,predict,rank,audit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as folder:
        images = options.images.resolve()
        if options.megapixels:
            enlarged(sorted(images.rglob("*.jpg")), options.megapixels, options.count, Path(folder))
            images = Path(folder)
        print(table(measured(images, options)))


def measured(images: Path, options: argparse.Namespace) -> Seconds:
    """(wall, processor) seconds of every repeat, by checkout and command."""
    pythons = {OURS: sys.executable, THEIRS: str(options.against.resolve() / ".venv/bin/python")}
    network = ["--backbone", options.backbone] + (["--weights", options.weights] if options.weights else [])
    seconds: Seconds = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            steps = {name: commands(images, Path(folder) / name, network) for name in pythons}
            for rows in zip(*steps.values(), strict=True):
                for (name, python), (command, line) in zip(pythons.items(), rows, strict=True):
                    if command in wanted(options.commands):
                        spent = timed([python, "-P", "-m", "tlkit", *line], Path(folder) / name / "cache")
                        seconds.setdefault((name, command), []).append(spent)
    return seconds


def wanted(chosen: str) -> set[str]:
    """The commands chosen, and those without which they have nothing to go by."""
    names = set(chosen.split(","))
    return (
        names
        | ({"features"} if names & {"again", "grown"} else set())
        | ({"finetune"} if "predict" in names else set())
    )


def commands(images: Path, into: Path, network: list[str]) -> Iterator[tuple[str, list[str]]]:
    """What is timed, in order, as command lines; what a step needs is made when it is reached."""
    into.mkdir()
    most = into / "most"
    link(images, most, lacking=100)
    yield "features", ["features", str(most), "--out", str(into / "most.csv"), *network]
    yield "again", ["features", str(most), "--out", str(into / "again.csv"), *network]
    yield "grown", ["features", str(images), "--out", str(into / "all.csv"), *network]
    shutil.rmtree(into / "cache", ignore_errors=True)
    yield "finetune", ["finetune", str(images), "--out", str(into / "run"), *network]
    yield "predict", ["predict", str(into / "run"), str(images), "--out", str(into / "predictions.csv")]
    shutil.rmtree(into / "cache", ignore_errors=True)
    yield "rank", ["rank", str(images), "--backbones", "nano,mobilenetv2:alpha=0.35", "--out", str(into / "rank")]
    shutil.rmtree(into / "cache", ignore_errors=True)
    yield "audit", ["audit", str(images), "--out", str(into / "audit"), *network]


def link(images: Path, into: Path, lacking: int) -> None:
    """A folder of links to all files but every hundredth, or what `lacking` says."""
    for at, file in enumerate(sorted(each for each in images.rglob("*") if each.is_file())):
        if at % lacking:
            place = into / file.relative_to(images)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)


def timed(line: list[str], cache: Path) -> tuple[float, float]:
    """(wall, processor) seconds of a command."""
    began, spent = time.perf_counter(), os.times()
    done = subprocess.run(line, env=os.environ | {"TLKIT_CACHE": str(cache)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr[-2000:]}")
    now = os.times()
    processor = now.children_user + now.children_system - spent.children_user - spent.children_system
    return time.perf_counter() - began, processor


def table(seconds: Seconds) -> str:
    """A markdown table, a row a command."""
    lines = [
        "| command | s | s of the other | faster by | s of the processor | of the other | less by |",
        "|---|---|---|---|---|---|---|",
    ]
    for command in dict.fromkeys(command for _, command in seconds):
        cells = []
        for what in (0, 1):
            ours, theirs = ([each[what] for each in seconds[name, command]] for name in (OURS, THEIRS))
            mid, low, high = ratio(ours, theirs)
            cells += [f"{median(ours):.2f}", f"{median(theirs):.2f}", f"{mid:.2f} ({low:.2f} to {high:.2f})"]
        lines.append(f"| {command} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
