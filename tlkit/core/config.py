"""The options of every command, as frozen dataclasses; groups are mixed into one flat class per pipeline."""

from dataclasses import dataclass

from tlkit.core import catalog
from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, argument, option
from tlkit.core.sample_config import SampleConfig as SampleConfig  # every config is found here


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
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
class BackboneOptions(Options):
    """The pretrained network."""

    backbone: str = option(
        "mobilenetv2",
        "A name from `tlkit backbones`, with variants (mobilenetv2:alpha=0.35), or a path to a .keras file.",
        group="Backbone",
    )
    weights: str = option(
        "imagenet", "imagenet, none (random), or a path to a .h5, .weights.h5 or .keras file.", group="Backbone"
    )

    def check(self) -> None:
        """A backbone is a row of the catalogue or a file."""
        super().check()
        if not self.backbone.endswith(".keras"):
            catalog.backbone_row(self.backbone)


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


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """How it learns."""

    stages: tuple[str, ...] = option(
        ("head", "top"),
        "Stages, comma-separated: head (backbone frozen), top (its last blocks learn too), all (everything learns).",
        choices=catalog.STAGES,
        group="Training",
    )
    blocks: int | None = option(
        None,
        "How many last blocks learn in the top stage; about the last third of the network's parameters unless given.",
        low=1,
        group="Training",
    )
    epochs: tuple[int, ...] | None = option(
        None,
        "Epochs at most: one number for every stage, or one for each, comma-separated; planned unless given.",
        low=1,
        group="Training",
    )
    batch_size: int = option(32, "Images per training step.", low=1, high=4096, group="Training")
    optimizer: str = option(
        "adamw",
        "The optimizer of every stage trained by gradient descent.",
        choices=catalog.OPTIMIZERS,
        group="Training",
    )
    learning_rate: tuple[float, ...] | None = option(
        None,
        "Peak learning rate: one for every stage, or one for each, comma-separated; planned unless given.",
        low=0,
        group="Training",
    )
    momentum: float = option(0.9, "Momentum of sgd and rmsprop.", low=0, high=0.999, group="Training")
    weight_decay: float = option(1e-4, "Decoupled weight decay, off biases and norms.", low=0, group="Training")
    loss: str = option("crossentropy", "The loss.", choices=catalog.LOSSES, group="Training")
    label_smoothing: float = option(0.0, "Label smoothing of crossentropy.", low=0, high=0.9, group="Training")
    balance: str = option(
        "none",
        "Classes of unequal size: none, or weights (inverse frequency).",
        choices=catalog.BALANCES,
        group="Training",
    )
    batchnorm: str = option(
        "frozen",
        "BatchNorm layers of the backbone: frozen keeps their statistics and scales, train lets both move in unfrozen blocks.",
        choices=catalog.BATCHNORM,
        group="Training",
    )
    views: int | None = option(
        None,
        "Stored views of each training image in the head and top stages: 1 is the image alone; planned unless given.",
        low=1,
        high=64,
        group="Training",
    )
    augment: str = option(
        "light",
        "Augmentation: how far a stored view may go, and every epoch of the all stage.",
        choices=catalog.AUGMENTATIONS,
        group="Training",
    )
    flip: bool = option(True, "Allow horizontal flips in augmentation; wrong for digits and text.", group="Training")
    patience: int = option(3, "Epochs without improvement on validation before a stage stops.", low=1, group="Training")

    def check(self) -> None:
        """Stages in order, each once; per-stage lists as long as the stages."""
        super().check()
        order = [catalog.STAGES.index(stage) for stage in self.stages]
        if not order or order[0] != 0 or order != sorted(set(order)):
            raise TlkitError(
                f"--stages {','.join(self.stages)} is not in order.",
                "start with head, then top and all, each at most once: head | head,top | head,all | head,top,all.",
            )
        for name in ("epochs", "learning_rate"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, len(self.stages)):
                raise TlkitError(
                    f"--{name.replace('_', '-')} has {len(values)} values for {len(self.stages)} stages.",
                    "give one value, or one for each stage.",
                )
        if self.label_smoothing and self.loss != "crossentropy":
            raise TlkitError(
                f"--label-smoothing {self.label_smoothing} has no effect with --loss {self.loss}.",
                "drop it, or use --loss crossentropy.",
            )


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(ImageOptions, SplitOptions, BackboneOptions):
    """`tlkit features`: pixels to a feature table."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option(
        "features.csv", "The table to write; its suffix (.csv, .parquet, .npz) chooses the format.", group="Output"
    )
    pool: str = option(
        "avg",
        "View of the grid: avg, max, or none (the flattened grid).",
        choices=catalog.FEATURE_POOLS,
        group="Features",
    )
    layer: str | None = option(None, "Features of this layer instead of the backbone's last grid.", group="Features")
    reduce: str | None = option(
        None, "Reduce the features: pca:N keeps N components, fitted on the training split.", group="Features"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Features")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(ImageOptions, SplitOptions, BackboneOptions, HeadOptions, TrainingOptions):
    """`tlkit finetune`: a folder of images to a run folder with a classifier and a report."""

    images: str | None = argument(
        "Folder of images (class per folder, or train/val/test with classes inside), or a CSV/Parquet manifest.",
        default=None,
        exists=True,
    )
    resume: str | None = option(
        None, "Go on with the unfinished run in this folder; its options are its own.", group="Output"
    )
    out: str = option("run", "The run folder to write.", group="Output")
    overwrite: bool = option(False, "Replace what is there.", group="Output")
    dry_run: bool = option(False, "Print the plan and stop.", group="Output")

    def check(self) -> None:
        """Either images or a run to resume."""
        super().check()
        if (self.images is None) == (self.resume is None):
            raise TlkitError(
                "give either IMAGES or --resume RUN.",
                "`tlkit finetune images --out run` starts, `tlkit finetune --resume run` goes on.",
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Options):
    """`tlkit evaluate`: metrics and report of a finished run, on its own or on other images."""

    run: str = argument("Run folder.", exists=True)
    images: str | None = argument(
        "Labelled images to evaluate on; the run's own splits unless given.", default=None, exists=True
    )
    out: str | None = option(
        None,
        "Folder for metrics.json, predictions.csv and report.html; needed with other images, the run folder otherwise.",
        group="Output",
    )
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(Options):
    """`tlkit predict`: class and probability of images."""

    run: str = argument("Run folder, or a model.keras that tlkit wrote.", exists=True)
    paths: tuple[str, ...] = argument("Images, folders, glob patterns, or - for a list on stdin.")
    out: str | None = option(None, "File to write (.csv or .json); stdout as CSV unless given.", group="Output")
    top: int = option(1, "How many classes to list for each image.", low=1, group="Output")
    on_bad: str = option(
        "skip", "Unreadable files: skip (set aside, listed) or fail.", choices=catalog.ON_BAD, group="Data"
    )
    batch_size: int = option(32, "Images per inference step.", low=1, high=4096, group="Inference")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class SplitConfig(ImageOptions, SplitOptions):
    """`tlkit split`: write who trains, validates and tests."""

    images: str = argument("Folder of images, or a CSV/Parquet manifest.", exists=True)
    out: str = option("splits.csv", "The manifest with splits to write (.csv).", group="Output")
    overwrite: bool = option(False, "Replace what is there.", group="Output")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(Options):
    """`tlkit doctor`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class BackbonesConfig(Options):
    """`tlkit backbones`: has no options of its own."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """`tlkit cache`: look at the store of computed features, or empty it."""

    action: str = argument("What to do: show, or clear.", default="show", choices=("show", "clear"))
