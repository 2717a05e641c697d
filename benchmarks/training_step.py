"""A training step of the last blocks on stored activations, with and without XLA.

    python benchmarks/training_step.py

Random weights and random activations: only the time matters. Each row is the median of five
epochs of 8 batches of 32, the two ways taking turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np

CASES = {"MobileNetV2": ("block_12_add", {"alpha": 0.35}), "ResNet50": ("conv5_block1_out", {})}


def build(name: str, jit: bool) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    cut, options = CASES[name]
    base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(224, 224, 3), **options)
    suffix = keras.Model(base.get_layer(cut).output, base.output)
    for layer in suffix.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(suffix.output))
    model = keras.Model(suffix.input, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.AdamW(1e-4), loss=loss, jit_compile=jit)
    random = np.random.default_rng(0)
    return model, random.random((256, *suffix.input.shape[1:]), dtype=np.float32), random.integers(0, 2, 256)


def epoch(model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> float:
    started = time.perf_counter()
    model.fit(inputs, labels, batch_size=32, verbose=0)
    return time.perf_counter() - started


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| suffix | plain, s an epoch | XLA, s an epoch | XLA / plain |\n|---|---|---|---|")
    for name, (cut, _) in CASES.items():
        ways = {jit: build(name, jit) for jit in (False, True)}
        for way in ways.values():
            epoch(*way)  # traces and compiles
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(5):
            for jit, way in ways.items():
                times[jit].append(epoch(*way))
        plain, xla = (statistics.median(times[jit]) for jit in (False, True))
        print(f"| {name} after {cut} | {plain:.2f} | {xla:.2f} | {xla / plain:.1f} |", flush=True)


if __name__ == "__main__":
    main()
