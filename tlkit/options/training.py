"""Options of the head and of the training stages."""

from dataclasses import dataclass, replace
from typing import Any

from tlkit.base.errors import NoEffect, TlkitError
from tlkit.options import catalog
from tlkit.options.option import Options, as_word, option

STAGES = ("head", "top")  # the default
WITH_MOMENTUM = ("sgd", "rmsprop")
SMOOTHING = 0.1  # default label smoothing (Szegedy et al. 2016)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Training: stages, schedule, optimizer, loss, augmentation."""

    preset: str | None = option(
        None,
        f"Several options under one name: {', '.join(row.told for row in catalog.PRESETS.values())}; options given "
        "explicitly take precedence.",
        choices=catalog.PRESETS,
        group="Training",
    )
    stages: tuple[str, ...] | None = option(
        None,
        "Stages, comma-separated: head (backbone frozen), top (its last blocks train too), all (every layer trains); "
        "default: head,top.",
        choices=catalog.STAGES,
        group="Training",
    )
    blocks: int | None = option(
        None,
        "Number of last blocks that train in the top stage; default: the fewest that hold 94 % of the parameters, or "
        "a third of the blocks where that would take long.",
        low=1,
        group="Training",
    )
    unfreeze: str | None = option(
        None,
        "Which third of the blocks trains in the top stage besides the head: last (see --blocks), middle, first, or "
        "all of them; default: last.",
        choices=catalog.UNFREEZE,
        group="Training",
    )
    epochs: tuple[int, ...] | None = option(
        None,
        "Maximum epochs: one number for every stage, or one for each, comma-separated; planned by default.",
        low=1,
        group="Training",
    )
    minutes: float | None = option(
        None,
        "Minutes that the whole command may take, from its start to the report: blocks, views and epochs are planned "
        "to fit, and adjusted during training.",
        low=0.05,
        high=100_000,
        group="Training",
    )
    batch_size: int = option(
        32,
        "Maximum images per batch; the images of an epoch are divided evenly into batches.",
        low=1,
        high=4096,
        group="Training",
    )
    accumulate: int = option(
        1,
        "Batches whose gradients are accumulated for one update: the effect of a batch that many times as large, in "
        "the memory of one.",
        low=1,
        high=1024,
        group="Training",
    )
    devices: str | None = option(
        None,
        "Devices among which each batch is divided: a number, or all; JAX backend only. Default: one.",
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
        "Peak learning rate: one for every stage, or one for each, comma-separated; planned by default.",
        low=0,
        group="Training",
    )
    layer_decay: float = option(
        1.0,
        "Ratio of a backbone block's learning rate to that of the block after it (the head, for the last block); 1 "
        "gives all the same rate.",
        low=0.05,
        high=1,
        group="Training",
    )
    ema: float = option(
        0.0,
        "Momentum of the moving average of the weights that is validated and kept, such as 0.99; 0 keeps the plain "
        "weights.",
        low=0,
        high=0.9999,
        group="Training",
    )
    momentum: float = option(0.9, "Momentum of sgd and rmsprop.", low=0, high=0.999, group="Training")
    weight_decay: float = option(
        1e-4, "Decoupled weight decay; not applied to biases and norms.", low=0, group="Training"
    )
    centralize: str = option(
        "auto",
        "Subtract the mean from the gradient of each convolution filter; auto decides by the number of training "
        "images.",
        choices=catalog.CENTRALIZE,
        group="Training",
    )
    loss: str | None = option(
        None,
        "The loss: crossentropy, focal or squared (on the probabilities) for classes, mse or huber for numbers; "
        "default: crossentropy, or mse for numbers.",
        choices=catalog.LOSSES,
        group="Training",
    )
    label_smoothing: float | None = option(
        None,
        "Label smoothing of crossentropy, in stages trained by gradient descent; default: 0.1 for one label per "
        "image, 0 for several.",
        low=0,
        high=0.9,
        group="Training",
    )
    balance: str = option(
        "none",
        "Handling of unequal class sizes: weights (images are weighted inversely to the size of their class), sample "
        "(classes are drawn equally often), logit-adjust (the log prior is part of the loss), post-hoc (the same, "
        "its strength by cross-validation), smote, gaussian or gan (features of rare classes are synthesised; only "
        "for a head fitted by L-BFGS), auto (the best of none, weights and both adjustments for a cross-validated "
        "linear head), or none.",
        choices=catalog.BALANCES,
        group="Training",
    )
    batchnorm: str = option(
        "frozen",
        "BatchNorm layers of the backbone: frozen keeps their statistics and scales, train lets both move in "
        "unfrozen blocks.",
        choices=catalog.BATCHNORM,
        group="Training",
    )
    views: int | None = option(
        None,
        "Stored views of each training image in the head and top stages: 1 is the image alone, 0 makes fresh views "
        "every epoch; planned by default.",
        low=0,
        high=64,
        group="Training",
    )
    augment: str = option(
        "auto",
        "Strength of augmentation: light (crop, flip), medium (colour), strong (RandAugment, erasing); auto decides "
        "by the number of images per class.",
        choices=catalog.AUGMENTATIONS,
        group="Training",
    )
    mix: str = option(
        "auto",
        "Mix training samples, in stages trained by gradient descent: mixup, or cutmix where they have spatial "
        "positions; auto mixes when --augment is medium or stronger.",
        choices=catalog.MIXES,
        group="Training",
    )
    flip: bool = option(True, "Allow horizontal flips in augmentation; wrong for digits and text.", group="Training")
    patience: int | None = option(
        None,
        "Epochs without improvement on validation before a stage stops and its best epoch is kept; by default a "
        "stage runs to the end of its schedule and its last epoch is kept.",
        low=1,
        group="Training",
    )

    def check(self) -> None:
        """Require stages in order, each once, and per-stage lists of matching length."""
        super().check()
        if self.preset:
            self._check_preset()
        self._check_devices()
        stages = self.in_stages
        order = [catalog.STAGES.index(stage) for stage in stages]
        if order[0] != 0 or order != sorted(set(order)):
            raise TlkitError(
                f"--stages {','.join(stages)} is not in order.",
                "start with head, then top and all, each at most once: head | head,top | head,all | head,top,all.",
            )
        for name in ("epochs", "learning_rate"):
            values = getattr(self, name)
            if values is not None and len(values) not in (1, len(stages)):
                raise TlkitError(
                    f"--{name.replace('_', '-')} has {len(values)} values for {len(stages)} stages.",
                    "give one value, or one for each stage.",
                )
        if self.minutes is not None:
            self._check_minutes(stages)
        if self.third != "last":
            self._check_unfreeze(stages)
        self._check_effect(stages)

    def _check_effect(self, stages: tuple[str, ...]) -> None:
        """Refuse options that nothing in the run uses."""
        if self.label_smoothing and self.loss not in (None, "crossentropy"):
            raise NoEffect(
                "label_smoothing",
                f"--label-smoothing {self.label_smoothing} has no effect with --loss {self.loss}.",
                "drop it, or use --loss crossentropy.",
            )
        if self.momentum != TrainingOptions.momentum and self.optimizer not in WITH_MOMENTUM:
            raise NoEffect(
                "momentum",
                f"--momentum {self.momentum} has no effect with --optimizer {self.optimizer}.",
                f"drop it, or use --optimizer {' or '.join(WITH_MOMENTUM)}.",
            )
        if self.blocks is not None and "top" not in stages and not self.preset:
            raise NoEffect(
                "blocks",
                f"--blocks {self.blocks} has no effect without a top stage: --stages {','.join(stages)}.",
                "use --stages head,top, or drop it.",
            )

    def _check_devices(self) -> None:
        """Require a number of devices or `all`, and frozen batch statistics with more than one."""
        if self.devices not in (None, "all") and not (self.devices.isdecimal() and int(self.devices)):
            raise TlkitError(
                f"--devices {self.devices}: expected a number of at least 1, or all.", "--devices 2, or --devices all."
            )
        if self.devices not in (None, "1") and self.batchnorm == "train":
            raise TlkitError(
                f"--devices {self.devices} and --batchnorm train: a batch is padded with copies to divide evenly, and "
                "these would count in its statistics.",
                "use --batchnorm frozen, or --devices 1.",
            )

    @property
    def in_stages(self) -> tuple[str, ...]:
        """The requested stages, else the default."""
        return self.stages or STAGES

    @property
    def third(self) -> str:
        """The requested third of the blocks for the top stage, else the last."""
        return self.unfreeze or "last"

    def of_preset(self) -> dict[str, Any]:
        """Options set by the preset that were not given explicitly."""
        row = catalog.PRESETS[self.preset or "default"]
        said = {"stages": row.stages, "views": row.views}
        return {name: value for name, value in said.items() if value is not None and getattr(self, name) is None}

    def _check_preset(self) -> None:
        """Refuse options that contradict the preset."""
        if self.minutes is not None and catalog.PRESETS[self.preset or ""].longer > 1:
            raise TlkitError(
                f"--minutes {self.minutes:g} and --preset {self.preset} both say how long to train.",
                "keep one of the two.",
            )
        if self.blocks is not None and "top" not in (self.of_preset().get("stages") or self.in_stages):
            raise NoEffect(
                "blocks",
                f"--blocks {self.blocks} has no effect with --preset {self.preset}, which trains the head alone.",
                "drop one of the two, or add --stages head,top.",
            )
        try:
            replace(self, preset=None, **self.of_preset())
        except NoEffect:
            raise
        except TlkitError as error:
            raise TlkitError(f"with --preset {self.preset}: {error.message}", error.hint) from error

    def smoothing(self, smooths: bool = True) -> float:
        """Label smoothing: as requested, else the default of cross-entropy if the task `smooths`, else 0."""
        planned = SMOOTHING if self.loss in (None, "crossentropy") and smooths else 0.0
        return planned if self.label_smoothing is None else self.label_smoothing

    def _check_minutes(self, stages: tuple[str, ...]) -> None:
        """Refuse --minutes with epochs, or with two stages after the head."""
        if self.epochs is not None:
            raise TlkitError(
                f"--minutes {self.minutes:g} and --epochs {','.join(map(str, self.epochs))} both say how long to "
                "train.",
                "keep one of the two.",
            )
        if len(stages) > 2:
            raise TlkitError(
                f"--minutes {self.minutes:g} plans one stage after the head, but --stages {','.join(stages)} has two.",
                "use --stages head,top or head,all.",
            )

    def _check_unfreeze(self, stages: tuple[str, ...]) -> None:
        """Refuse --unfreeze without a top stage or with --blocks."""
        if "top" not in stages:
            raise TlkitError(
                f"--unfreeze {self.unfreeze} has no effect without a top stage: --stages {','.join(stages)}.",
                "use --stages head,top, or drop it.",
            )
        if self.blocks is not None:
            raise TlkitError(
                f"--unfreeze {self.unfreeze} and --blocks {self.blocks} both say which blocks learn.",
                "--blocks counts from the last block and goes with --unfreeze last; keep one of the two.",
            )


# -- The head -------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """The head on the backbone."""

    head: str = option("linear", "The head's kind.", choices=catalog.HEADS, group="Head")
    pooling: str = option(
        "avg",
        "How linear and mlp heads pool the grid; flatten (mlp only) does not pool and feeds the whole grid to dense "
        "layers, as in VGG's own head; cls and cls+avg read the class token of a vision transformer.",
        choices=catalog.POOLINGS,
        group="Head",
    )
    hidden: tuple[int, ...] = option(
        (256,),
        "Hidden sizes, comma-separated: layers of mlp, filters of conv, units of rnn/lstm/gru, width of attention "
        "and transformer.",
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

    def check(self) -> None:
        """Refuse a pooling that the head cannot use."""
        super().check()
        if self.pooling in catalog.CLASS_POOLINGS and catalog.head_reads(self.head, self.pooling) == "grid":
            raise TlkitError(
                f"--pooling {self.pooling} is for heads that read pooled features, but --head {self.head} reads the "
                "grid.",
                "use --head linear or mlp, or another --pooling.",
            )
        if self.pooling == "flatten" and self.head != "mlp":
            raise TlkitError(
                f"--pooling flatten is for --head mlp, but the head is {self.head}.",
                "use --head mlp, or another --pooling.",
            )

    def refuse_idle(self, time: str | None) -> None:
        """Raise if options of hidden layers are given for a head that has none.

        Args:
            time: the head over time that reads clips instead of the head; None for single images.

        Raises:
            NoEffect: naming the option.
        """
        flag, rows = ("--head", catalog.HEADS) if time is None else ("--time", catalog.TIMES)
        row = rows[time or self.head]
        for name in ("hidden", "activation"):
            value = getattr(self, name)
            if name in row.uses or value == getattr(HeadOptions, name):
                continue
            users = ", ".join(one for one, other in rows.items() if name in other.uses)
            raise NoEffect(
                name,
                f"--{name} {as_word(value)} has no effect with {flag} {row.name}.",
                f"drop it, or use {flag} with one of {users}.",
            )
