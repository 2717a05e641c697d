"""A classifier: one flat Keras graph from images to logits, and what must never be separated from it.

The file is an ordinary `.keras` archive that plain Keras loads without tlkit. Class names, input
contract, temperature and the rest travel inside it as one more member, `tlkit.json`; a summary of
the training images as another, `tlkit-familiarity.npz`.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tlkit.backbones.build import Backbone
from tlkit.backbones.graph import calls
from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, replacing
from tlkit.classifier.familiarity import Familiarity
from tlkit.classifier.heads.build import Head, pool
from tlkit.data.dataset import InputContract

MEMBER = "tlkit.json"
FAMILIARITY = "tlkit-familiarity.npz"
FORMAT = 1
AGAIN = "restore it from a copy; of a run, `tlkit finetune --resume RUN` makes it again."


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a classifier must know about itself.

    Args:
        classes: class names, in the order of the logits.
        contract: how a file becomes its input.
        backbone: its name.
        grid_layer: the layer whose output is the grid, the seam between backbone and head.
        temperature: logits are divided by it before the softmax, or the sigmoids.
        trained_on: hex sha256 of the training images, sorted; for recognising them later.
        threshold: confidence from which on it answers, 0..1; None where it always does.
        target_precision: the precision that the threshold was chosen for, 0..1.
        task: `single`, one class an image, by softmax; `multi`, any number of them, by a sigmoid for each.
        flip: whether mirrored images were shown in training as alike; None where that is not known.
    """

    classes: tuple[str, ...]
    contract: InputContract
    backbone: str
    grid_layer: str
    temperature: float = 1.0
    trained_on: tuple[str, ...] = ()
    threshold: float | None = None
    target_precision: float | None = None
    task: str = "single"
    flip: bool | None = None

    @property
    def multi(self) -> bool:
        """Whether an image may have several labels."""
        return self.task == "multi"


@dataclass(frozen=True)
class Classifier:
    """A network that knows what it answers.

    Args:
        model: images (B, H, W, 3), RGB 0..255, to logits (B, K).
        facts: what it must know.
        familiarity: what it was trained on, to recognise what is unlike it; None where that was not measured.
    """

    model: keras.Model
    facts: Facts
    familiarity: Familiarity | None = None

    def with_facts(self, **changes: Any) -> "Classifier":
        """The same network with some facts changed."""
        return replace(self, facts=replace(self.facts, **changes))

    def knowing(self, familiarity: Familiarity | None) -> "Classifier":
        """The same network with what it was trained on."""
        return replace(self, familiarity=familiarity)


def compose(
    backbone: Backbone, head: Head, classes: tuple[str, ...], contract: InputContract, task: str = "single"
) -> Classifier:
    """Put the head on the backbone, as one flat graph that shares the layers of both; `task` as of `Facts`.

    Raises:
        TlkitError: the backbone has layers that are not Keras's own: the file would not load in plain Keras.
    """
    if backbone.foreign:
        raise TlkitError(
            f"{backbone.name} has layers that plain Keras does not know ({', '.join(backbone.foreign)}), so that a "
            "classifier on it could not be loaded without their package.",
            f"`tlkit features IMAGES --backbone {backbone.name}` works; to fine-tune, choose a preset of Keras's own "
            "layers, such as hub:resnet_18_imagenet, or a backbone of `tlkit backbones`.",
        )
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


def graft(model: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Apply the layers of a functional model to another tensor, sharing their weights, without nesting it."""
    table = {id(model.inputs[0]): tensor}
    for call in calls(model):
        if not isinstance(call.operation, keras.layers.InputLayer):
            arguments, options = call.node.arguments.fill_in(table)
            made = call.operation(*arguments, **options)
            table |= dict(zip(map(id, call.outputs), keras.tree.flatten(made), strict=True))
    return table[id(model.outputs[0])]


def seam(classifier: Classifier) -> keras.KerasTensor:
    """The grid (B, h, w, C), the tensor between backbone and head."""
    return classifier.model.get_layer(classifier.facts.grid_layer).output


def with_features(classifier: Classifier) -> keras.Model:
    """Images -> logits (B, K) and average-pooled grid (B, C), which `familiarity` looks at."""
    features = keras.layers.GlobalAveragePooling2D(dtype="float32", name="seam_features")(seam(classifier))
    return keras.Model(classifier.model.input, [classifier.model.output, features], name="classifier_with_features")


def save(classifier: Classifier, path: Path) -> None:
    """Write a `.keras` file, whole or not at all."""
    with replacing(path) as temporary:
        classifier.model.save(temporary)
        with zipfile.ZipFile(temporary, "a", compression=zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(MEMBER, _as_text(classifier.facts))
            if classifier.familiarity is not None:
                archive.writestr(FAMILIARITY, classifier.familiarity.to_bytes())


def _as_text(facts: Facts) -> str:
    return json.dumps({"format": FORMAT, **asdict(facts)}, ensure_ascii=True)


def write_facts(path: Path, facts: Facts, announce: Callable[[Path], None] | None = None) -> None:
    """Change the facts of a classifier on disk, and nothing else in its file; whole or not at all.

    Args:
        path: of the classifier.
        facts: the new ones.
        announce: told where the new file is, before it takes the place of the old one.
    """
    with replacing(path) as temporary:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(temporary, "w") as new:
            for member in old.infolist():
                if member.filename != MEMBER:
                    new.writestr(member, old.read(member))
            new.writestr(MEMBER, _as_text(facts), zipfile.ZIP_DEFLATED)
        if announce is not None:
            announce(temporary)


def read_facts(path: Path) -> Facts:
    """The facts of a classifier, without loading Keras's part of it.

    Raises:
        TlkitError: when there is no such file, or it is not one of ours.
    """
    if not path.is_file():
        raise TlkitError(f"{str(path)!r} does not exist.", "give a run folder or the model.keras in it.")
    with reading(path, AGAIN):
        if not zipfile.is_zipfile(path):
            raise _foreign(path)
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                raise _foreign(path)
            facts = json.loads(archive.read(MEMBER))
        if facts.pop("format") != FORMAT:
            raise TlkitError(
                f"{str(path)!r} was written by another version of tlkit.", "use that version; see run.json."
            )
        facts["contract"] = InputContract(**facts["contract"])
        facts["classes"], facts["trained_on"] = tuple(facts["classes"]), tuple(facts["trained_on"])
        return Facts(**facts)


def _foreign(path: Path) -> TlkitError:
    return TlkitError(
        f"{str(path)!r} holds no class names: tlkit did not write it, or it is damaged.",
        "train with `tlkit finetune --backbone that.keras`, or give a run folder.",
    )


def load(path: Path) -> Classifier:
    """Read a classifier. Keras's safe mode stays on: nothing in the file is executed.

    Raises:
        TlkitError: no such file, none of ours, damaged, or with layers that are not Keras's own or hold code.
    """
    facts = read_facts(path)
    with reading(path, AGAIN):
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    return Classifier(model, facts, read_familiarity(path))


def read_familiarity(path: Path) -> Familiarity | None:
    """What a classifier on disk was trained on, without loading Keras's part of it; None where it does not say."""
    with reading(path, AGAIN), zipfile.ZipFile(path) as archive:
        return Familiarity.from_bytes(archive.read(FAMILIARITY)) if FAMILIARITY in archive.namelist() else None
