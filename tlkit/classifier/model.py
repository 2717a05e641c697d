"""A classifier: one flat Keras graph from images to logits, and the facts kept with it.

The file is an ordinary `.keras` archive that plain Keras loads without tlkit. Class names, input
contract, temperature and the rest are stored in it as one more member, `tlkit.json`; a summary of
the training images as another, `tlkit-familiarity.npz`.
"""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.build import Backbone
from tlkit.backbones.graph import calls
from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, replacing
from tlkit.classifier.facts import (
    AGAIN,
    FAMILIARITY,
    MEMBER,
    ClipFacts,
    Facts,
    as_text,
    read_facts,
    read_familiarity,
)
from tlkit.classifier.familiarity import Familiarity
from tlkit.classifier.heads.build import TIME_MEAN, Head, pool
from tlkit.data.dataset import InputContract
from tlkit.tasks.single import SINGLE
from tlkit.tasks.task import Task


@dataclass(frozen=True)
class Classifier:
    """A network with the facts that its predictions depend on.

    Args:
        model: images (B, H, W, 3), RGB 0..255, to logits (B, K); for clips (B, T, H, W, 3) and a mask (B, T), 1 where there
            is a frame.
        facts: see `Facts`.
        familiarity: a summary of its training images, to recognise unlike ones; None where it was not measured.
    """

    model: keras.Model
    facts: Facts
    familiarity: Familiarity | None = None

    def with_facts(self, **changes: Any) -> "Classifier":
        """The same network with some facts changed."""
        return replace(self, facts=replace(self.facts, **changes))

    def knowing(self, familiarity: Familiarity | None) -> "Classifier":
        """The same network with this familiarity."""
        return replace(self, familiarity=familiarity)


def compose(
    backbone: Backbone, head: Head, classes: tuple[str, ...], contract: InputContract, task: Task = SINGLE
) -> Classifier:
    """Put the head on the backbone, as one flat graph that shares the layers of both; `task` as in `Facts`.

    Raises:
        TlkitError: the backbone has layers that are not Keras's own: the file would not load in plain Keras.
    """
    _refuse_foreign(backbone)
    grid = backbone.model.output
    features = pool(grid, head.pooling) if head.reads == "pooled" else grid
    logits = graft(head.model, features)
    model = keras.Model(backbone.model.input, logits, name="classifier")
    facts = Facts(
        classes=classes,
        contract=contract,
        backbone=backbone.name,
        grid_layer=backbone.model.layers[-1].name,
        task=task,
    )
    return Classifier(model, facts)


FRAMES = "frames"  # layer: every frame as an image of its own
SEQUENCE = "frames_seen"  # layer: the features of the existing frames


def compose_clips(
    backbone: Backbone,
    head: Head,
    classes: tuple[str, ...],
    contract: InputContract,
    clip: ClipFacts,
    task: Task = SINGLE,
) -> Classifier:
    """Put a head over time on the backbone: clips (B, T, H, W, 3) and a mask (B, T) to logits (B, K), one flat graph.

    The frames of all clips are one batch of images to the backbone; arguments and errors as for `compose`.
    """
    _refuse_foreign(backbone)
    shape = tuple(backbone.model.input_shape[1:])
    clips = keras.Input((clip.frames, *shape), dtype="float32", name="images")
    mask = keras.Input((clip.frames,), dtype="float32", name="mask")
    frames = keras.layers.Identity(name=FRAMES)(keras.ops.reshape(clips, (-1, *shape)))
    pooled = pool(graft(backbone.model, frames), head.pooling)
    sequence = keras.ops.reshape(pooled, (-1, clip.frames, pooled.shape[-1]))
    there = keras.layers.Reshape((clip.frames, 1), name="frames_mask")(mask)
    seen = keras.layers.Multiply(dtype="float32", name=SEQUENCE)([sequence, there])
    model = keras.Model([clips, mask], graft(head.model, seen), name="classifier")
    grid_layer = backbone.model.layers[-1].name
    facts = Facts(
        classes=classes, contract=contract, backbone=backbone.name, grid_layer=grid_layer, task=task, clip=clip
    )
    return Classifier(model, facts)


def network_of(classifier: Classifier) -> keras.Model:
    """The network of a newly trained classifier, with its layers and without its optimizer."""
    return keras.Model(classifier.model.input, classifier.model.output)


def of_images(classifier: Classifier) -> keras.Model:
    """The network up to the grid: images (B, H, W, 3) to (B, h, w, C), whether the classifier takes images or clips."""
    model = classifier.model
    start = model.input if classifier.facts.clip is None else model.get_layer(FRAMES).output
    return keras.Model(start, seam(classifier))


def over_time(classifier: Classifier) -> keras.Model:
    """The head of a classifier of clips: features (B, T, C) of its frames, zeros where there are none, to logits (B, K)."""
    return keras.Model(classifier.model.get_layer(SEQUENCE).output, classifier.model.output)


def _refuse_foreign(backbone: Backbone) -> None:
    if backbone.foreign:
        raise TlkitError(
            f"{backbone.name} has layers that plain Keras does not know ({', '.join(backbone.foreign)}), so that a "
            "classifier on it could not be loaded without their package.",
            f"`tlkit features IMAGES --backbone {backbone.name}` works; to fine-tune, choose a preset of Keras's own "
            "layers, such as hub:resnet_18_imagenet, or a backbone of `tlkit backbones`.",
        )


def graft(model: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Apply the layers of a functional model to another tensor, sharing their weights, without nesting it."""
    table = {id(model.inputs[0]): tensor}
    for call in calls(model):
        if not isinstance(call.operation, keras.layers.InputLayer):
            arguments, options = call.node.arguments.fill_in(table)
            made = call.operation(*arguments, **options)
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
    return table[id(model.outputs[0])]


def output_of(model: keras.Model, layer: str) -> keras.KerasTensor:
    """The output of a layer in this model; the layer may have been called before in other models."""
    return next(call.outputs[0] for call in calls(model) if call.operation.name == layer)


def seam(classifier: Classifier) -> keras.KerasTensor:
    """The grid (B, h, w, C), the tensor between backbone and head; for clips (B*T, h, w, C)."""
    return output_of(classifier.model, classifier.facts.grid_layer)


def with_features(classifier: Classifier) -> keras.Model:
    """Images -> logits (B, K) and average-pooled grid (B, C), the input of `familiarity`; for clips the mean of their frames."""
    if classifier.facts.clip is not None:
        features = output_of(classifier.model, TIME_MEAN)
    else:
        features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="seam_features")(seam(classifier))
    return keras.Model(classifier.model.input, [classifier.model.output, features], name="classifier_with_features")


def save(classifier: Classifier, path: Path) -> None:
    """Write a `.keras` file, whole or not at all."""
    with replacing(path) as temporary:
        classifier.model.save(temporary)
        with zipfile.ZipFile(temporary, "a", compression=zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MEMBER, as_text(classifier.facts))
            if classifier.familiarity is not None:
                archive.writestr(FAMILIARITY, classifier.familiarity.to_bytes())


def load(path: Path) -> Classifier:
    """Read a classifier. Keras's safe mode stays on: nothing in the file is executed.

    Raises:
        TlkitError: no such file, not written by tlkit, damaged, or with layers that are not Keras's own or hold code.
    """
    facts = read_facts(path)
    with reading(path, AGAIN):
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    return Classifier(model, facts, read_familiarity(path))
