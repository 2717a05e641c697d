"""The network of a run, its stored outputs, and the stages, each of which starts from what the one before it kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from tlkit.backbones.build import Backbone, build_backbone
from tlkit.backbones.runtime import refuse_unshared, sharing
from tlkit.backbones.weight_files import is_path
from tlkit.base.errors import TlkitError
from tlkit.base.story import Story, counted
from tlkit.classifier.facts import ClipFacts, Facts
from tlkit.classifier.heads.build import POOLS, Head, build_head, build_time_head, pool, put_mean
from tlkit.classifier.model import Classifier, compose, compose_clips, with_features
from tlkit.data.clips import Clips
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import contract_for
from tlkit.data.views import CENTRE, Augmentation
from tlkit.extraction.engine import as_bytes, build_engine, enduring, infer, of_bytes, settle_engine
from tlkit.extraction.extract import Extraction
from tlkit.extraction.source import FeatureSource, Tap
from tlkit.extraction.store import Rows
from tlkit.options.commands import FinetuneConfig
from tlkit.runs.history import history_row
from tlkit.training.balance import ADJUSTING, TAU, image_weights, log_prior, solved
from tlkit.training.checkpoint import Checkpoint, State
from tlkit.training.examples import Examples, Mixing, PixelReader, Reader, computed_reader, stored_reader
from tlkit.training.fit import Epoch, Steps, Stopping, Validation, fit, rank
from tlkit.training.minutes import Budget
from tlkit.training.optimizer import Updates, unfreeze_and_compile
from tlkit.training.passes import EVALUATION_BATCH, compiled, predict
from tlkit.training.plan import SOLVED, Plan, Stage, useful_epochs


@dataclass(frozen=True, kw_only=True)
class Material:
    """The input of every stage. Pickled, it includes its network and its rows; image files are read where they are.

    Args:
        config: the options.
        backbone, head, classifier: sharing their layers.
        manifest, splits: the images.
        stored: rows of all the images themselves, by what is stored (`features`, `cut`).
        augmentation: defines a view, stored or fresh.
        views: rows of views of the training images, by the same names; view 0 first.
        groups: int (N,); images with the same number share a fold.
        tau: strength of an adjustment of the logits, see `balance`.
        drawn: features drawn for rare classes and their labels, likewise; None where there are none.
        models: see `stage_model`.
    """

    config: FinetuneConfig
    backbone: Backbone
    head: Head
    classifier: Classifier
    dataset: Dataset
    splits: Splits
    stored: Mapping[str, Rows]
    augmentation: Augmentation
    views: Mapping[str, Sequence[Rows]]
    groups: np.ndarray
    tau: float = TAU
    drawn: tuple[np.ndarray, np.ndarray] | None = None
    models: dict[tuple[str, str], keras.Model] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        whole = {"backbone": replace(self.backbone, model=None, summary=None), "head": replace(self.head, model=None)}
        models = {name: as_bytes(getattr(self, name).model) for name in whole}
        others = {name: value for name, value in vars(self).items() if name not in ("classifier", "models")}
        return _unpacked, (others | whole | {"dataset": self.dataset.absolute()}, models, self.classifier.facts)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.dataset.classes)

    def rows(self, split: str) -> np.ndarray:
        """Positions of the images of a split."""
        return self.splits.indices(split)

    def labels(self, split: str) -> np.ndarray:
        """Int (n,) of a split; or (n, K), 1 where an image has the class, where it may have several."""
        return self.dataset.truth[self.rows(split)]


def _unpacked(parts: dict[str, Any], models: dict[str, bytes], facts: Facts) -> Material:
    """Restore a pickled material: its network is rebuilt from files of its two models."""
    parts |= {name: replace(parts[name], model=of_bytes(content)) for name, content in models.items()}
    given = parts["backbone"], parts["head"], facts.classes, facts.contract
    classifier = compose_clips(*given, facts.clip, facts.task) if facts.clip else compose(*given, facts.task)
    return Material(**parts, classifier=classifier)


def groups_of_all(dataset: Dataset) -> np.ndarray:
    """Int (N,), equal for images that share a fold: those of a group, or exact copies where there are no groups."""
    contents = np.ascontiguousarray(dataset.sha256).view("V32").ravel()
    return np.unique(contents if dataset.groups is None else dataset.groups, return_inverse=True)[1]


class Ready(NamedTuple):
    """The model of a stage, compiled for it, and its epoch, traced."""

    model: keras.Model
    epoch: Epoch


def run_stage(
    stage: Stage,
    material: Material,
    checkpoint: Checkpoint,
    story: Story,
    budget: Budget | None = None,
    ready: Ready | None = None,
) -> State:
    """Run one stage to its end, or load its result where it already ended; the layers hold it afterwards.

    With a budget of time, a stage after the head has as many epochs as fit into what is left of it. A stage that is `ready`
    is not compiled again.
    """
    model = ready.model if ready else stage_model(stage, material)
    state = checkpoint.read()
    if state.done:
        checkpoint.load_weights(bare_model(stage, material), state.best)
        story.say(f"  {stage.name}: done before")
        return state
    if stage.method in SOLVED:
        return _solve(stage, model, material, checkpoint, story)
    examples = examples_of(stage, material)
    return fit(
        model,
        Steps(compiler(model, stage, material, examples), stage.precision, ready and ready.epoch),
        examples,
        Validation(read=plain_reader(stage, material, material.rows("val")), labels=material.labels("val")),
        stage=stage.name,
        stopping=_stopping(stage, material, examples, budget, story),
        checkpoint=checkpoint,
        story=story,
    )


def _stopping(
    stage: Stage,
    material: Material,
    examples: Examples,
    budget: Budget | None,
    story: Story,
) -> Stopping:
    """Stopping as planned; with a budget, as many epochs as there is time for, and a schedule that is not ended early."""
    if budget is None or stage.name == "head":
        patience, expected = material.config.patience, stage.seconds
        return Stopping(epochs=stage.epochs, patience=patience, least=stage.least, expected=expected)
    most = useful_epochs(len(examples.labels), examples.batch_size)
    epochs = budget.begin(stage.seconds / stage.epochs, most)
    story.say(f"  {stage.name}: {max(0, round(budget.left))} s left for training, about {counted(epochs, 'epoch')}")
    return Stopping(epochs=epochs, budget=budget)


def compiler(model: keras.Model, stage: Stage, material: Material, examples: Examples) -> Callable[[int], None]:
    """A function that compiles the stage's model for updates with so many parts."""
    adjusts = material.config.balance in ADJUSTING
    added = log_prior(examples.labels, examples.classes, material.tau) if adjusts else None
    learn: int | Literal["all"] = "all" if stage.name == "all" else stage.blocks

    def compile_for(parts: int) -> None:
        unfreeze_and_compile(
            model,
            material.config,
            blocks=material.backbone.blocks,
            learn=learn,
            updates=Updates(
                stage.learning_rate, examples.updates * stage.epochs, parts, stage.centralize, stage.warm_up
            ),
            skipped=stage.skipped,
            added=added,
            task=examples.task,
        )

    return compile_for


def compiled_epoch(model: keras.Model, stage: Stage, material: Material, examples: Examples, precision: str) -> Epoch:
    """An epoch of a model that is compiled for a stage."""
    steps = Steps(compiler(model, stage, material, examples), precision)
    steps.compile_for(examples.parts)
    return steps.epoch(model, examples)


def made_ready(stage: Stage, material: Material, examples: Examples) -> Ready:
    """Compile a stage's model for these examples."""
    model = stage_model(stage, material)
    return Ready(model, compiled_epoch(model, stage, material, examples, stage.precision))


def examples_of(stage: Stage, material: Material) -> Examples:
    """The training images as the stage reads them."""
    labels, config = material.labels("train"), material.config
    return Examples(
        read=_training_reader(stage, material),
        labels=labels,
        weights=image_weights(labels, material.classes, config.balance),
        equally=config.balance == "sample",
        classes=material.classes,
        batch_size=config.batch_size * config.accumulate,
        seed=config.seed,
        parts=stage.parts,
        mixing=None if stage.mix == "none" else Mixing(stage.mix, config.seed),
        devices=sharing(material.classifier.model).devices,
        passes=stage.passes,
    )


def stage_model(stage: Stage, material: Material) -> keras.Model:
    """The part of the classifier that the stage trains, sharing its layers; the classifier itself stays uncompiled.

    It is the same object each time, so that what was traced to measure a stage is reused to compare stages.
    """
    if stage.name in ("head", "time"):  # the head that reads the order is added to the solved mean
        material.head.model.get_layer("logits").trainable = stage.name == "head"
    if stage.name == "head" and material.dataset.clips is None:
        return material.head.model
    key = (stage.name, stage.cut)
    if key not in material.models:
        material.models[key] = bare_model(stage, material)
    return material.models[key]


def bare_model(stage: Stage, material: Material) -> keras.Model:
    """The same layers in an uncompiled model: files are read into it and written from it without an optimizer."""
    whole, head = material.classifier.model, material.head.model
    if stage.name == "head":  # for clips, only the mean over time: the head that reads the order is not trained yet
        return head if material.dataset.clips is None else keras.Model(head.input, head.get_layer("logits").output)
    if stage.name == "time":
        return keras.Model(head.input, head.output, name=stage.name)
    start = whole.get_layer(stage.cut).output if stage.cut else whole.input
    return keras.Model(start, whole.output, name=stage.name)


def frozen_model(stage: Stage, material: Material) -> keras.Model:
    """The frozen network between the images and the part that the stage trains."""
    model, head = material.backbone.model, material.head
    if stage.name == "top":
        return keras.Model(model.input, model.get_layer(stage.cut).output)
    return keras.Model(model.input, pool(model.output, head.pooling)) if head.reads == "pooled" else model


def logits(stage: Stage, material: Material, story: Story) -> np.ndarray:
    """Logits float32 (N, K) of every image, from the last output of the network that is stored after this stage."""
    if stage.source == "pixels":
        files, config, contract = material.dataset.files, material.config, material.classifier.facts.contract
        model = material.classifier.model
        engine = settle_engine(model, files, contract, engine=config.engine, precision=config.precision, story=story)
        _, (outputs,), _ = infer(engine, files, contract, description="predicting", story=story)
        return outputs
    if stage.source == "cut" and material.dataset.clips is None:
        return _from_the_cut(stage, material, story)
    rows = np.arange(len(material.dataset))
    return predict(stage_model(stage, material), plain_reader(stage, material, rows), len(rows))


def _from_the_cut(stage: Stage, material: Material, story: Story) -> np.ndarray:
    """Logits of every image. The features computed on the way are stored, since they are needed next."""
    classifier, dataset = material.classifier, material.dataset
    both = keras.Model(classifier.model.get_layer(stage.cut).output, with_features(classifier).outputs)
    engine, rows = enduring(build_engine(both), story), np.arange(len(dataset))
    read = plain_reader(stage, material, rows)
    parts = (rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH))
    scores = []
    with FeatureSource.of_classifier(classifier).keeping(dataset, story) as keep:
        for part, (said, features) in engine.ahead(parts, lambda part: read(part, -1)):
            keep(part, features)
            scores.append(said)
    return np.concatenate(scores)


def held_out(stage: Stage, material: Material) -> Callable[[], np.ndarray]:
    """A function for the logits float32 (n, K) of the validation images, by the weights of the layers when it is called."""
    model, rows = stage_model(stage, material), material.rows("val")
    read, call = plain_reader(stage, material, rows), compiled(model, len(rows))
    return lambda: predict(model, read, len(rows), call=call)


def _training_reader(stage: Stage, material: Material) -> Reader:
    """Views of the training images: drawn from the stored ones, or a fresh one every epoch."""
    if stage.views:
        return stored_reader(material.views[stage.source], material.config.seed)
    return _pixel_reader(stage, material, material.rows("train"), material.augmentation)


def plain_reader(stage: Stage, material: Material, rows: np.ndarray) -> Reader:
    """The images at these rows themselves, in every epoch."""
    if stage.source == "pixels":
        return _pixel_reader(stage, material, rows, Augmentation(strength="none"))
    stored = material.stored[stage.source]
    return lambda positions, epoch: stored[rows[positions]]


def _pixel_reader(stage: Stage, material: Material, rows: np.ndarray, augmentation: Augmentation) -> Reader:
    """The images at these rows, decoded, and run through what the stage leaves frozen."""
    pixels = PixelReader(material.dataset.select(rows), material.classifier.facts.contract, augmentation)
    if stage.name != "head" and not stage.cut:
        return pixels
    return computed_reader(pixels, build_engine(frozen_model(stage, material)))


def _solve(stage: Stage, model: keras.Model, material: Material, checkpoint: Checkpoint, story: Story) -> State:
    """Solve the convex head."""
    started = time.monotonic()
    labels, views = material.labels("train"), material.views["features"]
    probe = solved(material, lambda part: story.reach(part, 1.0))
    put_mean(material.head, probe.kernel, probe.bias)
    train = Validation(read=lambda positions, epoch: views[0][positions], labels=labels).measure(model)
    held = Validation(read=plain_reader(stage, material, material.rows("val")), labels=material.labels("val"))
    score, seconds = held.measure(model), time.monotonic() - started
    row = history_row(stage.name, 1, train=train, held_out=score, seconds=round(seconds, 3))
    state = State(
        epoch=1,
        best=checkpoint.save_weights(model, "epoch-0001"),
        best_epoch=1,
        best_score=score and rank(score),
        history=(row,),
        seconds=seconds,
    )
    if score:
        story.say(f"  {stage.name}: validation {held.name} {score[0]:.4f}, loss {score[1]:.4f} ({seconds:.1f} s)")
    return checkpoint.finish(state, f"solved; {probe.rule}")


# -- The network of a run: backbone, head, the two composed; which of its outputs are stored, and for which images ---


@dataclass(frozen=True)
class Parts:
    """The network and its input contract."""

    backbone: Backbone
    head: Head
    classifier: Classifier
    contract: InputContract

    def facts(self) -> dict[str, Any]:
        """For the record of a run."""
        named = {"name": self.backbone.name, "weights": self.backbone.weights, "sha256": self.backbone.weights_sha256}
        return {"backbone": named, "contract": self.contract.as_json()}

    @property
    def feature(self) -> Tap:
        """The input of the head."""
        return Tap.for_head(self.classifier.facts.grid_layer, self.head.reads, self.head.pooling)

    def is_stored(self, dataset: Dataset, config: FinetuneConfig) -> bool:
        """Whether the store has the input of the head for every image already."""
        source = FeatureSource.of_backbone(self.backbone, self.contract, self.feature).asked(config)
        return source.begun and not source.stored(dataset.members.sha256).lacking.any()

    def stored(self, plan: Plan) -> dict[str, Tap]:
        """The outputs that the plan stores, `features` and `cut`, and where in the network they are."""
        names = {"features": lambda stage: self.feature, "cut": lambda stage: Tap(stage.cut)}
        return {stage.source: names[stage.source](stage) for stage in plan.stages if stage.source in names}

    def frozen(self, plan: Plan, config: FinetuneConfig) -> FeatureSource | None:
        """The outputs computed once, in one pass: the input of the head and, for the top stage, the output at the cut."""
        taps = self.stored(plan).values()
        return FeatureSource.of_backbone(self.backbone, self.contract, *taps).asked(config) if taps else None


def build_parts(
    config: FinetuneConfig,
    dataset: Dataset,
    story: Story,
    *,
    contract: InputContract | None = None,
    structure_only: bool = False,
) -> Parts:
    """Build the network.

    Args:
        config: which backbone, weights, size and head.
        dataset: with the classes to learn.
        story: reports a download.
        contract: how images become pixels, of a resumed run; by default settled on the images.
        structure_only: with random weights in place of pretrained ones of the catalogue, which need not be available.
    """
    weights = (
        "none" if structure_only and config.weights == "imagenet" and not is_path(config.backbone) else config.weights
    )
    backbone = build_backbone(
        config.backbone, weights=weights, image_size=config.image_size, seed=config.seed, story=story
    ).read_as(config.pooling)
    refuse_unshared(backbone.model, config.devices)
    contract = contract or contract_for(config, backbone.image_size, dataset, story)
    fewest = dataset.task.fewest
    if dataset.clips is not None:
        return _of_clips(config, backbone, contract, dataset, dataset.clips)
    head = build_head(config, backbone.grid_shape, len(dataset.classes), seed=config.seed, fewest=fewest)
    return Parts(backbone, head, compose(backbone, head, dataset.classes, contract, dataset.task), contract)


def _of_clips(
    config: FinetuneConfig, backbone: Backbone, contract: InputContract, dataset: Dataset, clips: Clips
) -> Parts:
    """The network of clips."""
    task, stride = dataset.task, clips.sampling.stride
    clip = ClipFacts(frames=clips.length, stride=stride, time=config.over_time, pooling=config.pooling)
    channels = backbone.grid_shape[-1] * len(POOLS[config.pooling])
    head = build_time_head(
        config, clip.time, (clip.frames, channels), len(dataset.classes), seed=config.seed, fewest=task.fewest
    )
    classifier = compose_clips(backbone, head, dataset.classes, contract, clip, task)
    return Parts(backbone, head, classifier, contract)


def gather(
    config: FinetuneConfig, parts: Parts, plan: Plan, dataset: Dataset, splits: Splits, story: Story
) -> Material:
    """Everything the stages read: rows of every image, and of the planned views of training images.

    Raises:
        TlkitError: a file can no longer be read.
    """
    train, augmentation = (
        splits.indices("train"),
        Augmentation(strength=config.augment, flip=config.flip, seed=config.seed),
    )
    views = range(max(1, *(stage.views for stage in plan.stages)))
    source, features = parts.frozen(plan, config), {}
    if source is not None:
        found = source.extract(dataset, views=views, viewed=train, augmentation=augmentation, story=story)
        _refuse_lost(found)
        more = f" and {len(views) - 1} more of each of {len(train)} training images" if len(views) > 1 else ""
        story.say(f"a view of each of {len(dataset.members)} {dataset.pictures}{more}: {found.sentence()}")
        features = found.features
    seen: Mapping[str, list[Any]] = {
        name: [features[tap.name, view] for view in views] for name, tap in parts.stored(plan).items()
    }
    return Material(
        config=config,
        backbone=parts.backbone,
        head=parts.head,
        classifier=parts.classifier,
        dataset=dataset,
        splits=splits,
        stored={name: rows[CENTRE] for name, rows in seen.items()},
        augmentation=augmentation,
        views={name: [one.select(train) for one in rows] for name, rows in seen.items()},
        groups=groups_of_all(dataset),
    )


def _refuse_lost(found: Extraction) -> None:
    """Raise for a file that cannot be read; every file was readable before, so it has changed since."""
    if found.problems:
        lost = found.problems[0]
        raise TlkitError(
            f"{lost.path!r} could be read a moment ago and cannot be now: {lost.reason}.", "restore it, then resume."
        )
