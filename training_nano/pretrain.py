"""Pretrain nano: match the features that an ImageNet teacher sees in drawn images and crops of two photographs.

    python -m training_nano.pretrain WORK_FOLDER

Writes into the folder the pool of images, `log.csv`, `step_XXXXXX.npz` weights along the way, and `nano.weights.npz`,
the ones of the lowest held-out loss; see README.md.
"""

import argparse
import csv
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tlkit.backbones.applications import NANO_WEIGHTS, build_nano
from training_nano.pool import write_pool
from training_nano.teacher import freeze_teacher
from training_nano.views import random_views, shrink

HALFWAY_LAYER = "block3_unit2_relu"
HELD_OUT = 2048


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the outcome."""

    seed: int = 0
    images: int = 64_000
    steps: int = 9_000
    batch: int = 128
    teacher_size: int = 128
    student_size: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: int = 300
    cool_down: float = 0.5
    halfway_weight: float = 0.5
    chapter: int = 24
    passes: int = 2
    evaluate_every: int = 500


def main() -> None:
    """Parse, pretrain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the pool, the log and the checkpoints; resumes what is there")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0 for all cores")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    tf.config.threading.set_intra_op_parallelism_threads(arguments.pop("threads"))
    folder = arguments.pop("folder")
    folder.mkdir(parents=True, exist_ok=True)
    pretrain(folder, Recipe(**arguments))


def pretrain(folder: Path, recipe: Recipe) -> None:
    """Train from random weights, or the last checkpoint, to the last step, logging along the way."""
    keras.utils.set_random_seed(recipe.seed)
    pool = write_pool(folder / f"pool_{recipe.images}.npy", recipe.images, recipe.seed)
    lesson = Lesson(recipe)
    lesson.measure_scales(pool[:HELD_OUT])
    held_out = [lesson.prepare(images) for images in np.split(pool[-HELD_OUT:], HELD_OUT // recipe.batch)]
    state = tf.train.Checkpoint(network=lesson.network, optimizer=lesson.optimizer)
    files = tf.train.CheckpointManager(state, str(folder / "state"), max_to_keep=1)
    state.restore(files.latest_checkpoint)
    first = int(lesson.optimizer.iterations) + 1
    # The order of images and their views follow the seed and the first step: a resumed run sees others.
    keras.utils.set_random_seed(recipe.seed + first)
    losses, start = [], time.monotonic()
    for step, batch in enumerate(read_lessons(pool[:-HELD_OUT], lesson, recipe.seed + first), start=first):
        if step > recipe.steps:
            break
        losses.append(lesson.learn(*batch))
        if step % recipe.evaluate_every == 0 or step == recipe.steps:
            save_weights(lesson.student, folder / f"step_{step:06d}.npz")
            files.save()
            row = {
                "step": step,
                "images": step * recipe.batch,
                "seconds": round(time.monotonic() - start),
                "training_loss": round(float(np.mean(losses)), 4),
                "held_out_loss": round(float(np.mean([lesson.evaluate(*batch) for batch in held_out])), 4),
            }
            append_row(folder / "log.csv", row)
            losses.clear()
    keep_best(folder)


class Trapezoid(keras.optimizers.schedules.LearningRateSchedule):
    """Up, level, and down to zero over the last part: the end can be set late (Zhai et al. 2021, section 3.5)."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    def __call__(self, step):
        """The rate at a step."""
        recipe = self.recipe
        step = keras.ops.cast(step, "float32")
        falling = (recipe.steps - step) / (recipe.cool_down * recipe.steps)
        return recipe.learning_rate * keras.ops.clip(keras.ops.minimum(step / recipe.warm_up, falling), 0.0, 1.0)


class Lesson:
    """Teacher, student, and the two linear maps between their features, which are thrown away in the end."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.teacher = freeze_teacher(recipe.teacher_size)
        self.student = build_nano((recipe.student_size, recipe.student_size))
        layers = self.student.get_layer(HALFWAY_LAYER).output, self.student.output
        channels = [output.shape[-1] for output in self.teacher.structured_outputs]
        maps = [keras.layers.Conv2D(count, 1) for count in channels]
        outputs = [linear(layer) for linear, layer in zip(maps, layers, strict=True)]
        self.network = keras.Model(self.student.input, outputs)
        self.scales = [(tf.Variable(tf.zeros(count)), tf.Variable(tf.ones(count))) for count in channels]
        self.pooled_scale = tf.Variable(tf.ones(channels[-1]))
        self.optimizer = keras.optimizers.AdamW(
            Trapezoid(recipe), weight_decay=recipe.weight_decay, global_clipnorm=1.0
        )
        self.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        self.optimizer.build(self.network.trainable_variables)

    def measure_scales(self, images: np.ndarray) -> None:
        """Mean and deviation of each teacher channel, over places, and of the last ones over pooled images."""
        grids = [[], []]
        for start in range(0, len(images), self.recipe.batch):
            views = random_views(images[start : start + self.recipe.batch], self.recipe.teacher_size)
            for seen, grid in zip(grids, self._sizes_matched(self.teacher(views)), strict=True):
                seen.append(grid.numpy())
        for (mean, deviation), seen in zip(self.scales, grids, strict=True):
            values = np.concatenate(seen)
            mean.assign(values.mean((0, 1, 2)))
            deviation.assign(values.std((0, 1, 2)) + 1e-3)
        self.pooled_scale.assign(values.mean((1, 2)).std(0) / self.scales[-1][1].numpy() + 1e-3)

    @tf.function(reduce_retracing=True)
    def prepare(self, images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Pool images, uint8, to views at the student's size and the targets that the teacher sets for them, float16."""
        views = random_views(images, self.recipe.teacher_size)
        grids = self._sizes_matched(self.teacher(views))
        targets = [(grid - mean) / deviation for grid, (mean, deviation) in zip(grids, self.scales, strict=True)]
        return tf.cast(shrink(views, self.recipe.student_size), "float16"), [
            tf.cast(target, "float16") for target in targets
        ]

    @tf.function(reduce_retracing=True)
    def learn(self, views: tf.Tensor, targets: list[tf.Tensor]) -> tf.Tensor:
        """One step on one batch; the loss."""
        with tf.GradientTape() as tape:
            halfway, last = self.network(views, training=True)
            loss = self._last_loss(last, targets[1]) + self.recipe.halfway_weight * _squared_error(halfway, targets[0])
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    @tf.function(reduce_retracing=True)
    def evaluate(self, views: tf.Tensor, targets: list[tf.Tensor]) -> tf.Tensor:
        """The loss of the last grid, without learning; about 2 for a network that has learnt nothing."""
        return self._last_loss(self.network(views, training=False)[1], targets[1])

    def _sizes_matched(self, grids) -> list[tf.Tensor]:
        """Teacher grids averaged to the heights and widths of the student's."""
        sizes = [output.shape[1:3] for output in self.network.outputs]
        return [tf.image.resize(grid, size, antialias=True) for grid, size in zip(grids, sizes, strict=True)]

    def _last_loss(self, output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Squared error place by place, and of the pooled features in units of their own deviation."""
        error = output - tf.cast(target, "float32")
        pooled = tf.reduce_mean(error, (1, 2)) / self.pooled_scale
        return tf.reduce_mean(error**2) + tf.reduce_mean(pooled**2)


def _squared_error(output: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean((output - tf.cast(target, "float32")) ** 2)


def read_lessons(pool: np.ndarray, lesson: Lesson, seed: int):
    """Endless prepared batches, a chapter at a time, each chapter read more than once.

    Views and targets cost as much as the learning; reading them twice is nearly as good as fresh ones, and much
    cheaper ("Faster Neural Network Training with Data Echoing", Choi et al. 2019).
    """
    rng = np.random.default_rng(seed)
    recipe = lesson.recipe
    while True:
        order = rng.permutation(len(pool))[: len(pool) // recipe.batch * recipe.batch]
        batches = np.split(order, len(order) // recipe.batch)
        for start in range(0, len(batches), recipe.chapter):
            chapter = [lesson.prepare(pool[indices]) for indices in batches[start : start + recipe.chapter]]
            for _ in range(recipe.passes):
                for index in rng.permutation(len(chapter)):
                    yield chapter[index]


def save_weights(model: keras.Model, path: Path) -> None:
    """Float16, keyed by variable path, as `load_nano_weights` reads them."""
    np.savez_compressed(path, **{v.path: keras.ops.convert_to_numpy(v).astype("float16") for v in model.variables})


def keep_best(folder: Path) -> None:
    """Copy the weights of the lowest held-out loss, which knows only drawn images and the two photographs."""
    with (folder / "log.csv").open(newline="") as file:
        best = min(csv.DictReader(file), key=lambda row: float(row["held_out_loss"]))
    shutil.copyfile(folder / f"step_{int(best['step']):06d}.npz", folder / NANO_WEIGHTS.name)


def append_row(path: Path, row: dict[str, float]) -> None:
    """One line of the log, printed too."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


if __name__ == "__main__":
    main()
