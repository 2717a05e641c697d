"""A classifier: one flat Keras graph from images to logits, and what must never be separated from it.

The file is an ordinary `.keras` archive that plain Keras loads without tlkit. Class names, input
contract, temperature and the rest travel inside it as one more member, `tlkit.json`.
"""

import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.build import Backbone
from tlkit.backbones.graph import calls
from tlkit.core.atomic import replacing
from tlkit.core.errors import TlkitError
from tlkit.core.input_contract import InputContract
from tlkit.heads.build import Head, pool

MEMBER = "tlkit.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a classifier must know about itself.

    Args:
        classes: class names, in the order of the logits.
        contract: how a file becomes its input.
        backbone: its name.
        grid_layer: the layer whose output is the grid, the seam between backbone and head.
        temperature: logits are divided by it before the softmax.
        trained_on: hex sha256 of the training images, sorted; for recognising them later.
    """

    classes: tuple[str, ...]
    contract: InputContract
    backbone: str
    grid_layer: str
    temperature: float = 1.0
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """`model` maps images (B, H, W, 3), RGB 0..255, to logits (B, K)."""

    model: keras.Model
    facts: Facts

    def with_facts(self, **changes: Any) -> "Classifier":
        """The same network with some facts changed."""
        return Classifier(self.model, replace(self.facts, **changes))


def compose(backbone: Backbone, head: Head, classes: tuple[str, ...], contract: InputContract) -> Classifier:
    """Put the head on the backbone, as one flat graph that shares the layers of both."""
    grid = backbone.model.output
    features = pool(grid, head.pooling) if head.reads == "pooled" else grid
    logits = graft(head.model, features)
    model = keras.Model(backbone.model.input, logits, name="classifier")
    facts = Facts(
        classes=classes,
        contract=contract,
        backbone=backbone.name,
        grid_layer=backbone.model.layers[-1].name,
    )
    return Classifier(model, facts)


def graft(model: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Apply the layers of a functional model to another tensor, sharing their weights, without nesting it."""
    table = {id(model.inputs[0]): tensor}
    for call in calls(model):
        if not isinstance(call.operation, keras.layers.InputLayer):
            arguments, options = call.node.arguments.fill_in(table)
            made = call.operation(*arguments, **options)
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
    return table[id(model.outputs[0])]


def save(classifier: Classifier, path: Path) -> None:
    """Write a `.keras` file, whole or not at all."""
    facts = {"format": FORMAT, **asdict(classifier.facts)}
    with replacing(path) as temporary:
        classifier.model.save(temporary)
        with zipfile.ZipFile(temporary, "a", compression=zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MEMBER, json.dumps(facts, ensure_ascii=True))


def read_facts(path: Path) -> Facts:
    """The facts of a classifier, without loading Keras's part of it.

    Raises:
        TlkitError: when there is no such file, or it is not one of ours.
    """
    if not path.is_file():
        raise TlkitError(f"{str(path)!r} does not exist.", "give a run folder or the model.keras in it.")
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(MEMBER))
    except (zipfile.BadZipFile, KeyError) as error:
        raise TlkitError(
            f"{str(path)!r} holds no class names: tlkit did not write it.",
            "train with `tlkit finetune --backbone that.keras`, or give a run folder.",
        ) from error
    if facts.pop("format") != FORMAT:
        raise TlkitError(f"{str(path)!r} was written by another version of tlkit.", "use that version; see run.json.")
    facts["contract"] = InputContract(**facts["contract"])
    facts["classes"], facts["trained_on"] = tuple(facts["classes"]), tuple(facts["trained_on"])
    return Facts(**facts)


def load(path: Path) -> Classifier:
    """Read a classifier. Keras's safe mode stays on: nothing in the file is executed."""
    facts = read_facts(path)
    return Classifier(keras.models.load_model(path, compile=False), facts)
