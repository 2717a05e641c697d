"""Commands killed at random moments, and what the same command makes of it afterwards.

    python benchmarks/kills.py --kills 60

Every command is run once undisturbed. Then, again and again, one is begun in a copy of what it needs, killed (SIGKILL, with
all that it started) at a random moment of the time it took, and given once more: with `--resume` where there is a run to go
on with, else as it was. It has to end as it did undisturbed, and to leave no temporary file, lock or log behind, neither in
what it writes nor in the cache nor in the folder for temporary files. Whatever else comes is shown, and makes this exit
with 1.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from damage import alike, draw

NETWORK = ["--backbone", "nano", "--image-size", "32"]
TRAINING = ["--stages", "head,top,all", "--epochs", "4", "--blocks", "1", "--validate", "split"]
# command -> its arguments, and the table by which its result is known
COMMANDS: dict[str, tuple[list[str], str]] = {
    "features": (["images", *NETWORK, "--out", "out.csv", "--overwrite"], "out.csv"),
    "parquet": (["images", *NETWORK, "--out", "out.parquet", "--overwrite"], "out.parquet"),
    "split": (["images", "--out", "out.csv", "--overwrite"], "out.csv"),
    "audit": (["images", *NETWORK, "--out", "out", "--overwrite"], "out/images.csv"),
    "rank": (["images", "--backbones", "nano:size=32,nano:size=48", "--out", "out", "--overwrite"], "out/rank.csv"),
    "finetune": (["images", *NETWORK, *TRAINING, "--out", "out"], "out/predictions.csv"),
    "evaluate": (["run", "images", "--out", "out", "--overwrite"], "out/predictions.csv"),
    "predict": (["run", "images", "--out", "out.csv", "--overwrite"], "out.csv"),
    "explain": (["run", "images/red/00.png", "images/blue/01.png", "--out", "out", "--overwrite"], ""),
    "export": (["run", "--format", "keras,onnx,savedmodel", "--out", "out", "--overwrite"], ""),
    "report": (["run", "--figures", "svg,png", "--out", "out", "--overwrite"], ""),
}
MEASURED = ("milliseconds",)  # columns that differ from one run to the next
LEFT = (".tmp-", "native-", ".lock", ".speed-", ".part")


class Bench:
    """The folder that commands run in."""

    def __init__(self, folder: Path) -> None:
        self.ready, self.work = folder / "ready", folder / "work"
        self.ready.mkdir()
        draw(self.ready / "images")
        self.restore()
        done = self.run("finetune", ["images", *NETWORK, "--stages", "head", "--validate", "split", "--out", "run"])
        if done.returncode:
            raise SystemExit(done.stderr)
        shutil.rmtree(self.ready)
        shutil.rmtree(self.work / "cache")
        self.work.rename(self.ready)

    def restore(self) -> None:
        """The work folder as it was."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.ready, self.work)
        (self.work / "tmp").mkdir(exist_ok=True)

    def begin(self, command: str, line: list[str]) -> "subprocess.Popen[str]":
        """A command in a process group of its own."""
        name = "features" if command == "parquet" else command
        places = {"TLKIT_CACHE": str(self.work / "cache"), "TMPDIR": str(self.work / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-m", "tlkit", name, *line],
            cwd=self.work,
            env=os.environ | places,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, line: list[str]) -> "subprocess.CompletedProcess[str]":
        """The same to its end."""
        process = self.begin(command, line)
        errors = process.communicate()[1]
        return subprocess.CompletedProcess(line, process.returncode, None, errors)

    def killed(self, command: str, line: list[str], after: float) -> bool:
        """Whether it had not ended before."""
        process = self.begin(command, line)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def result(self, file: str) -> str:
        """The table by which a command's result is known."""
        if not file:
            return ""
        path = self.work / file
        if path.suffix != ".csv":
            return str(rows_of(path))
        with path.open(newline="", encoding="utf-8") as lines:
            rows = [[value for name, value in row.items() if name not in MEASURED] for row in csv.DictReader(lines)]
        return "\n".join(",".join(row) for row in rows)

    def left(self) -> list[str]:
        """What nobody needs any more."""
        found = [path for path in self.work.rglob("*") if path.name.startswith(LEFT) or path.name.endswith(".part")]
        return [str(path.relative_to(self.work)) for path in [*found, *(self.work / "tmp").iterdir()]]


def rows_of(path: Path) -> list[dict[str, object]]:
    """The rows of a Parquet table."""
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


def attempt(bench: Bench, command: str, after: float, expected: str) -> tuple[str, str]:
    """One kill, and what came of it: its kind, and what to show."""
    line, file = COMMANDS[command]
    bench.restore()
    if not bench.killed(command, line, after):
        return "ended before", ""
    going_on = command == "finetune" and (bench.work / "out/config.toml").exists()
    done = bench.run(command, ["--resume", "out"] if going_on else line)
    if done.returncode:
        return "failed", done.stderr[-1500:]
    if not alike(expected, bench.result(file)):
        return "wrong", f"{bench.result(file)[:500]}\ninstead of\n{expected[:500]}"
    left = bench.left()
    return ("left over", ", ".join(left)) if left else ("sound", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    options = parser.parse_args()
    rng, counts, bad = random.Random(options.seed), {name: Counter[str]() for name in options.commands}, 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        usual: dict[str, tuple[float, str]] = {}
        for command in options.commands:
            bench.restore()
            began, done = time.monotonic(), bench.run(command, COMMANDS[command][0])
            if done.returncode:
                raise SystemExit(f"{command} fails undisturbed: {done.stderr}")
            usual[command] = time.monotonic() - began, bench.result(COMMANDS[command][1])
        while sum(count.total() - count["ended before"] for count in counts.values()) < options.kills:
            command = min(counts, key=lambda name: (counts[name].total(), rng.random()))
            seconds, expected = usual[command]
            after = rng.uniform(0.05, 1.0) * seconds
            kind, what = attempt(bench, command, after, expected)
            counts[command][kind] += 1
            if what:
                bad += 1
                print(f"{command}, killed after {after:.2f} of {seconds:.2f} s: {kind}\n{what}\n", flush=True)
    kinds = ["sound", "failed", "wrong", "left over", "ended before"]
    print(f"| command | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for command, count in counts.items():
        print(f"| {command} | {' | '.join(str(count[kind]) for kind in kinds)} |")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
