"""The frozen graph called from several threads for a long time, whether it crashes, and what the safe form costs.

    python benchmarks/stress_engine.py --minutes 30                 # as the engine does it
    python benchmarks/stress_engine.py --minutes 30 --form shared   # one session for all threads, as it was before
    python benchmarks/stress_engine.py --compare                    # both in turn: images a second, memory

Each round builds a graph of another shape (one or two outputs, with and without depthwise convolutions), runs batches of
1 to 67 images through it, eight views of each, and lets go of it; memory is collected and returned to the system meanwhile.
Every output is held against that of the first call of the same images. With `MALLOC_CHECK_=3 MALLOC_PERTURB_=85` in the
environment, glibc checks its heap as well.
"""

import argparse
import ctypes
import faulthandler
import gc
import os
import random
import resource
import time
from collections.abc import Callable
from statistics import median

import keras
import numpy as np
from measure import machine

from tlkit.extraction import frozen


def network(rng: random.Random) -> keras.Model:
    """A small convolutional network of a random shape."""
    side, outputs = rng.choice([24, 32, 48]), rng.choice([1, 2])
    image = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    for _ in range(rng.randint(2, 6)):
        kind = rng.choice([keras.layers.Conv2D, keras.layers.DepthwiseConv2D])
        x = (
            kind(rng.choice([8, 16, 24]), 3, padding="same", use_bias=False)(x)
            if kind is keras.layers.Conv2D
            else kind(3, padding="same")(x)
        )
        x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))
        if rng.random() < 0.4 and x.shape[1] > 4:
            x = keras.layers.MaxPooling2D()(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, [pooled, x][:outputs])


def round_of(rng: random.Random, form: str) -> int:
    """Build, run, compare, let go. Returns the images that went through."""
    keras.utils.set_random_seed(rng.randrange(2**31))
    model = network(rng)
    begin = frozen.build(model, "float32", own=form == "own")
    side = model.input_shape[1]
    images = np.random.default_rng(rng.randrange(2**31)).integers(0, 256, (67, side, side, 3), np.uint8)
    expected = begin(images)()
    passes = len(images)
    for _ in range(rng.randint(4, 12)):
        count = rng.randint(1, len(images))
        waiting = [begin(images[:count]) for _ in range(8)]  # views, begun ahead
        if rng.random() < 0.3:
            gc.collect()
            trim()
        for fetch in waiting:
            for found, wanted in zip(fetch(), expected, strict=True):
                np.testing.assert_allclose(found, wanted[:count], rtol=1e-3, atol=1e-3)
        passes += 8 * count
    return passes


def trim() -> None:
    """Return free memory to the system, where glibc can."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def compare() -> None:
    """Both forms in turn on a real network's shape."""
    model = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(160, 160, 3), pooling="avg")
    images = np.random.default_rng(0).integers(0, 256, (64, 160, 160, 3), np.uint8)
    calls: dict[str, Callable[[], object]] = {}
    for form in ("shared", "own"):
        before = held()
        begin = frozen.build(model, "float32", own=form == "own")
        begin(images)()
        calls[form] = lambda begin=begin: begin(images)()  # type: ignore[misc]
        print(f"{form}: {held() - before:.0f} MB held after the first batch")
    print("| | wall, median | processor, median |\n|---|---|---|")
    took: dict[str, list[tuple[float, float]]] = {form: [] for form in calls}
    for _ in range(25):
        for form, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            took[form].append((time.perf_counter() - wall, time.process_time() - processor))
    for form, times in took.items():
        wall, processor = (median(column) for column in zip(*times, strict=True))
        print(f"| {form} | {wall:.3f} s | {processor:.3f} s |")


def held() -> float:
    """MB that this process has in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--form", choices=("own", "shared"), default="own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    faulthandler.enable()
    print(machine() + f"; MALLOC_CHECK_={os.environ.get('MALLOC_CHECK_', '')}", flush=True)
    if options.compare:
        return compare()
    started, said, passes, rounds = time.monotonic(), 0.0, 0, 0
    while (now := time.monotonic() - started) < 60 * options.minutes:
        passes += round_of(random.Random(options.seed + rounds), options.form)
        rounds += 1
        if now - said > 60:
            said = now
            print(f"{now / 60:.1f} min: {rounds} graphs, {passes:,} passes, {held():.0f} MB", flush=True)
    print(f"{options.form}: {rounds} graphs, {passes:,} passes, no crash, no other number")
    return None


if __name__ == "__main__":
    main()
