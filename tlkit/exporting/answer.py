"""The answering file of a run: its classifier as ONNX, checked against Keras, so that predictions need no TensorFlow."""

import shutil
import time
from pathlib import Path

import keras
import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import temporary_beside, write_json
from tlkit.base.machine import versions
from tlkit.base.story import Story
from tlkit.classifier.model import Classifier
from tlkit.exporting.formats import installed, module_of
from tlkit.exporting.golden import Inputs, draw_inputs, excess
from tlkit.exporting.writers import in_keras, write
from tlkit.extraction.onnx_engine import HEAD, Outputs, answer_folder, describe_answer, open_session
from tlkit.extraction.source import FeatureSource
from tlkit.options.catalog import FORMATS


def write_answer(classifier: Classifier, model: Path, story: Story, source: FeatureSource | None = None) -> bool:
    """Write the answering file beside a classifier's own, if this machine can and the file gives the same outputs as Keras.

    It is optional: if it cannot be written, the reason is reported, and the run is complete without it.

    Args:
        classifier: as saved in `model`.
        model: the `.keras` file.
        story: reports how long it took, or why there is none.
        source: of the classifier's features, where it is available.

    Returns:
        Whether it was written.
    """
    started = time.monotonic()
    try:
        apart = _write(classifier, model, source)
    except TlkitError as error:
        story.say(f"no answering file, so that answers load Keras: {error.message}")
        return False
    story.say(
        f"answers need no TensorFlow: {answer_folder(model)} gives the logits of Keras "
        f"(difference {apart:.2f} of what is allowed; {time.monotonic() - started:.1f} s)"
    )
    return True


def _write(classifier: Classifier, model: Path, source: FeatureSource | None) -> float:
    """Write the file; returns its largest difference from Keras, in units of the tolerance: 0 to 1."""
    lacking = [module for module in ("tf2onnx", "onnx", "onnxruntime") if not installed(module)]
    if lacking:
        raise TlkitError(f"{', '.join(lacking)} not installed.", f"pip install {' '.join(lacking)}.")
    if keras.backend.backend() != "tensorflow":
        raise TlkitError(f"ONNX files are made by TensorFlow, and Keras computes with {keras.backend.backend()}.")
    folder, task = answer_folder(model), classifier.facts.task
    samples = draw_inputs(classifier.facts)
    made = temporary_beside(folder)
    made.mkdir()
    try:
        file, frames = made / FORMATS["onnx"].model, None
        if classifier.facts.clip is None:
            write(FORMATS["onnx"], classifier, file, None)
            answers = open_session(file)(samples.images)
        else:
            frames = module_of(FORMATS["onnx"]).write_for_clips(classifier, file, source)
            answers = _by_both(file, samples)
        expected = in_keras(classifier, samples)
        held, due = (
            {**said, "logits": task.comparable(said["logits"], expected["logits"])} for said in (answers, expected)
        )
        apart = max(excess(held[name], due[name]) for name in expected)
        if apart > 1:
            raise TlkitError(f"the ONNX file gives other numbers than Keras ({apart:.1f} times what is allowed).")
        write_json(made / "answer.json", describe_answer(model, file, apart, versions(), frames))
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return apart


def _by_both(file: Path, samples: Inputs) -> Outputs:
    """The outputs of the two files of a classifier of clips, run in sequence: logits, and the mean over time of features."""
    mask = np.ones(samples.images.shape[:2], np.float32) if samples.mask is None else samples.mask
    seen = open_session(file)(samples.images.reshape(-1, *samples.images.shape[2:]))["features"]
    features = seen.reshape(*mask.shape, -1) * mask[..., None]
    means = features.sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return {**open_session(file.with_name(HEAD))(features), "features": means}
