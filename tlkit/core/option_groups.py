"""Options that several commands share, in groups; a command's own class mixes them in."""

from dataclasses import dataclass

from tlkit.core import catalog
from tlkit.core.errors import TlkitError
from tlkit.core.options import Options, option


@dataclass(frozen=True, kw_only=True)
class FixOptions(Options):
    """What is wrong with the images, and is to be put right while they are read."""

    fixes: str | None = option(
        None,
        "Labels to change and images to drop, listed in a CSV (path,action,label,reason) as `tlkit audit --write-fixes` "
        "writes it; no file is touched.",
        group="Data",
    )


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
    batch_size: int = option(
        32,
        "Images of a batch, at most; those of an epoch are shared out evenly.",
        low=1,
        high=4096,
        group="Training",
    )
    accumulate: int = option(
        1,
        "Batches whose gradients make one update: a batch so many times as large, in the memory of one.",
        low=1,
        high=1024,
        group="Training",
    )
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
    layer_decay: float = option(
        1.0,
        "Each block of the backbone learns at so many times the rate of the one after it, the last at so many times the head's; 1 gives all the same.",
        low=0.05,
        high=1,
        group="Training",
    )
    ema: float = option(
        0.0,
        "Momentum of the moving average of the weights that is validated and kept, such as 0.99; 0 keeps the weights themselves.",
        low=0,
        high=0.9999,
        group="Training",
    )
    momentum: float = option(0.9, "Momentum of sgd and rmsprop.", low=0, high=0.999, group="Training")
    weight_decay: float = option(1e-4, "Decoupled weight decay, off biases and norms.", low=0, group="Training")
    loss: str = option("crossentropy", "The loss.", choices=catalog.LOSSES, group="Training")
    label_smoothing: float = option(0.0, "Label smoothing of crossentropy.", low=0, high=0.9, group="Training")
    balance: str = option(
        "none",
        "Classes of unequal size: weights (images weigh inversely to the size of their class), sample (classes are drawn equally often), "
        "logit-adjust (the log prior is part of the loss), auto (the best macro-F1 of a cross-validated linear head), or none.",
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
        "Stored views of each training image in the head and top stages: 1 is the image alone, 0 makes fresh ones every epoch; planned unless given.",
        low=0,
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
