"""Options that several commands share, in groups; a command's own class mixes them in."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from tlkit.base.errors import NoEffect, TlkitError, unknown_name
from tlkit.options import catalog
from tlkit.options.option import Options, option
from tlkit.options.training import HeadOptions as HeadOptions  # every group is found here
from tlkit.options.training import TrainingOptions as TrainingOptions


def parse_levels(text: str) -> tuple[float, float] | None:
    """`LOW,HIGH` as two numbers; None for `auto`, which is settled on the images.

    Raises:
        TlkitError: neither.
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
    """What is wrong with the images, and is to be put right while they are read."""

    fixes: str | None = option(
        None,
        "Labels to change and images to drop, listed in a CSV (path,action,label,reason) as `tlkit audit --write-fixes` "
        "writes it; no file is touched.",
        group="Data",
    )
    fix_held_out: bool = option(
        False,
        "Change labels of validation and test images too, as --fixes says; otherwise only training images get new labels.",
        group="Data",
    )

    def check(self) -> None:
        """Nothing is fixed without a file of fixes."""
        super().check()
        if self.fix_held_out and not self.fixes:
            raise TlkitError("--fix-held-out has no fixes to apply.", "give a file of them: --fixes FILE.")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(FixOptions):
    """The images, and how they are decoded and resized."""

    fit: str = option(
        "squash",
        "How an image is brought to the input size: squash both sides, crop the centre, or pad.",
        choices=catalog.FITS,
        group="Data",
    )
    image_size: int | None = option(
        None, "Side of the input in pixels; the backbone's native size unless given.", low=16, high=4096, group="Data"
    )
    levels: str | None = option(
        None,
        "Sample values that are black and white in files of more than 8 bits: LOW,HIGH (0,4095 for 12 bits in 16-bit "
        "files), or auto, the least and greatest of the set; what each file declares unless given.",
        group="Data",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    classes: tuple[str, ...] | None = option(
        None,
        "Class names in index order, comma-separated, one with a comma in quotation marks ('\"cat, black\",dog'); sorted folder names unless given.",
        group="Data",
    )
    task: str = option(
        "auto",
        "What is predicted for an image: single (one class), multi (any number of labels), ordinal (one of --classes, which have "
        "an order), number (the columns --target of a table); auto decides by the labels of the images.",
        choices=catalog.TASKS,
        group="Data",
    )
    target: tuple[str, ...] | None = option(
        None,
        "Columns of the table that hold the numbers of --task number, comma-separated; `target` unless given.",
        group="Data",
    )

    def check(self) -> None:
        """Levels are a range; an order is given, and columns are of numbers."""
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
                "say --task number, or drop it.",
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
        "Groups that stay within one split: a column of the table, or a regular expression on the path whose first group names them.",
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
        """The fractions must leave training images."""
        super().check()
        if self.val + self.test > 0.9:
            raise TlkitError(
                f"--val {self.val} and --test {self.test} leave less than a tenth for training.", "lower one of them."
            )
        for name in ("val", "test") if self.keras_split is not None else ():
            if (asked := getattr(self, name)) != getattr(SplitOptions, name):
                raise NoEffect(
                    name,
                    f"--{name} {asked} has no effect with --keras-split {self.keras_split}, which says what is held out.",
                    "drop one of the two.",
                )


@dataclass(frozen=True, kw_only=True)
class JudgementOptions(Options):
    """Abstention, and the slices on which accuracy is measured."""

    target_precision: float | None = option(
        None,
        "Precision that answers must be shown to have on validation images, such as 0.98; the classifier abstains below the confidence that reaches it.",
        low=0.01,
        high=0.9999,
        group="Evaluation",
    )
    slice_by: tuple[str, ...] | None = option(
        None,
        "Columns of the image table, comma-separated: accuracy is also measured on slices by them. "
        "Slices by class, image size and brightness are always measured.",
        group="Evaluation",
    )


@dataclass(frozen=True, kw_only=True)
class LogOptions(Options):
    """Experiment trackers."""

    log: tuple[str, ...] | None = option(
        None,
        "Experiment trackers, comma-separated, to which the finished run is logged: mlflow, wandb; each as its own "
        "settings say (MLFLOW_TRACKING_URI, WANDB_MODE).",
        choices=catalog.TRACKERS,
        group="Output",
    )


@dataclass(frozen=True, kw_only=True)
class FrameOptions(Options):
    """Samples that are clips, several frames in order: which of their frames are taken."""

    frames: int | None = option(
        None,
        "The samples are clips (films, or folders of frames, in class folders, or a table of them): so many frames of each "
        "at most, evenly spaced.",
        low=1,
        high=1024,
        group="Clips",
    )
    stride: int | None = option(
        None,
        "The samples are clips: take every N-th frame; every one unless given.",
        low=1,
        high=1000,
        group="Clips",
    )

    @property
    def samples_are_clips(self) -> bool:
        """Whether clips were asked for; a table may say it by itself."""
        return self.frames is not None or self.stride is not None


@dataclass(frozen=True, kw_only=True)
class ClipOptions(FrameOptions):
    """Clips, and how their frames are put together."""

    time: str | None = option(
        None,
        "The samples are clips, of 16 frames unless --frames is given: what reads them in order, beside the mean over time that "
        "it has to beat; conv1d unless given.",
        choices=catalog.TIMES,
        group="Clips",
    )

    @property
    def over_time(self) -> str:
        """What reads the frames, as asked for or as planned."""
        return self.time or catalog.TIME

    @property
    def most_frames(self) -> int:
        """T, as asked for or as planned."""
        return self.frames or catalog.FRAMES

    @property
    def samples_are_clips(self) -> bool:
        """Whether clips were asked for."""
        return self.time is not None or super().samples_are_clips


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(Options):
    """The pretrained network."""

    backbone: str = option(
        "mobilenetv2",
        "A name from `tlkit backbones`, with variants (mobilenetv2:alpha=0.35), a path to a .keras file, or a KerasHub preset (hub:resnet_18_imagenet).",
        group="Backbone",
    )
    weights: str = option(
        "imagenet", "imagenet, none (random), or a path to a .h5, .weights.h5 or .keras file.", group="Backbone"
    )

    def check(self) -> None:
        """A backbone is a row of the catalogue or a file."""
        super().check()
        if not self.backbone.endswith(".keras") and catalog.family_of(self.backbone) is None:
            catalog.backbone_row(self.backbone)


@dataclass(frozen=True, kw_only=True)
class MovedOptions(Options):
    """Where the images of a run are by now."""

    moved_to: str | None = option(
        None,
        "Where the run's own images are now, if they were moved: the folder, or the table. The run remembers it.",
        group="Data",
        flag="images",
    )


@dataclass(frozen=True, kw_only=True)
class StoreOptions(Options):
    """How computed features are kept for the next time."""

    stored_as: str = option(
        "float32",
        "How computed features are stored: float32, or float16 for half the disk and three digits.",
        choices=catalog.STORED_AS,
        group="Store",
    )


@dataclass(frozen=True, kw_only=True)
class EngineOptions(Options):
    """The engine of forward passes."""

    engine: str = option(
        "auto",
        "Engine of features and predictions: auto takes the fastest on this machine and reports it.",
        choices=catalog.ENGINES,
        group="Inference",
    )
    precision: str = option(
        "float32",
        "Precision of features, predictions and, in finetune, of training steps; auto tries bfloat16 on a few images and takes it if it is 1.2 times as fast and agrees.",
        choices=catalog.PRECISIONS,
        group="Inference",
    )


@dataclass(frozen=True, kw_only=True)
class AnsweringOptions(EngineOptions):
    """What computes the answers of a finished classifier."""

    engine: str = option(
        "auto",
        "What computes the answers: auto takes the ONNX file that the run keeps for it, which needs no TensorFlow, else Keras; it says which.",
        choices=catalog.ANSWERING,
        group="Inference",
    )


# -- The option of test-time augmentation, for the commands that judge images ------------------

MOST_VIEWS = 12


@dataclass(frozen=True, kw_only=True)
class TtaOptions(Options):
    """Test-time augmentation."""

    tta: int = option(
        1,
        "Views of every image whose probabilities are averaged (test-time augmentation): 2 adds its mirror "
        "image, more add light crops; the time grows in proportion.",
        low=1,
        high=MOST_VIEWS,
        group="Inference",
    )


# -- How it is decided what a run ships: on images held out, or by cross-validation ------------


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """How the choice between the probe and fine-tuned weights is validated."""

    validate: str = option(
        "auto",
        "Validation of the choice of weights: split (held-out images), folds (cross-validation, so that every image trains), or "
        "auto, which takes folds where fewer than 30 images would be held out.",
        choices=catalog.VALIDATIONS,
        group="Training",
    )

    def check(self) -> None:
        """Folds leave no validation images, which some options need."""
        super().check()
        if self.validate == "folds":
            for name in VALIDATION_IMAGES:
                if getattr(self, name) is not None:
                    raise TlkitError(
                        f"--{name.replace('_', '-')} needs validation images, and --validate folds holds none out.",
                        "drop one of the two.",
                    )


VALIDATION_IMAGES = ("target_precision", "minutes", "keras_split")
"""Options that need them, or say themselves who validates."""


# -- One process of several that share the work on a set of images -----------------------------


class Portion(NamedTuple):
    """Portion `number`, 1..`of`, of the images; whose it is follows from the content of each alone."""

    number: int = 1
    of: int = 1

    @property
    def whole(self) -> bool:
        """Whether it is all images."""
        return self.of == 1


ALL = Portion()
MOST_SHARDS = 100_000


def parse_shard(text: str | None) -> Portion:
    """`I/N` as a share; all images where nothing is given.

    Raises:
        TlkitError: I is not among 1..N.
    """
    if text is None:
        return ALL
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    share = Portion(int(found[1]), int(found[2])) if found else Portion(0)
    if not 1 <= share.number <= share.of <= MOST_SHARDS:
        raise TlkitError(
            f"--shard {text}: expected I/N with I from 1 to N, and N at most {MOST_SHARDS:,}.",
            "--shard 2/4 is the second of four; an array job that counts from 0 adds 1.",
        )
    return share


def parse_executor(text: str) -> tuple[str, str]:
    """`NAME[:ADDRESS]` as its two parts, "" where there is no address.

    Raises:
        TlkitError: no such executor, or an address of this process.
    """
    name, _, address = text.partition(":")
    if name not in catalog.EXECUTORS:
        raise unknown_name("an executor (--executor)", name, catalog.EXECUTORS)
    if name == "here" and text != name:
        raise TlkitError(f"--executor {text}: this process has no address.", "--executor ray:ADDRESS, or leave it out.")
    if text.endswith(":"):
        raise TlkitError(f"--executor {text}: no address follows.", f"--executor {name}:HOST:PORT, or {name} alone.")
    return name, address


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions(Options):
    """Who computes features, and folds of a cross-validation."""

    executor: str = option(
        "here",
        "Who computes what the store lacks: here (this process), ray (a worker for each core of this machine) or ray:ADDRESS "
        "(the workers of a cluster: HOST:PORT, or auto), which read the images at the same paths.",
        group="Scaling",
    )

    def check(self) -> None:
        """A known one."""
        super().check()
        parse_executor(self.executor)


@dataclass(frozen=True, kw_only=True)
class ShardOptions(ExecutorOptions, EngineOptions):
    """Work shared by several processes, on one machine or many, that have one store."""

    shard: str | None = option(
        None,
        "Compute the I-th of N shares of the images (I/N, from 1) into the store and write nothing else; shares follow "
        "from content, run in any order on any machine, and the same command without --shard then only gathers.",
        group="Scaling",
    )

    def check(self) -> None:
        """A share of something, computed as every other share is."""
        super().check()
        if self.shard is not None and parse_shard(self.shard) and self.precision == "auto":
            raise TlkitError(
                f"--shard {self.shard} with --precision auto: shares could end up in different precisions.",
                "name one: --precision float32.",
            )
