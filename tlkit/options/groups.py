"""Options that several commands share, in groups; a command's own class mixes them in."""

from dataclasses import dataclass

from tlkit.base.errors import TlkitError
from tlkit.options import catalog
from tlkit.options.option import Options, option
from tlkit.options.training import TrainingOptions as TrainingOptions  # every group is found here


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
    """Which images, and how they become pixels."""

    fit: str = option(
        "squash",
        "How an image meets the input size: squash both sides, crop the centre, or pad.",
        choices=catalog.FITS,
        group="Data",
    )
    image_size: int | None = option(
        None, "Side of the input in pixels; the backbone's native size unless given.", low=16, high=4096, group="Data"
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    classes: tuple[str, ...] | None = option(
        None, "Class names in index order, comma-separated; sorted folder names unless given.", group="Data"
    )


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """Who trains, who validates, who tests."""

    val: float = option(0.15, "Fraction of each class held out for validation.", low=0, high=0.9, group="Split")
    test: float = option(0.15, "Fraction of each class held out for test.", low=0, high=0.9, group="Split")
    group_by: str | None = option(
        None,
        "What must not straddle splits: a manifest column, or a regular expression on the path whose first group names it.",
        group="Split",
    )
    keras_split: float | None = option(
        None,
        "Reproduce image_dataset_from_directory's validation_split with this fraction and --seed; no test split.",
        low=0,
        high=0.9,
        group="Split",
    )
    seed: int = option(0, "Seed of everything random.", low=0, high=2**31 - 1, group="Split")

    def check(self) -> None:
        """The fractions must leave something to train on."""
        super().check()
        if self.val + self.test > 0.9:
            raise TlkitError(
                f"--val {self.val} and --test {self.test} leave less than a tenth for training.", "lower one of them."
            )


@dataclass(frozen=True, kw_only=True)
class JudgementOptions(Options):
    """When the classifier says nothing, and where its failures are looked for."""

    target_precision: float | None = option(
        None,
        "Answer only where validation images show that this share of the answers is right (0.98), and abstain elsewhere.",
        low=0.01,
        high=0.9999,
        group="Evaluation",
    )
    slice_by: tuple[str, ...] | None = option(
        None,
        "Columns of the image table, comma-separated: say where the classifier is worse. "
        "Classes, image size and brightness are looked at anyway.",
        group="Evaluation",
    )


@dataclass(frozen=True, kw_only=True)
class LogOptions(Options):
    """Whom else to tell."""

    log: tuple[str, ...] | None = option(
        None,
        "Experiment trackers, comma-separated, that are told of the finished run: mlflow, wandb; each where its own "
        "settings say (MLFLOW_TRACKING_URI, WANDB_MODE).",
        choices=catalog.TRACKERS,
        group="Output",
    )


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
        if not self.backbone.endswith(".keras") and not self.backbone.startswith(catalog.HUB):
            catalog.backbone_row(self.backbone)


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
    """What computes the passes through a network that only read it."""

    engine: str = option(
        "auto",
        "What computes features and predictions: auto takes the fastest here and says which.",
        choices=catalog.ENGINES,
        group="Inference",
    )
    precision: str = option(
        "float32",
        "What features and predictions are computed in; auto tries bfloat16 on the first images and takes it if it is 1.2 times as fast and agrees.",
        choices=catalog.PRECISIONS,
        group="Inference",
    )


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """What sits on the backbone."""

    head: str = option("linear", "The head's kind.", choices=catalog.HEADS, group="Head")
    pooling: str = option("avg", "How linear and mlp heads pool the grid.", choices=catalog.POOLINGS, group="Head")
    hidden: tuple[int, ...] = option(
        (256,),
        "Hidden sizes, comma-separated: layers of mlp, filters of conv, units of rnn/lstm/gru, width of attention and transformer.",
        low=1,
        group="Head",
    )
    activation: str = option(
        "relu",
        "Activation of the hidden layers of mlp, conv and transformer.",
        choices=catalog.ACTIVATIONS,
        group="Head",
    )
    dropout: float = option(0.0, "Dropout rate before each dense layer of the head.", low=0, high=0.95, group="Head")
    l2: float = option(0.0, "L2 penalty on the head's kernels.", low=0, group="Head")


# -- The option of test-time augmentation, for the commands that judge images ------------------

MOST_VIEWS = 12


@dataclass(frozen=True, kw_only=True)
class TtaOptions(Options):
    """How many views of an image are judged."""

    tta: int = option(
        1,
        "Judge every image in so many views and average the probabilities (test-time augmentation): 2 adds its mirror "
        "image, more add light crops; takes so many times as long.",
        low=1,
        high=MOST_VIEWS,
        group="Inference",
    )


# -- How it is decided what a run ships: on images held out, or by cross-validation ------------


@dataclass(frozen=True, kw_only=True)
class ValidationOptions(Options):
    """What chooses between the probe and what was fine-tuned."""

    validate: str = option(
        "auto",
        "What decides which weights ship: split (images held out), folds (cross-validation, so that every image trains), or "
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


VALIDATION_IMAGES = ("target_precision", "search", "minutes", "keras_split")
"""Options that need them, or say themselves who validates."""
