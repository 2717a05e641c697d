"""Clips: whether order is learned where it matters, what a classifier of clips takes in time, and in memory.

    python benchmarks/clips.py motion --backbone NAME|PATH.keras [--weights FILE] [--size 96] [--seeds 5] [--clips 600] [--times mean gru ...] [--hidden 256 256]
    python benchmarks/clips.py people IMAGES --backbone NAME|PATH.keras [--size PIXELS] [--seeds 5] [--times mean gru ...]
    python benchmarks/clips.py recipe --backbone NAME|PATH.keras [--size 96] [--clips 600] [--timed FRAMES]
    python benchmarks/clips.py memory --backbone NAME|PATH.keras [--size 96] [--clips 100 1000]

motion: the drawn sample, every seed with clips, split and training of its own. people: clips in train/ and test/, such as
asl-clips; a seed deals validation and trains anew. Both print accuracy on test clips as metrics.json has it: of what
ships, of the mean over time, and of what ships with frames shuffled. recipe: against the CNN-RNN of keras.io's "Video
Classification with a CNN-RNN Architecture", written from its description: one `predict` a frame, two GRU layers of 16 and
8 units, dropout 0.4, a dense layer of 8, ten epochs of Adam; on the same clips, split, network and size, in turn, each
from an empty store; then a second head each. Ours is a process of its own, imports included; the recipe's imports, and the loading
of its network, are not counted. memory: greatest resident memory of `tlkit finetune`, each in a process of its own.
"""

import argparse
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from measure import machine

import tlkit
from tlkit.backbones import runtime
from tlkit.base.story import Silence
from tlkit.options.catalog import TIMES
from tlkit.options.commands import FinetuneConfig
from tlkit.options.obtain import SampleConfig
from tlkit.options.option import write_toml
from tlkit.pipelines import finetune, sample

SHOWN = ("accuracy", "accuracy_of_mean", "accuracy_shuffled")
FRAMES = 12
SPLITS = ("train", "val", "test")


def options(asked: argparse.Namespace, **own: Any) -> FinetuneConfig:
    """Of `tlkit finetune`, without audit; sizes for what reads the frames in order where it has any."""
    names = ("image_size", "weights", *[name for name in TIMES[own["time"]].uses if name == "hidden"])
    given = {name: getattr(asked, name) for name in names if getattr(asked, name)}
    return FinetuneConfig(backbone=asked.backbone, audit=False, overwrite=True, **given, **own)


def drawn(folder: Path, clips: int, seed: int = 0) -> Path:
    """The motion sample."""
    sample.run(SampleConfig(name="motion", out=str(folder), count=clips, seed=seed, overwrite=True), Silence())
    return folder


def accuracies(images: Path, work: Path, asked: argparse.Namespace, time_head: str, seed: int) -> dict[str, float]:
    """Of the test clips, as metrics.json has them; and whether the head over time ships."""
    out = work / "run"
    finetune.run(options(asked, images=str(images), out=str(out), time=time_head, frames=FRAMES, seed=seed), Silence())
    found = json.loads((out / "metrics.json").read_text())["test"]
    return {name: found[name]["value"] for name in SHOWN}


def told(name: str, rows: list[dict[str, float]]) -> str:
    """A line of the table: mean and deviation over seeds."""
    cells = []
    for key in SHOWN:
        values = [row[key] for row in rows]
        cells.append(f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else ""))
    return f"| {name} | {' | '.join(cells)} |"


def measure_order(asked: argparse.Namespace) -> None:
    """Every head over time on every seed."""
    print(f"| --time | {' | '.join(SHOWN)} |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for time_head in asked.times:
            rows = []
            for seed in range(*asked.seeds):
                images = asked.images or drawn(work / f"motion{seed}", asked.clips[0], seed)
                rows.append(accuracies(Path(images), work, asked, time_head, seed))
                print(f"<!-- {time_head}, seed {seed}: {rows[-1]} -->", flush=True)
            print(told(time_head, rows), flush=True)


# -- the recipe of keras.io ---


def recipe_features(asked: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], float]:
    """Features (n, T, C), masks and labels by split, one `predict` a frame; and the seconds of it, the network's loading not counted.

    With `--timed` so many frames are timed and the seconds are in proportion; the features of others are computed in batches.
    """
    import keras

    from tlkit.backbones.build import build_backbone

    network = build_backbone(asked.backbone, image_size=asked.image_size, weights=asked.weights or "imagenet").model
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    model, side = keras.Model(network.input, pooled), network.input_shape[1]
    record = json.loads((folder / "run.json").read_text())
    with (folder / "splits.csv").open() as file:
        splits = [line.rstrip("\n").split(",") for line in file][1:]
    rows = {split: [Path(record["root"]) / path for path, name in splits if name == split] for split in SPLITS}
    files = [frame for clips in rows.values() for clip in clips for frame in sorted(clip.iterdir())[:FRAMES]]
    first, rest = files[: asked.timed or None], files[asked.timed or len(files) :]
    model.predict(np.zeros((1, side, side, 3)), verbose=0)
    started = time.perf_counter()
    seen = [model.predict(opened(frame, side)[None], verbose=0)[0] for frame in first]
    seconds = (time.perf_counter() - started) * len(files) / len(first)
    for start in range(0, len(rest), 64):
        seen += list(model.predict_on_batch(np.stack([opened(frame, side) for frame in rest[start : start + 64]])))
    features, at, data = np.reshape(seen, (-1, FRAMES, model.output_shape[-1])), 0, {}
    for split, clips in rows.items():
        labels = np.array([record["classes"].index(clip.parent.name) for clip in clips])
        masks = np.ones((len(clips), FRAMES), bool)  # no clip of the sample is shorter
        data[split] = (features[at : at + len(clips)], masks, labels)
        at += len(clips)
    return data, seconds


def opened(frame: Path, side: int) -> np.ndarray:
    """As the recipe opens a frame."""
    import keras

    return keras.utils.img_to_array(keras.utils.load_img(frame, target_size=(side, side)))


def recipe_head(data: dict[str, Any]) -> tuple[float, float]:
    """Accuracy on the test clips and seconds of the recipe's recurrent network."""
    import keras

    (features, masks, labels), (val, val_masks, val_labels) = data["train"], data["val"]
    started = time.perf_counter()
    inputs = keras.Input(features.shape[1:])
    mask = keras.Input(masks.shape[1:], dtype="bool")
    x = keras.layers.GRU(16, return_sequences=True)(inputs, mask=mask)
    x = keras.layers.Dropout(0.4)(keras.layers.GRU(8)(x))
    x = keras.layers.Dense(8, activation="relu")(x)
    model = keras.Model([inputs, mask], keras.layers.Dense(int(labels.max()) + 1, activation="softmax")(x))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit([features, masks], labels, validation_data=([val, val_masks], val_labels), epochs=10, verbose=0)
    test, test_masks, truth = data["test"]
    found = model.predict([test, test_masks], verbose=0).argmax(axis=1)
    return float((found == truth).mean()), time.perf_counter() - started


def own_way(asked: argparse.Namespace, images: Path, out: Path, head: str, cache: Path) -> tuple[float, float]:
    """Seconds of `tlkit finetune`, from the start of the process to its end; and of them those of the run itself."""
    options_file = out.with_suffix(".toml")
    options_file.write_text(write_toml(options(asked, images=str(images), out=str(out), time=head, frames=FRAMES)))
    command = [sys.executable, "-P", "-m", "tlkit", "finetune", "--config", str(options_file), "--quiet"]
    compileall.compile_dir(Path(tlkit.__file__).parent, quiet=2)  # as an installed package is
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, "TLKIT_CACHE": str(cache)}, capture_output=True, check=True)
    return time.perf_counter() - started, json.loads((out / "run.json").read_text())["seconds"]


def measure_recipe(asked: argparse.Namespace) -> None:
    """Both ways in turn; a line for each part as it ends."""
    with tempfile.TemporaryDirectory() as folder:
        images = drawn(Path(folder) / "motion", asked.clips[0])
        print("| | tlkit, process, s | tlkit, run, s | recipe, s | ratio | of the run | accuracy, tlkit | recipe |")
        print("|---|---|---|---|---|---|---|---|")
        for turn in range(asked.repeats):
            cache, own = Path(folder) / f"cache{turn}", {}
            for name, head in (("first", asked.times[0]), ("second", asked.times[-1])):
                own[name] = *own_way(asked, images, Path(folder) / name, head, cache), found_in(Path(folder) / name)
                print(f"<!-- {name} head, {head}: {own[name][0]:.1f} s -->", flush=True)
            data, extraction = recipe_features(asked, Path(folder) / "first")
            for name in own:  # the recipe keeps nothing between two programs
                whole, run, accuracy = own[name]
                theirs, training = recipe_head(data)
                seconds = extraction + training
                ratios = f"1/{seconds / whole:.1f} | 1/{seconds / run:.1f}"
                print(
                    f"| {name} head | {whole:.1f} | {run:.1f} | {seconds:.1f} | {ratios} | {accuracy:.3f} | {theirs:.3f} |"
                )
            shutil.rmtree(cache)


def found_in(out: Path) -> float:
    """Accuracy on test clips, as metrics.json has it."""
    return json.loads((out / "metrics.json").read_text())["test"]["accuracy"]["value"]


# -- memory ---

CHILD = """
import json, resource, sys
from tlkit.base.story import Silence
from tlkit.options.commands import FinetuneConfig
from tlkit.pipelines import finetune
given = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(sys.argv[1]).items()}
finetune.run(FinetuneConfig(**given), Silence())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def in_a_child(given: FinetuneConfig, cache: Path) -> int:
    """A run in a process of its own: its greatest resident memory, KB."""
    environment = {**os.environ, "TLKIT_CACHE": str(cache)}
    wanted = {name: value for name, value in given.as_dict().items() if value is not None}
    command = [sys.executable, "-c", CHILD, json.dumps(wanted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def measure_memory(asked: argparse.Namespace) -> None:
    """Greatest resident memory of a whole run, by clips."""
    print("| clips | MB |\n|---|---|")
    for clips in asked.clips:
        with tempfile.TemporaryDirectory() as folder:
            images = drawn(Path(folder) / "motion", clips)
            given = options(asked, images=str(images), out=f"{folder}/run", time=asked.times[-1], frames=FRAMES)
            print(f"| {clips} | {in_a_child(given, Path(folder) / 'cache') / 1024:.0f} |", flush=True)


MEASURES = {"motion": measure_order, "people": measure_order, "recipe": measure_recipe, "memory": measure_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASURES)
    parser.add_argument("images", nargs="?")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, dest="image_size")
    parser.add_argument("--weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="how many; or from and up to which, as 2 4")
    parser.add_argument("--hidden", type=int, nargs="+", help="as of tlkit finetune; its own unless given")
    parser.add_argument("--clips", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timed", type=int, default=0, help="frames that the recipe is timed on; 0 for all of them")
    parser.add_argument("--times", nargs="+", default=["mean", "gru"])
    asked = parser.parse_args()
    asked.hidden = tuple(asked.hidden) if asked.hidden else None
    asked.clips = asked.clips or {"memory": [100, 1000], "recipe": [600]}.get(asked.what, [600])
    runtime.seed_everything(0)
    MEASURES[asked.what](asked)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
