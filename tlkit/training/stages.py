"""The stages of a plan, one after the other: each starts from what the one before it kept."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np

from tlkit.backbones.build import Backbone
from tlkit.classifier import Classifier
from tlkit.core.config import FinetuneConfig
from tlkit.core.manifest import Manifest
from tlkit.core.splits import Splits
from tlkit.core.story import Story
from tlkit.data.augment import Augmentation
from tlkit.heads.build import Head
from tlkit.inference import build_engine, infer
from tlkit.training.checkpoint import Checkpoint, State
from tlkit.training.compile import unfreeze_and_compile
from tlkit.training.examples import Examples, PixelReader, Reader, Rows, balanced_weights, stored_reader
from tlkit.training.fit import Validation, fit, predict, rank
from tlkit.training.plan import Stage
from tlkit.training.probe import fit_probe


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every stage works on.

    Args:
        config: the options.
        backbone, head, classifier: sharing their layers.
        manifest, splits: the images.
        features: the stored input of the head, for every image.
        cut: the stored output at the cut, for every image; the same as `features` where no stage reads one.
        augmentation: what a view is, stored or fresh.
        views: of the training images, by what is stored (`features`, `cut`); view 0 first.
        groups: int (N,); images with the same number share a fold.
    """

    config: FinetuneConfig
    backbone: Backbone
    head: Head
    classifier: Classifier
    manifest: Manifest
    splits: Splits
    features: Rows
    cut: Rows
    augmentation: Augmentation
    views: Mapping[str, Sequence[Rows]]
    groups: np.ndarray

    @property
    def classes(self) -> int:
        """K."""
        return len(self.manifest.classes)

    def rows(self, split: str) -> np.ndarray:
        """Positions of the images of a split."""
        return self.splits.indices(split)

    def labels(self, split: str) -> np.ndarray:
        """Int (n,) of a split."""
        return self.manifest.labels[self.rows(split)]


def run_stage(stage: Stage, material: Material, checkpoint: Checkpoint, story: Story) -> State:
    """Run one stage to its end, or take its result where it already ended; the layers hold it afterwards."""
    model = stage_model(stage, material)
    state = checkpoint.read()
    if state.done:
        checkpoint.load_weights(model, state.best)
        story.say(f"  {stage.name}: done before")
        return state
    if stage.method == "lbfgs":
        return _solve(stage, material, checkpoint, story)
    steps = -(-len(material.rows("train")) // material.config.batch_size) * stage.epochs
    learn: int | Literal["all"] = "all" if stage.name == "all" else stage.blocks
    unfreeze_and_compile(
        model,
        material.config,
        blocks=material.backbone.blocks,
        learn=learn,
        learning_rate=stage.learning_rate,
        steps=steps,
    )
    labels = material.labels("train")
    examples = Examples(
        _training_reader(stage, material),
        labels,
        balanced_weights(labels, material.classes, material.config.balance),
        classes=material.classes,
        batch_size=material.config.batch_size,
        seed=material.config.seed,
        epoch=state.epoch,
    )
    validation = Validation(read=_plain_reader(stage, material, material.rows("val")), labels=material.labels("val"))
    return fit(
        model,
        examples,
        validation,
        stage=stage.name,
        epochs=stage.epochs,
        patience=material.config.patience,
        checkpoint=checkpoint,
        story=story,
    )


def stage_model(stage: Stage, material: Material) -> keras.Model:
    """The part of the classifier that the stage trains, sharing its layers."""
    whole = material.classifier.model
    if stage.source == "features":
        return material.head.model
    if stage.source == "cut":
        return keras.Model(whole.get_layer(stage.cut).output, whole.output, name="suffix")
    return whole


def logits(stage: Stage, material: Material, story: Story) -> np.ndarray:
    """Logits float32 (N, K) of every image, from as far up the network as is stored after this stage."""
    if stage.source == "pixels":
        files = [material.manifest.file(i) for i in range(len(material.manifest))]
        engine = build_engine(material.classifier.model)
        contract = material.classifier.facts.contract
        _, outputs, _ = infer(engine, files, contract, description="predicting", story=story)
        return outputs
    return predict(
        stage_model(stage, material),
        _plain_reader(stage, material, np.arange(len(material.manifest))),
        len(material.manifest),
    )


def _training_reader(stage: Stage, material: Material) -> Reader:
    if stage.source == "pixels":
        train = material.manifest.select(material.rows("train"))
        return PixelReader(train, material.classifier.facts.contract, material.augmentation)
    return stored_reader(material.views[stage.source], material.config.seed)


def _plain_reader(stage: Stage, material: Material, rows: np.ndarray) -> Reader:
    """The images at these rows themselves, whatever the epoch."""
    if stage.source == "pixels":
        part = material.manifest.select(rows)
        return PixelReader(part, material.classifier.facts.contract, Augmentation(strength="none"))
    stored = material.features if stage.source == "features" else material.cut
    return lambda positions, epoch: stored[rows[positions]]


def _solve(stage: Stage, material: Material, checkpoint: Checkpoint, story: Story) -> State:
    """The convex head: solved, not trained."""
    started = time.monotonic()
    rows, labels = material.rows("train"), material.labels("train")
    views = material.views["features"]
    everything = np.arange(len(rows))
    probe = fit_probe(
        [view[everything] for view in views],
        labels,
        units=material.groups[rows],
        weights=balanced_weights(labels, material.classes, material.config.balance),
        strength=1 / (material.config.l2 * len(rows)) if material.config.l2 else None,
        seed=material.config.seed,
    )
    material.head.model.get_layer("logits").set_weights([probe.kernel, probe.bias])
    train = Validation(read=lambda positions, epoch: views[0][positions], labels=labels).measure(material.head.model)
    held = Validation(read=_plain_reader(stage, material, material.rows("val")), labels=material.labels("val"))
    score, seconds = held.measure(material.head.model), time.monotonic() - started
    row = {
        "stage": stage.name,
        "epoch": 1,
        "loss": train and train[1],
        "accuracy": train and train[0],
        "val_loss": score and score[1],
        "val_accuracy": score and score[0],
        "learning_rate": None,
        "seconds": round(seconds, 3),
    }
    state = State(
        epoch=1,
        best=checkpoint.save_weights(material.head.model, "best-0001"),
        best_epoch=1,
        best_score=score and rank(score),
        history=(row,),
        seconds=seconds,
    )
    if score:
        story.say(f"  {stage.name}: validation accuracy {score[0]:.4f}, loss {score[1]:.4f} ({seconds:.1f} s)")
    return checkpoint.finish(state, f"solved; {probe.rule}")
