"""Files of a run, an artifact and the caches damaged at random: the same result, or one error, and nothing else.

    python benchmarks/damage.py --tries 2000

A small run is made once. Each try damages one file of a copy (cut, one bit flipped, emptied, zeros, `[]`, gone), runs one
command, and counts what came: the `same` result (what was lost may have been computed again), an `error` of tlkit's, a
`wrong` result, or a `traceback`. Anything of the last two is shown with the seed that gives it again, and makes this exit
with 1.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def draw(root: Path) -> Path:
    """36 small images in three classes that differ in colour."""
    rng = np.random.default_rng(0)
    for name, colour in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.normal(colour, 60, (32, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


def damaged(path: Path, rng: random.Random) -> str:
    """Damage a file; returns how."""
    content = path.read_bytes()
    place = rng.randrange(max(1, len(content)))
    kind = rng.choice(["cut", "flipped", "flipped", "emptied", "zeros", "[]", "gone"])
    if kind == "gone":
        path.unlink()
        return kind
    flipped = bytearray(content or b"\0")
    flipped[place] ^= 1 << rng.randrange(8)
    made = {"cut": content[:place], "flipped": flipped, "emptied": b"", "zeros": bytes(len(content)), "[]": b"[]"}
    path.write_bytes(made[kind])
    return f"{kind} at {place}" if kind in ("cut", "flipped") else kind


class Sound:
    """What is there before anything is damaged, and what each command gives then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder / "sound", folder / "work"
        self.images = draw(folder / "images")
        os.environ["TLKIT_CACHE"] = str(self.work / "cache")
        import tlkit

        self.tlkit = tlkit
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the story of thousands of commands
        self.run, self.artifact = self.work / "run", self.work / "artifact"
        options = {"backbone": "nano", "image_size": 32, "stages": ("head", "top"), "epochs": (2,), "patience": 2}
        tlkit.finetune(self.images, **options, out=self.run, audit=False, validate="split", seed=1)
        tlkit.export(self.run, out=self.artifact, format=("keras",), check_images=2)
        self.features()
        shutil.copytree(self.run, self.work / "other", ignore=shutil.ignore_patterns("checkpoints"))
        self.work.rename(self.folder)

    def restore(self) -> None:
        """The work folder as it was."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.folder, self.work)

    def features(self) -> Any:
        """The table of features."""
        out = self.work / "features.csv"
        self.tlkit.features(self.images, backbone="nano", image_size=32, out=out, overwrite=True)
        return out.read_text()

    def evaluate(self) -> Any:
        """The metrics of the run."""
        return self.tlkit.evaluate(self.run)["metrics"]

    def predict(self) -> Any:
        """What is predicted of a few images."""
        out = self.work / "predicted.csv"
        self.tlkit.predict(self.run, [str(self.images / "red")], out=out, overwrite=True)
        return out.read_text()

    def resume(self) -> Any:
        """The metrics of the finished run, or of what was made again."""
        return self.tlkit.finetune(resume=self.run)["metrics"]

    def go_on(self) -> Any:
        """The metrics of a run that was stopped before its end."""
        return self.resume()

    def compare(self) -> Any:
        """The run against a copy of it."""
        return self.tlkit.compare([str(self.run), str(self.work / "other")])["text"]

    def verify(self) -> Any:
        """The artifact against what it gave when it was exported."""
        return self.tlkit.verify(self.artifact / "keras")["agreement"]


# command -> the files it may read
READS = {
    "features": ("cache/**/*",),
    "evaluate": ("run/*", "cache/**/*"),
    "predict": ("run/*",),
    "compare": ("run/*",),
    "resume": ("run/*", "run/checkpoints/**/*"),
    "go_on": ("run/*", "run/checkpoints/**/*", "cache/**/*"),
    "verify": ("artifact/**/*",),
}


def alike(one: Any, other: Any) -> bool:
    """Equal, numbers within what computing them again in another order may change."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, str) and isinstance(other, str) and one != other:
        return all(map(alike, map(number, fields(one)), map(number, fields(other)))) and len(fields(one)) == len(
            fields(other)
        )
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True))
    return bool(one == other)


def fields(text: str) -> list[str]:
    """The cells of a table."""
    return text.replace("\n", ",").split(",")


def number(text: str) -> float | str:
    """A number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text + " " if "," in text else text.strip() + "\0"


def attempt(command: Callable[[], Any], expected: Any) -> tuple[str, str]:
    """What came of a command: its kind, and what to show."""
    from tlkit.base.errors import TlkitError

    try:
        found = command()
    except TlkitError as error:
        return ("error", error.message) if error.message else ("traceback", "an error that says nothing")
    except Exception:  # noqa: BLE001 - what this looks for
        return "traceback", traceback.format_exc()
    return (
        ("same", "") if alike(expected, found) else ("wrong", f"{str(found)[:600]}\ninstead of\n{str(expected)[:600]}")
    )


def stopped(run: Path) -> None:
    """Make a finished run one that was killed when its stages were done."""
    import json

    path = run / "run.json"
    content = json.loads(path.read_text()) | {"state": "running"}
    content.pop("checksum", None)
    from tlkit.base.files import write_checked_json

    write_checked_json(path, content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--commands", nargs="*", default=list(READS))
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {name: Counter() for name in options.commands}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        sound = Sound(Path(folder))
        expected = {}
        for name in options.commands:
            sound.restore()
            if name == "go_on":
                stopped(sound.run)
            expected[name] = getattr(sound, name)()
        for seed in range(options.seed, options.seed + options.tries):
            if time.monotonic() - started > 60 * options.minutes:
                break
            rng = random.Random(seed)
            name = options.commands[seed % len(options.commands)]
            sound.restore()
            if name == "go_on":
                stopped(sound.run)
            files = sorted(path for pattern in READS[name] for path in sound.work.glob(pattern) if path.is_file())
            path = rng.choice(files)
            how = damaged(path, rng)
            kind, shown = attempt(getattr(sound, name), expected[name])
            counts[name][kind] += 1
            if kind in ("wrong", "traceback"):
                print(f"seed {seed}: {name}, {path.relative_to(sound.work)} {how}: {kind}\n{shown}\n", flush=True)
    print(f"{'command':<10} {'tries':>6} {'same':>6} {'error':>6} {'wrong':>6} {'traceback':>10}")
    for name, of in counts.items():
        print(f"{name:<10} {of.total():>6} {of['same']:>6} {of['error']:>6} {of['wrong']:>6} {of['traceback']:>10}")
    total: Counter[str] = sum(counts.values(), Counter())
    print(
        f"{'all':<10} {total.total():>6} {total['same']:>6} {total['error']:>6} {total['wrong']:>6} {total['traceback']:>10}"
    )
    sys.exit(bool(total["wrong"] or total["traceback"]))


if __name__ == "__main__":
    main()
