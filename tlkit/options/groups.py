"""Groups of options that several commands share, mixed into each command's class."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from tlkit.base.errors import NoEffect, TlkitError, unknown_name
from tlkit.options import catalog
from tlkit.options.option import Options, option
from tlkit.options.training import HeadOptions as HeadOptions  # every group is found here
from tlkit.options.training import TrainingOptions as TrainingOptions


def parse_levels(text: str) -> tuple[float, float] | None:
    """Parse `LOW,HIGH` into two numbers; None for `auto`, which is determined from the images.

    Raises:
        TlkitError: if it is neither.
    """
    if text == "auto":
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high:
        raise TlkitError(
            f"--levels {text}: expected LOW,HIGH with LOW below HIGH, or auto.",
            "--levels 0,4095 for 12-bit values in 16-bit files.",
        )
    return low, high


@dataclass(frozen=True, kw_only=True)
class FixOptions(Options):
    """Corrections to apply while the images are read."""

    fixes: str | None = option(
        None,
        "CSV of labels to change and images to drop (path,action,label,reason), as `tlkit audit --write-fixes` "
        "writes it; no image file is touched.",
        group="Data",
    )
    fix_held_out: bool = option(
        False,
        "Apply the label changes of --fixes to validation and test images too; by default only to training images.",
        group="Data",
    )

    def check(self) -> None:
        """Refuse --fix-held-out without --fixes."""
        super().check()
        if self.fix_held_out and not self.fixes:
            raise TlkitError("--fix-held-out has no fixes to apply.", "name a file of fixes: --fixes FILE.")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FixOptions):
    """How images are decoded and resized, and their task."""

    fit: str = option(
        "squash",
        "How an image is brought to the input size: squash both sides, crop the centre, or pad.",
        choices=catalog.FITS,
        group="Data",
    )
    image_size: int | None = option(
        None, "Side of the input in pixels; default: the backbone's native size.", low=16, high=4096, group="Data"
    )
    levels: str | None = option(
        None,
        "Sample values taken as black and white in files of more than 8 bits: LOW,HIGH (0,4095 for 12 bits in 16-bit "
        "files), or auto, the smallest and largest in the data set; default: what each file declares.",
        group="Data",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    classes: tuple[str, ...] | None = option(
        None,
        "Class names in index order, comma-separated, a name with a comma in quotation marks ('\"cat, black\",dog'); "
        "default: sorted folder names.",
        group="Data",
    )
    task: str = option(
        "auto",
        "What is predicted for an image: single (one class), multi (any number of labels), ordinal (one of "
        "--classes, in order), number (the --target columns of a table); auto decides from the labels of the images.",
        choices=catalog.TASKS,
        group="Data",
    )
    target: tuple[str, ...] | None = option(
        None,
        "Columns of the table with the numbers to predict with --task number, comma-separated; default: `target`.",
        group="Data",
    )

    def check(self) -> None:
        """Refuse levels that are not a range, and --classes or --target that contradict --task."""
        super().check()
        self._check_task()
        if self.levels is not None:
            parse_levels(self.levels)

    def _check_task(self) -> None:
        if self.task == "ordinal" and self.classes is None:
            raise TlkitError(
                "--task ordinal needs the order of the classes.",
                "name all of them, the lowest first: --classes none,mild,severe.",
            )
        if self.task == "number" and self.classes is not None:
            raise TlkitError(
                f"--classes {','.join(self.classes)} names classes, and --task number has none.",
                "name the columns of the numbers: --target age,weight.",
            )
        if self.target is not None and self.task != "number":
            raise TlkitError(
                f"--target {','.join(self.target)} names columns of numbers, and --task is {self.task}.",
                "use --task number, or drop --target.",
            )
        asked = self.target or ()
        if twice := [name for name in asked if asked.count(name) > 1]:
            raise TlkitError(f"--target names {twice[0]!r} twice.", "name every column once.")


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """The split into training, validation and test images."""

    val: float = option(0.15, "Fraction of each class held out for validation.", low=0, high=0.9, group="Split")
    test: float = option(0.15, "Fraction of each class held out for test.", low=0, high=0.9, group="Split")
    group_by: str | None = option(
        None,
        "Groups of images that stay within one split: a column of the table, or a regular expression on the path "
        "whose first group is the group's name.",
        group="Split",
    )
    keras_split: float | None = option(
        None,
        "Reproduce image_dataset_from_directory's validation_split with this fraction and --seed; no test split.",
        low=0,
        high=0.9,
        group="Split",
    )
    seed: int = option(0, "Seed of all randomness.", low=0, high=2**31 - 1, group="Split")

    def check(self) -> None:
        """Require at least a tenth of the images for training."""
        super().check()
        if self.val + self.test > 0.9:
            raise TlkitError(
                f"--val {self.val} and --test {self.test} leave less than a tenth for training.", "lower one of them."
            )
        for name in ("val", "test") if self.keras_split is not None else ():
            if (asked := getattr(self, name)) != getattr(SplitOptions, name):
                raise NoEffect(
                    name,
                    f"--{name} {asked} has no effect with --keras-split {self.keras_split}, which sets the fraction "
                    "held out.",
                    "drop one of the two.",
                )


@dataclass(frozen=True, kw_only=True)
class JudgementOptions(Options):
    """Abstention, and slices on which accuracy is measured."""

    target_precision: float | None = option(
        None,
        "Precision that predictions must demonstrably reach on the validation images, such as 0.98; the classifier "
        "abstains below the confidence that achieves it.",
        low=0.01,
        high=0.9999,
        group="Evaluation",
    )
    slice_by: tuple[str, ...] | None = option(
        None,
        "Columns of the image table, comma-separated, by which accuracy is also measured on slices. "
        "Slices by class, image size and brightness are always measured.",
        group="Evaluation",
    )


@dataclass(frozen=True, kw_only=True)
class LogOptions(Options):
    """Experiment trackers."""

    log: tuple[str, ...] | None = option(
        None,
        "Experiment trackers to log the finished run to, comma-separated: mlflow, wandb; each uses its own settings "
        "(MLFLOW_TRACKING_URI, WANDB_MODE).",
        choices=catalog.TRACKERS,
        group="Output",
    )


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Options):
    """Which frames are taken from samples that are clips."""

    frames: int | None = option(
        None,
        "The samples are clips (films or folders of frames, in class folders or listed in a table): take at most "
        "this many frames of each, evenly spaced.",
        low=1,
        high=1024,
        group="Clips",
    )
    stride: int | None = option(
        None,
        "The samples are clips: take every N-th frame; default: every frame.",
        low=1,
        high=1000,
        group="Clips",
    )

    @property
    def samples_are_clips(self) -> bool:
        """Whether clips were requested; a table may hold clips regardless."""
        return self.frames is not None or self.stride is not None


@dataclass(frozen=True, kw_only=True)
class ClipOptions(FrameOptions):
    """Clips, and how their frames are combined."""

    time: str | None = option(
        None,
        "The samples are clips, of 16 frames unless --frames is given: the head that reads the frames in order; it "
        "is compared with the mean over time and kept only if better. Default: conv1d.",
        choices=catalog.TIMES,
        group="Clips",
    )

    @property
    def over_time(self) -> str:
        """The head over time: as requested, else the default."""
        return self.time or catalog.TIME

    @property
    def most_frames(self) -> int:
        """T, the maximum frames per clip: as requested, else the default."""
        return self.frames or catalog.FRAMES

    @property
    def samples_are_clips(self) -> bool:
        """Whether clips were requested."""
        return self.time is not None or super().samples_are_clips


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(Options):
    """The pretrained network."""

    backbone: str = option(
        "mobilenetv2",
        "A name from `tlkit backbones`, with variants (mobilenetv2:alpha=0.35), a path to a .keras file, or a "
        "KerasHub preset (hub:resnet_18_imagenet).",
        group="Backbone",
    )
    weights: str = option(
        "imagenet", "imagenet, none (random), or a path to a .h5, .weights.h5 or .keras file.", group="Backbone"
    )

    def check(self) -> None:
        """Require a backbone of the catalogue, a file or a preset."""
        super().check()
        if not self.backbone.endswith(".keras") and catalog.family_of(self.backbone) is None:
            catalog.backbone_row(self.backbone)


@dataclass(frozen=True, kw_only=True)
class MovedOptions(Options):
    """Where the images of a run are now."""

    moved_to: str | None = option(
        None,
        "New place of the run's own images, if they were moved: the folder, or the table. The run remembers it.",
        group="Data",
        flag="images",
    )


@dataclass(frozen=True, kw_only=True)
class StoreOptions(Options):
    """How computed features are stored."""

    stored_as: str = option(
        "float32",
        "How computed features are stored: float32, or float16 for half the disk space at three significant digits.",
        choices=catalog.STORED_AS,
        group="Store",
    )


@dataclass(frozen=True, kw_only=True)
class EngineOptions(Options):
    """The engine and precision of forward passes."""

    engine: str = option(
        "auto",
        "Engine that computes features and predictions: auto takes the fastest on this machine and reports it.",
        choices=catalog.ENGINES,
        group="Inference",
    )
    precision: str = option(
        "float32",
        "Precision of features, predictions and, in finetune, of training steps; auto tries bfloat16 on a few images "
        "and uses it if it is 1.2 times as fast and agrees.",
        choices=catalog.PRECISIONS,
        group="Inference",
    )


@dataclass(frozen=True, kw_only=True)
class AnsweringOptions(EngineOptions):
    """The engine that computes the predictions of a finished classifier."""

    engine: str = option(
        "auto",
        "Engine that computes predictions: auto takes the ONNX file kept in the run, which needs no TensorFlow, else "
        "Keras, and reports which.",
        choices=catalog.ANSWERING,
        group="Inference",
    )


# -- Test-time augmentation, for commands that predict ------------------

MOST_VIEWS = 12


@dataclass(frozen=True, kw_only=True)
class TtaOptions(Options):
    """Test-time augmentation."""

    tta: int = option(
        1,
        "Views of each image over which probabilities are averaged (test-time augmentation): 2 adds the mirror "
        "image, more add light crops; time grows in proportion.",
        low=1,
        high=MOST_VIEWS,
        group="Inference",
    )


# -- How the weights of a run are chosen: on held-out images, or by cross-validation ------------


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """How the choice between the probe and fine-tuned weights is validated."""

    validate: str = option(
        "auto",
        "How the choice of weights is validated: split (held-out images), folds (cross-validation, so that every "
        "image trains), or auto, which takes folds if fewer than 30 images would be held out.",
        choices=catalog.VALIDATIONS,
        group="Training",
    )

    def check(self) -> None:
        """Refuse folds with options that need validation images."""
        super().check()
        if self.validate == "folds":
            for name in VALIDATION_IMAGES:
                if getattr(self, name) is not None:
                    raise TlkitError(
                        f"--{name.replace('_', '-')} needs validation images, but --validate folds holds none out.",
                        "drop one of the two.",
                    )


VALIDATION_IMAGES = ("target_precision", "minutes", "keras_split")
"""Options that need validation images, or themselves decide which images validate."""


# -- Work shared by several processes -----------------------------


class Portion(NamedTuple):
    """Shard `number`, 1..`of`, of the images; an image's shard depends only on its content."""

    number: int = 1
    of: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all of the images."""
        return self.of == 1


ALL = Portion()
MOST_SHARDS = 100_000


def parse_shard(text: str | None) -> Portion:
    """Parse `I/N`; None gives all images.

    Raises:
        TlkitError: if I is not in 1..N.
    """
    if text is None:
        return ALL
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    share = Portion(int(found[1]), int(found[2])) if found else Portion(0)
    if not 1 <= share.number <= share.of <= MOST_SHARDS:
        raise TlkitError(
            f"--shard {text}: expected I/N with I from 1 to N, and N at most {MOST_SHARDS:,}.",
            "--shard 2/4 is the second of four; in an array job that counts from 0, add 1.",
        )
    return share


def parse_executor(text: str) -> tuple[str, str]:
    """Split `NAME[:ADDRESS]` into its two parts; "" if there is no address.

    Raises:
        TlkitError: for an unknown executor, or an address after `here`.
    """
    name, _, address = text.partition(":")
    if name not in catalog.EXECUTORS:
        raise unknown_name("an executor (--executor)", name, catalog.EXECUTORS)
    if name == "here" and text != name:
        raise TlkitError(f"--executor {text}: here takes no address.", "--executor ray:ADDRESS, or leave it out.")
    if text.endswith(":"):
        raise TlkitError(
            f"--executor {text}: the address is missing.", f"--executor {name}:HOST:PORT, or {name} alone."
        )
    return name, address


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions(Options):
    """Where features and cross-validation folds are computed."""

    executor: str = option(
        "here",
        "Where features missing from the store are computed: here (this process), ray (a worker for each core of "
        "this machine) or ray:ADDRESS (the workers of a cluster: HOST:PORT, or auto), which read the images at the "
        "same paths.",
        group="Scaling",
    )

    def check(self) -> None:
        """Require a known executor."""
        super().check()
        parse_executor(self.executor)


@dataclass(frozen=True, kw_only=True)
class ShardOptions(ExecutorOptions, EngineOptions):
    """Work divided among processes, on one machine or many, that share one store."""

    shard: str | None = option(
        None,
        "Compute the I-th of N shards of the images (I/N, from 1) into the store and write nothing else; shards "
        "depend on image content, run in any order on any machine, and the same command without --shard then only "
        "gathers.",
        group="Scaling",
    )

    def check(self) -> None:
        """Require one precision for all shards."""
        super().check()
        if self.shard is not None and parse_shard(self.shard) and self.precision == "auto":
            raise TlkitError(
                f"--shard {self.shard} with --precision auto: shards could end up in different precisions.",
                "choose one: --precision float32.",
            )
