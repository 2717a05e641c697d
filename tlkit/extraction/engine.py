"""The engines, and the choice of engine and precision for a model here. Keras is loaded when one of its engines is built."""

import importlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.machine import absent, ran_out, usable_cores
from tlkit.base.process import scratch, settle_backend
from tlkit.base.story import Silence, Story, percent
from tlkit.data.dataset import InputContract
from tlkit.data.decode import Batch, batches

if TYPE_CHECKING:
    import keras


T = TypeVar("T")
Outputs = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Engine:
    """A compiled forward pass.

    Args:
        run: uint8 or float32 (B, ...) -> one float32 (B, ...) for each output of the model.
        name: `tensorflow-frozen`, `keras` or `onnx`.
        reason: why this engine, in a few words.
        precision: `float32` or `bfloat16`, of multiplications; sums and outputs are float32.
        start: the same without waiting: returns the function that waits.
        part: images that it computes at once, however many are given; None for all of them.
        portable: returns a function that can be sent to another process and opens the same engine there, with all that it
            needs; None where that is not supported.
    """

    run: Callable[[np.ndarray], Outputs]
    name: str
    reason: str
    precision: str = "float32"
    start: Callable[[np.ndarray], Callable[[], Outputs]] | None = None
    part: int | None = None
    portable: "Callable[[], Callable[[], Engine]] | None" = None

    def ahead(self, items: Iterable[T], inputs: Callable[[T], np.ndarray]) -> Iterator[tuple[T, Outputs]]:
        """Every item with the outputs of its inputs, in order; the next is started before one is waited for."""
        start = self.start or (lambda batch: partial(self.run, batch))
        begun: deque[tuple[T, Callable[[], Outputs]]] = deque()
        for item in items:
            begun.append((item, start(inputs(item))))
            if len(begun) > 1:
                done, wait = begun.popleft()
                yield done, wait()
        for done, wait in begun:
            yield done, wait()


def enduring(engine: Engine, story: Story) -> Engine:
    """The same engine, which computes fewer images at a time once memory has run out, and reports it; results are the same.

    Raises, when it runs:
        TlkitError: there is not enough memory even for one image.
    """
    lessening = _Lessening(engine, story)
    return replace(engine, run=lambda images: lessening.start(images)(), start=lessening.start)


class _Lessening:
    """An engine, and how many images at a time it has memory for; None if it never ran out."""

    def __init__(self, engine: Engine, story: Story) -> None:
        self.engine, self.story = engine, story
        self.most: int | None = None

    def start(self, images: np.ndarray) -> Callable[[], Outputs]:
        if self.most is not None or not len(images):
            return partial(self.in_pieces, images)
        begin = self.engine.start or (lambda batch: partial(self.engine.run, batch))
        try:
            fetch = begin(images)
        except Exception as error:
            if not ran_out(error):
                raise
            self.lessen(images, error)
            return partial(self.in_pieces, images)

        def wait() -> Outputs:
            try:
                return fetch()
            except Exception as error:
                if not ran_out(error):
                    raise
                if self.most is None:  # and it was not set meanwhile by another batch in progress
                    self.lessen(images, error)
            return self.in_pieces(images)

        return wait

    def in_pieces(self, images: np.ndarray) -> Outputs:
        """Compute in pieces, each as large as there was memory for so far."""
        done: list[Outputs] = []
        place = 0
        while place < len(images) or not done:
            piece = images[place : place + (self.most or len(images))]
            try:
                done.append(self.engine.run(piece))
            except Exception as error:
                if not ran_out(error):
                    raise
                self.lessen(piece, error)
            else:
                place += len(piece)
        return tuple(np.concatenate(outputs) for outputs in zip(*done, strict=True))

    def lessen(self, images: np.ndarray, error: Exception) -> None:
        """Halve the number of images computed at once."""
        if len(images) <= 1:
            raise TlkitError(
                f"there is not enough memory to compute one image of {images.shape[1]} by {images.shape[2]} pixels.",
                "end other programs, or choose a smaller backbone or --image-size.",
            ) from error
        self.most = len(images) // 2
        self.story.say(f"out of memory with {len(images)} images at a time; from here on {self.most} at a time")


def build_engine(
    model: "keras.Model", *, engine: str = "auto", precision: str = "float32", cores: int | None = None
) -> Engine:
    """The forward pass of `model`; later changes of its weights may go unnoticed.

    Args:
        model: with one input.
        engine: `auto` for the fastest here, or a name.
        precision: `float32` or `bfloat16`.
        cores: number for which batches are divided (`frozen.build`), by default that of this process.

    Raises:
        TlkitError: the engine cannot compute this model here, or not in this precision.
    """
    from tlkit.extraction import frozen, keras_jit

    name, reason = choose_engine(model) if engine == "auto" else (engine, "as asked for")
    if name != "tensorflow-frozen":
        start = keras_jit.build(model, precision)
    elif obstacle := frozen.why_not(model):
        raise TlkitError(f"--engine {name} cannot compute this: {obstacle}.", "use --engine auto.")
    else:
        start = frozen.build(model, precision, cores=cores)
    return Engine(
        lambda inputs: start(inputs)(),
        name,
        reason,
        precision,
        start,
        portable=lambda: partial(_rebuild, as_bytes(model), name, precision, cores or usable_cores()),
    )


def as_bytes(model: "keras.Model") -> bytes:
    """The `.keras` file of a model, as sent to another process."""
    with scratch() as folder:
        file = folder / "model.keras"
        model.save(file)
        return file.read_bytes()


def start_keras(story: Story) -> None:
    """Settle the backend, report it where it is not the usual one, and start it quietly, before Keras is imported."""
    if notice := settle_backend():
        story.say(notice)
    importlib.import_module("tlkit.backbones.runtime")


def of_bytes(content: bytes) -> "keras.Model":
    """The model of such a file, not compiled."""
    importlib.import_module("tlkit.backbones.runtime")  # first, so that the backend starts quietly
    import keras

    with scratch() as folder:
        file = folder / "model.keras"
        file.write_bytes(content)
        return keras.saving.load_model(file, compile=False)


def _rebuild(content: bytes, name: str, precision: str, cores: int) -> Engine:
    """The engine of a model that was sent here; it divides batches as the sender does."""
    return build_engine(of_bytes(content), engine=name, precision=precision, cores=cores)


def choose_engine(model: "keras.Model") -> tuple[str, str]:
    """Name of the fastest engine for a model here, and why."""
    import keras

    from tlkit.backbones.runtime import gpus
    from tlkit.extraction import frozen

    obstacle = ", ".join(gpus()) or frozen.why_not(model)
    if not obstacle:
        return "tensorflow-frozen", "TensorFlow on a CPU: one frozen graph, a core for each small batch"
    return "keras", f"{obstacle}: {keras.backend.backend()} compiles the model itself"


# -- ONNX with fewer multiplications, where there are enough images to pay for rewriting a network

RATE = 5e10  # multiply-adds of a core per second
START = 5.0  # seconds that must be gained: those of writing, comparing and opening the file


def _ahead(model: "keras.Model") -> float:
    """Multiply-adds per image that a network rewritten to take fewer gains here; 0 where it gains none or cannot be written."""
    from tlkit.backbones.arithmetic import gain
    from tlkit.backbones.runtime import gpus
    from tlkit.extraction import frozen

    if gpus() or frozen.why_not(model) or absent(("onnx", "onnxruntime")):
        return 0.0
    return max(0.0, gain(model))


def _least(ahead: float) -> int | None:
    return math.ceil(START * RATE * usable_cores() / ahead) if ahead else None


def worth_from(model: "keras.Model") -> int | None:
    """The number of images from which rewriting a network with fewer multiplications pays here; None where it never does."""
    return _least(_ahead(model))


def spared_by(model: "keras.Model", images: int) -> float:
    """Multiply-adds per image that are saved where so many are computed; 0 where that does not pay."""
    ahead = _ahead(model)
    least = _least(ahead)
    return 0.0 if least is None or images < least else ahead


def lean_engine(model: "keras.Model", images: int) -> Engine | None:
    """The engine of a network rewritten with fewer multiplications.

    Args:
        model: images, RGB 0..255 -> one tensor or several.
        images: to be computed.

    Returns:
        None where so many images do not pay for writing it, or where it cannot be written to give the same numbers.
    """
    least = worth_from(model)
    if least is None or images < least:
        return None
    import keras

    names = ("onnx_engine", "onnx_graph", "translate")
    engines, writer, held = (importlib.import_module(f"{__package__}.{name}") for name in names)
    try:
        content = writer.to_onnx(model, lean=True).SerializeToString()
    except writer.Untranslatable:
        return None
    reason = f"the network as ONNX, with fewer multiplications: pays from {least:,} images"
    found: Engine = engines.features_engine(content, reason, usable_cores())
    image = held.drawn(*model.input_shape[1:3])
    expected = keras.tree.flatten(model(image.astype(np.float32), training=False))
    apart = max(held.difference(*pair) for pair in zip(found.run(image), expected, strict=True))
    return found if apart <= held.CLOSE else None


def infer(
    engine: Engine,
    files: Sequence[Path],
    contract: InputContract,
    *,
    batch_size: int = 32,
    description: str = "inference",
    story: Story | None = None,
) -> tuple[np.ndarray, Outputs, list[tuple[int, str]]]:
    """Decode and run every file through an engine.

    Returns:
        indices int64 (n,) of the files that could be decoded; float32 (n, ...) for each output of the engine, none where
        no file could be decoded; and (index, reason) of those that could not.
    """
    rows = np.empty(len(files), np.int64)
    outputs: Outputs = ()
    problems: list[tuple[int, str]] = []
    story = story or Silence()
    engine = enduring(engine, story)
    read = story.track(batches(files, contract, batch_size), description, len(files))

    def readable() -> Iterator[Batch]:
        for batch in read:
            problems.extend(batch.problems)
            if len(batch.indices):
                yield batch

    done = 0
    for batch, values in engine.ahead(readable(), lambda batch: batch.images):
        outputs = outputs or tuple(np.empty((len(files), *each.shape[1:]), each.dtype) for each in values)
        place = slice(done, done + len(batch.indices))
        rows[place], done = batch.indices, place.stop
        for whole, each in zip(outputs, values, strict=True):
            whole[place] = each
    return rows[:done], tuple(each[:done] for each in outputs), problems


# -- float32 or bfloat16: the latter only where asked for, or shown to be faster and to give the same decisions
#
# Tested on up to 64 of the user's own images: bfloat16 must be 1.2 times as fast, the outputs of every image must point
# in the same direction as in float32 (cosine of 0.999 or more), and decisions must not change. Decisions are the classes
# of a classifier's logits; for features they are those of a linear probe solved on one half of these images and applied
# to the other (at most 2 % may differ, one image in 64).

TRIAL_IMAGES = 64
FEWEST = 256  # images below which a trial costs more than it can gain
FASTER, COSINE, AGREE = 1.2, 0.999, 0.98

Decide = Callable[[np.ndarray], np.ndarray]


class Verdict(NamedTuple):
    """Whether bfloat16 is taken, and why."""

    taken: bool
    reason: str


def settle_engine(
    model: "keras.Model",
    files: Sequence[Path],
    contract: InputContract,
    *,
    engine: str,
    precision: str,
    labels: np.ndarray | None = None,
    story: Story,
) -> Engine:
    """An engine in the precision asked for; `auto` tries both, and reports its choice and the reason.

    Args:
        model: a classifier (images -> logits), or with `labels` a network of features.
        files: what it will compute.
        contract: how they become pixels.
        engine: a name, or `auto`.
        precision: `float32`, `bfloat16` or `auto`.
        labels: int (n,) of the files, negative for none; the outputs are features then, and a probe decides.
        story: reports the choice.

    Raises:
        TlkitError: as `build_engine`.
    """
    if precision != "auto":
        return build_engine(model, engine=engine, precision=precision)
    exact = build_engine(model, engine=engine)
    if too_few(len(files), story):
        return exact
    chosen = np.unique(np.linspace(0, len(files) - 1, TRIAL_IMAGES).astype(int))
    batch = next(iter(batches([files[i] for i in chosen], contract, TRIAL_IMAGES)))
    if not len(batch.indices):
        return exact
    try:
        half = build_engine(model, engine=engine, precision="bfloat16")
    except TlkitError as error:
        story.say(f"precision float32: {error.message}")
        return exact
    decide: Decide = _classes if labels is None else _Probe(labels[chosen[batch.indices]])
    verdict = judge(exact, half, batch.images, decide)
    story.say(f"precision {'bfloat16' if verdict.taken else 'float32'}: {verdict.reason}")
    return half if verdict.taken else exact


def too_few(images: int, story: Story) -> bool:
    """Whether there are so few images that float32 is used without a trial, which is then reported."""
    if images < FEWEST:
        story.say(f"precision float32: {images} images are too few for trying bfloat16 to pay")
    return images < FEWEST


def judge(exact: Engine, half: Engine, images: np.ndarray, decide: Decide) -> Verdict:
    """Compare two engines of one model on uint8 images (n, H, W, 3)."""
    first, second = exact.run(images), half.run(images)
    times = [(_seconds(exact, images), _seconds(half, images)) for _ in range(3)]
    gain = median(slow / fast for slow, fast in times)
    if gain < FASTER:
        return Verdict(False, f"bfloat16 is {gain:.2f} times as fast here, less than the {FASTER} that would pay")
    worst = min(float(cosines(one, other).min()) for one, other in zip(first, second, strict=True))
    if not worst >= COSINE:
        return Verdict(False, f"bfloat16 moves the features of an image to a cosine of {worst:.4f}, below {COSINE}")
    agree = float(np.mean(decide(first[0]) == decide(second[0])))
    if agree < AGREE:
        return Verdict(False, f"in bfloat16 {percent(1 - agree)} of the decisions on {len(images)} images differ")
    agreed = f"cosine {worst:.4f} or more, {percent(agree)} of decisions the same"
    return Verdict(True, f"{gain:.2f} times as fast on {len(images)} images, {agreed}")


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Float (n,): cosine between the rows of two arrays (n, ...); 1 where both are zero, 0 where one is."""
    one, other = (array.reshape(len(array), -1).astype(np.float64) for array in (one, other))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = np.all(one == other, axis=1)
    return np.where(same, 1.0, np.sum(one * other, axis=1) / np.where(norms > 0, norms, 1.0))


def _classes(logits: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=1)


class _Probe:
    """Decisions of a linear probe (ridge on one-hot labels), solved on every second image and applied to the others."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Int (n,): the class of each image; all 0 without two classes among the images."""
        rows = features.reshape(len(features), -1).astype(np.float64)
        decisions = np.zeros(len(rows), int)
        for held in (0, 1):
            train = (np.arange(len(rows)) % 2 != held) & (self.labels >= 0)
            if len(np.unique(self.labels[train])) > 1:
                decisions[held::2] = self._decided(rows[train], self.labels[train], rows[held::2])
        return decisions

    @staticmethod
    def _decided(train: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Fewer images than features: solved in the space of images."""
        scale = train.std(axis=0) + 1e-6 * np.abs(train).max() + 1e-12
        centred, others = (train - train.mean(axis=0)) / scale, (held - train.mean(axis=0)) / scale
        gram = centred @ centred.T
        targets = labels[:, None] == np.unique(labels)
        ridge = gram + np.eye(len(gram)) * np.trace(gram) / len(gram)
        return (
            others @ centred.T @ np.linalg.solve(ridge, targets - targets.mean(axis=0)) + targets.mean(axis=0)
        ).argmax(1)


def _seconds(engine: Engine, images: np.ndarray) -> float:
    started = perf_counter()
    engine.run(images)
    return perf_counter() - started
