"""Where every second of one command goes, imports included.

    python benchmarks/where_time_goes.py finetune hymenoptera --backbone mobilenetv2:alpha=0.35 --out {folder}/run
    python benchmarks/where_time_goes.py --warm features hymenoptera --out {folder}/features.csv
    python benchmarks/where_time_goes.py predict RUN photo.jpg

Everything after this program's own flags is a `tlkit` command. It runs in a process of its own, each time with an
empty feature store (`--warm`: filled by one more run before the first), `{folder}` standing for a new temporary folder.

Seconds are those of the main thread, each counted once: time in a row does not include the rows that it calls. So the
rows add up to the wall time of the process, from its start to its end; what no row below names is `everything else`.
"""

import argparse
import builtins
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

REST = "everything else"
# Packages whose import is a row; what others import on their way counts as theirs.
IMPORTS = ("tensorflow", "keras", "jax", "torch", "numpy", "scipy", "sklearn", "matplotlib", "pyarrow", "PIL", "typer")
# module:function or module:Class.method -> row. Functions that a module does not have (any more) are named and passed
# over, so that renaming one shows.
SEAMS = {
    "tlkit.data.scan:scan": "scan: find and hash the files",
    "tlkit.data.decode:batches": "wait for decoded images",
    "tlkit.data.views:Augmentation.view": "make augmented views",
    "tlkit.backbones.build:build_backbone": "build the backbone",
    "tlkit.backbones.weights:weights_sha256": "fingerprint of the weights",
    "tlkit.backbones.weights:load_imagenet": "load the weights",
    "tlkit.backbones.weights:load_file": "load the weights",
    "tlkit.classifier.heads.build:build_head": "build head and classifier",
    "tlkit.classifier:compose": "build head and classifier",
    "tlkit.classifier:load": "load the classifier",
    "tlkit.training.plan:seconds_per_operation": "plan: time this machine",
    "tlkit.training.planner:build_plan": "plan: the rest",
    "tlkit.extraction.engine:build_engine": "build the engine (trace, freeze)",
    "tlkit.extraction.extract:extract": "extract: around the network",
    "tlkit.extraction.store:Appender.append": "write to the feature store",
    "tlkit.training.probe:fit_probe": "solve the head",
    "tlkit.training.stages:stage_model": "cut the model of the stage",
    "tlkit.training.optimizer:unfreeze_and_compile": "unfreeze, compile, build the optimizer",
    "tlkit.training.checkpoint:Checkpoint.save_weights": "write checkpoints",
    "tlkit.training.checkpoint:Checkpoint.load_weights": "read checkpoints",
    "tlkit.training.checkpoint:Checkpoint.write": "write checkpoints",
    "tlkit.runs.history:write_event_files": "write history and TensorBoard's files",
    "tlkit.runs.history:write_history": "write history and TensorBoard's files",
    "tlkit.classifier:save": "save the classifier",
    "tlkit.evaluation.calibration:fit_temperature": "calibrate and evaluate",
    "tlkit.evaluation.evaluate:evaluate": "calibrate and evaluate",
    "tlkit.report.build:write_report": "write the report",
    "tlkit.extraction.tables:write_table": "write the table",
    "tlkit.extraction.engine:infer": "the network itself",
    "tlkit.extraction.engine:Engine.ahead": "the network itself",
    "tlkit.training.examples:Examples.chunks": "read and shuffle what a stage reads",
}
# Functions that return the function to watch: the first call of that traces and compiles.
MAKERS = {
    "tlkit.training.fit:build_epoch": ("training: first epoch of a stage, with its compilation", "training: epochs"),
}
# What a model calls for every batch; the first call traces and compiles.
STEPS = {
    "predict_function": ("predict: trace and compile", "predict: the network itself"),
}


class Clock:
    """Seconds by row, of the main thread; only the innermost open row runs."""

    def __init__(self, started: float) -> None:
        self.rows = {"start of Python": time.monotonic() - started}
        self._open, self._since = [REST], time.monotonic()
        self.missing: list[str] = []

    def _charge(self) -> None:
        now = time.monotonic()
        self.rows[self._open[-1]] = self.rows.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    def enter(self, row: str) -> None:
        """From here on time is this row's."""
        self._charge()
        self._open.append(row)

    def leave(self) -> None:
        """From here on time is again that of the row before."""
        self._charge()
        self._open.pop()

    def timed(self, function: Callable, row: str) -> Callable:
        """`function`, its time charged to `row`; of a generator, the time of every step."""

        @functools.wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if not in_main_thread():
                return function(*arguments, **options)
            self.enter(row)
            try:
                result = function(*arguments, **options)
            finally:
                self.leave()
            return self._steps(result, row) if isinstance(result, types.GeneratorType) else result

        return wrapper

    def _steps(self, generator: Iterator, row: str) -> Iterator:
        while True:
            self.enter(row)
            try:
                item = next(generator)
            except StopIteration:
                return
            finally:
                self.leave()
            yield item

    def watch_imports(self) -> None:
        """Time every import statement of the packages in `IMPORTS`."""
        original = builtins.__import__

        def timed_import(name: str, *arguments: Any, **options: Any) -> Any:
            package = name.partition(".")[0]
            if package not in IMPORTS or not in_main_thread():
                return original(name, *arguments, **options)
            self.enter(f"import {package}")
            try:
                return original(name, *arguments, **options)
            finally:
                self.leave()

        builtins.__import__ = timed_import

    def watch_functions(self) -> None:
        """Put the timed function in place of the plain one wherever a module of tlkit holds it."""
        for seam, row in (SEAMS | MAKERS).items():
            module_name, _, path = seam.partition(":")
            owner = sys.modules.get(module_name)
            *parents, name = path.split(".")
            owner = functools.reduce(lambda found, part: getattr(found, part, None), parents, owner)
            plain = getattr(owner, name, None)
            if plain is None:
                self.missing.append(seam)
                continue
            timed = self.timed(plain, row) if isinstance(row, str) else self._maker(plain, *row)
            setattr(owner, name, timed)
            for module in [module for key, module in sys.modules.items() if key.startswith("tlkit")]:
                for key, value in list(vars(module).items()):
                    if value is plain:
                        setattr(module, key, timed)
        if "keras" in sys.modules:
            self._watch_steps(importlib.import_module("keras").Model)

    def _watch_steps(self, model: Any) -> None:
        clock = self
        for attribute, (first, later) in STEPS.items():
            make = getattr(model, f"make_{attribute}")

            def made(self: Any, *arguments: Any, _make: Any = make, _row: tuple = (attribute, first, later), **options):
                attribute, first, later = _row
                before = getattr(self, attribute)
                result = _make(self, *arguments, **options)
                function = getattr(self, attribute)
                if function is not None and function is not before:
                    setattr(self, attribute, clock._stepped(function, first, later))
                return result

            setattr(model, f"make_{attribute}", made)

    def _maker(self, make: Callable, first: str, later: str) -> Callable:
        return lambda *arguments, **options: self._stepped(make(*arguments, **options), first, later)

    def _stepped(self, function: Callable, first: str, later: str) -> Callable:
        ways = iter([self.timed(function, first)])
        usual = self.timed(function, later)
        return lambda *arguments, **options: next(ways, usual)(*arguments, **options)


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def child(command: list[str], started: float, out: Path) -> None:
    """Run the command in this process and write the rows."""
    clock = Clock(started)
    clock.watch_imports()
    sys.argv = ["tlkit", *command]
    from tlkit import pipelines
    from tlkit.cli.main import main

    load = pipelines.load

    def watched(*arguments: Any) -> types.ModuleType:
        module = load(*arguments)
        clock.watch_functions()
        return module

    pipelines.load = watched
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    clock.enter("end of Python")
    clock.leave()
    out.write_text(json.dumps({"rows": clock.rows, "ended": time.monotonic(), "missing": clock.missing}))
    sys.exit(code)


def measure(command: list[str], cache: Path, folder: Path) -> tuple[dict[str, float], float, list[str]]:
    """(seconds by row, wall time, seams that were not found) of one run."""
    out = folder / "rows.json"
    words = [word.replace("{folder}", str(folder)) for word in command]
    environment = os.environ | {"TLKIT_CACHE": str(cache)}
    started = time.monotonic()
    own = [sys.executable, __file__, "--child", str(started), str(out), *words]
    subprocess.run(own, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = time.monotonic()
    found = json.loads(out.read_text())
    rows = found["rows"]
    rows["end of Python"] += ended - found["ended"]
    return rows, ended - started, found["missing"]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[4:], float(sys.argv[2]), Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="fill the feature store first, with a run not counted")
    parser.add_argument("--least", type=float, default=0.05, help="show rows of this many seconds or more")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a tlkit command with its arguments")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1 if options.warm else 0, options.repeat):
            own = Path(folder) / str(number)
            own.mkdir()
            cache = Path(folder) / ("cache" if options.warm else f"cache{number}")
            runs.append(measure(options.command, cache, own))
    runs = runs[-options.repeat :]
    walls = sorted(wall for _, wall, _ in runs)
    rows = {name: median(run.get(name, 0.0) for run, _, _ in runs) for run, _, _ in runs for name in run}
    shown = {name: seconds for name, seconds in rows.items() if seconds >= options.least and name != REST}
    shown = dict(sorted(shown.items(), key=lambda item: -item[1]))
    shown["rows below the least"] = sum(rows.values()) - sum(shown.values()) - rows.get(REST, 0.0)
    shown[REST] = rows.get(REST, 0.0)
    print("| | s | share |\n|---|---|---|")
    for name, seconds in shown.items():
        print(f"| {name} | {seconds:.2f} | {seconds / median(walls):.1%} |")
    print(f"| **sum of the rows** | {sum(shown.values()):.2f} | {sum(shown.values()) / median(walls):.1%} |")
    print(f"| **wall time** | {median(walls):.2f} ({walls[0]:.2f} to {walls[-1]:.2f}) | |")
    if missing := sorted({seam for *_, seams in runs for seam in seams}):
        print(f"not in use by this command, or no longer there: {', '.join(missing)}", file=sys.stderr)
    from measure import machine

    print(f"\nMedian of {len(runs)} runs. {machine()}")


if __name__ == "__main__":
    main()
