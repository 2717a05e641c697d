"""The classifier behind the server: predictions and explanations. Keras is loaded for the first explanation."""

import base64
import importlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from tlkit.base.errors import UnreadableImage
from tlkit.base.story import Silence, Story
from tlkit.classifier.answers import Answers
from tlkit.classifier.facts import ClipFacts, Facts, read_facts, read_familiarity
from tlkit.data.decode import jpeg, thumbnail
from tlkit.exporting.formats import installed
from tlkit.extraction.store import ClipFeatures, Rows
from tlkit.extraction.watch import watching
from tlkit.options.commands import ServeConfig
from tlkit.serving.service import ServedClassifier

if TYPE_CHECKING:
    from tlkit.classifier.model import Classifier
    from tlkit.evaluation.judgement import ClipReader
    from tlkit.explanation.heat_maps import Witness
    from tlkit.explanation.neighbours import TrainingImages

T = TypeVar("T")
THUMBNAIL = 240  # longer side of a neighbour's thumbnail, in pixels
COMPUTING = "The training images are still being looked at; try again later."


def load_subject(config: ServeConfig, model: Path, story: Story) -> ServedClassifier:
    """Load and warm up the classifier; explanations are prepared later, in a thread.

    Raises:
        TlkitError: if it is not a tlkit classifier, or the engine cannot compute it.
    """
    # Its threads busy-wait and would take cores from the engine and the decoders
    threadpool_limits(1, "blas")
    facts = read_facts(model)
    facts = replace(facts, classes=tuple(map(readable, facts.classes)))
    contract = facts.contract
    reader = None if facts.clip is None else _reader(model, facts, config, story)
    engine = reader.source.engine_for(1) if reader else watching(model, facts, (), config, story)
    most = min(config.batch_size, engine.part or config.batch_size)
    sizes = {most, *(2**power for power in range(most.bit_length()))}  # see `Batcher`
    for size in sorted(sizes, reverse=True):  # largest first, so that a backend's compiler compiles only that
        engine.run(np.zeros((size, contract.height, contract.width, 3), np.uint8))
    story.say(f"engine {engine.name} in {engine.precision}: {engine.reason}")
    explainer = Explainer(model, facts, config, story)
    explains = installed("keras") and reader is None
    if not explains and reader is None:
        story.say("predictions come without explanations, which need Keras, and it is not installed here")
    return ServedClassifier(
        name=readable(Path(config.run).resolve().name),
        facts={
            "backbone": facts.backbone,
            "task": facts.task.name,
            "threshold": facts.threshold,
            "target_precision": facts.target_precision,
            "temperature": facts.temperature,
            "knows_the_unfamiliar": read_familiarity(model) is not None,
            "engine": engine.name,
            "precision": engine.precision,
            **({} if facts.clip is None else {"clip": {"frames": facts.clip.frames, "stride": facts.clip.stride}}),
        },
        classes=facts.classes,
        contract=contract,
        batch_size=config.batch_size,
        infer=(lambda images: engine.run(images)[0]) if reader else (lambda images: Answers(*engine.run(images))),
        judge=lambda answers, top: judged(
            [of_clip(reader, facts.clip, answers)] if reader and facts.clip else answers, facts, top
        ),
        explain=explainer.explain if explains else None,
        clip=facts.clip,
        close=explainer.close,
    )


def _reader(model: Path, facts: Facts, config: ServeConfig, story: Story) -> "ClipReader":
    """The predictor for clips."""
    from tlkit.evaluation.judgement import reader_of

    return reader_of(model, facts, config, config.batch_size, story)


def of_clip(reader: "ClipReader", clip: ClipFacts, features: Sequence[np.ndarray]) -> Answers:
    """The prediction for one clip from the features (C,) of its frames in order, at most as many as the head reads."""
    places = np.full((1, clip.frames), -1)
    places[0, : len(features)] = np.arange(len(features))
    return reader.answers(Rows(ClipFeatures(np.stack(features), places)))


def readable(name: str) -> str:
    r"""A name that JSON and Prometheus can carry: undecodable bytes (lone surrogates) are written as \udcff."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def judged(answers: Sequence[Answers], facts: Facts, top: int) -> list[dict[str, Any]]:
    """The result for each image, the same as of `tlkit predict`."""
    listed = facts.task.listed(len(facts.classes), top)
    return [_answer(row, top) for row in Answers.joined(answers).rows([""] * len(answers), facts, listed)]


def _answer(row: dict[str, Any], top: int) -> dict[str, Any]:
    """A row of `Answers.rows` in the form of the API; with several labels, only each label has a probability."""
    several, numbers = row.get("labels"), row.get("numbers")
    ranked = row["top"][: max(top, len(several or ()))]
    given = several if several is not None else [row["class"]] if numbers is None else []
    return {
        "predicted": given,
        "probability": row["probability"] if several is None and numbers is None else None,
        **({} if numbers is None else {"numbers": numbers}),
        "abstained": row.get("abstain", False),
        "classes": [{"name": entry["class"], "probability": entry["probability"]} for entry in ranked],
        **{name: row[name] for name in ("unfamiliar", "unfamiliarity") if name in row},
    }


class Explainer:
    """Heat maps and similar training images. The first explanation waits for Keras to load.

    Args:
        model: file of the classifier.
        facts: its `Facts`, with readable names.
        config: gives the number of neighbours and the run.
        story: receives progress on the training images.
    """

    def __init__(self, model: Path, facts: Facts, config: ServeConfig, story: Story) -> None:
        self.model, self.facts, self.config = model, facts, config
        self._story = _Stoppable(story)
        self._witness: Future[Witness] = Future()
        self._known: Future[TrainingImages | None] = Future()
        self._thread = threading.Thread(target=self._prepare, name="tlkit-explain-prepare")
        self._starting = threading.Lock()

    def close(self) -> None:
        """Stop the preparation if it is unfinished."""
        self._story.stopped.set()
        with self._starting:
            begun = self._thread.ident is not None
        if begun:
            self._thread.join()

    def _begin(self) -> None:
        """Start preparing explanations, once, at the first request for one."""
        with self._starting:
            if self._thread.ident is None and not self._story.stopped.is_set():
                self._thread.start()

    def _prepare(self) -> None:
        """Prepare what every explanation needs, then the training images, which may take long."""
        try:
            importlib.import_module("tlkit.backbones.runtime")  # first, so that the backend starts without log output
            from tlkit.classifier.model import load
            from tlkit.explanation.heat_maps import Witness

            classifier = load(self.model)
            self._witness.set_result(Witness(classifier))
            self._known.set_result(self._look_at_training(classifier))
        except _Stopped:
            self._known.cancel()
        except Exception as error:  # noqa: BLE001 - reported to requests for an explanation
            lacking = self._known if self._witness.done() else self._witness
            lacking.set_exception(error)
            self._story.say(f"explanations are incomplete: {error}")

    def _look_at_training(self, classifier: "Classifier") -> "TrainingImages | None":
        from tlkit.explanation.neighbours import training_images

        return training_images(self.config.run, classifier, self._story) if self.config.neighbours else None

    def explain(self, content: bytes, pixels: np.ndarray, answer: Answers, method: str) -> dict[str, Any]:
        """The explanation in the API's schema: `method`, `label`, `overlay`, `blank`, `neighbours` and `note`.

        Args:
            content: the image's file.
            pixels: uint8 (H, W, 3), the network's input.
            answer: the prediction.
            method: `integrated` or `gradcam`.
        """
        self._begin()
        from tlkit.explanation.pictures import MOST, heat_on, overlay, panel, shaded

        witness, contract, images = self._witness.result(), self.facts.contract, pixels[None]
        code = int(self.facts.task.predicted(answer.logits, self.facts.temperature)[0])
        grids = witness.grids(images)
        evidence = witness.evidence(method, images, grids, np.array([code]))
        photograph = panel(thumbnail(content, MOST))
        heat = heat_on(photograph.size, evidence.heat[0], evidence.lattice, contract)
        alike, note = self._alike(witness.features(grids))
        return {
            "method": method,
            "label": self.facts.classes[code],
            "overlay": _data_url(overlay(shaded(photograph, contract), heat)),
            "blank": not evidence.heat[0].any(),
            "neighbours": alike,
            "note": note,
        }

    def _alike(self, features: np.ndarray) -> tuple[list[dict[str, Any]], str]:
        """The nearest training images of one image, or the reason for none."""
        if not self._known.done():
            return [], COMPUTING
        if self._known.cancelled() or self._known.exception() is not None:
            return [], "The training images could not be read."
        known = self._known.result()
        if known is None:
            return [], "There are no training images to compare with."
        from tlkit.classifier.familiarity import nearest

        indices, cosines = nearest(features, known.features, self.config.neighbours)
        return [
            {
                "label": readable(known.dataset.label_name(index)),
                "cosine": round(float(cosine), 4),
                "thumbnail": _thumbnail(known, index),
            }
            for index, cosine in zip(indices[0].tolist(), cosines[0], strict=True)
        ], ""


def _thumbnail(known: "TrainingImages", index: int) -> str | None:
    """A thumbnail of a training image; None if its file is gone or has changed."""
    file = known.dataset.file(index)
    try:
        if file.stat().st_size != known.dataset.sizes[index]:
            return None
        return _data_url(thumbnail(file, THUMBNAIL))
    except (OSError, UnreadableImage):
        return None


def _data_url(image: Image.Image) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image, 85)).decode()


class _Stopped(Exception):
    """Raised in the preparation of explanations when the server stops."""


class _Stoppable(Silence):
    """A story that interrupts the work when the server stops."""

    def __init__(self, story: Story) -> None:
        self._story, self.stopped = story, threading.Event()

    def say(self, text: str) -> None:
        """Pass on to the story."""
        self._story.say(text)

    def detail(self, text: str) -> None:
        """Pass on to the story."""
        self._story.detail(text)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield the items without reporting progress."""
        for item in items:
            if self.stopped.is_set():
                raise _Stopped
            yield item
