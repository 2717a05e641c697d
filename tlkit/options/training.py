"""What learns and how: the options of the head and of every stage."""

from dataclasses import dataclass, replace
from typing import Any

from tlkit.base.errors import NoEffect, TlkitError
from tlkit.options import catalog
from tlkit.options.option import Options, as_word, option

STAGES = ("head", "top")  # unless given
WITH_MOMENTUM = ("sgd", "rmsprop")
SMOOTHING = 0.1  # of labels, unless given (Szegedy et al. 2016)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Options):
    """Training: stages, schedule, optimizer, loss, augmentation."""

    preset: str | None = option(
        None,
        f"Several options by one name: {', '.join(row.told for row in catalog.PRESETS.values())}; what is given beside it wins.",
        choices=catalog.PRESETS,
        group="Training",
    )
    stages: tuple[str, ...] | None = option(
        None,
        "Stages, comma-separated: head (backbone frozen), top (its last blocks train too), all (every layer trains); head,top "
        "unless given.",
        choices=catalog.STAGES,
        group="Training",
    )
    blocks: int | None = option(
        None,
        "How many last blocks train in the top stage; planned unless given: the fewest that hold 94 % of the parameters, or a third of them where that would take long.",
        low=1,
        group="Training",
    )
    unfreeze: str | None = option(
        None,
        "Which third of the blocks trains in the top stage besides the head: last (see --blocks), middle, first, or all of "
        "them; last unless given.",
        choices=catalog.UNFREEZE,
        group="Training",
    )
    epochs: tuple[int, ...] | None = option(
        None,
        "Epochs at most: one number for every stage, or one for each, comma-separated; planned unless given.",
        low=1,
        group="Training",
    )
    minutes: float | None = option(
        None,
        "Minutes that the whole command may take, from its start to the report: blocks, views and epochs are planned to fit, and "
        "adjusted during training.",
        low=0.05,
        high=100_000,
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
        "Batches whose gradients are accumulated for one update: the effect of a batch so many times as large, in the memory of one.",
        low=1,
        high=1024,
        group="Training",
    )
    devices: str | None = option(
        None,
        "Devices that the rows of every batch are shared out among: a number, or all; with the JAX backend. One unless given.",
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
        "Factor between the learning rate of a block of the backbone and that of the block after it, or of the head after the last; 1 gives all the same rate.",
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
    centralize: str = option(
        "auto",
        "Take the mean out of the gradient of each filter of a convolution; auto goes by how many images train.",
        choices=catalog.CENTRALIZE,
        group="Training",
    )
    loss: str | None = option(
        None,
        "The loss: crossentropy, focal or squared (of the probabilities) for classes, mse or huber for numbers; crossentropy, "
        "or mse, unless given.",
        choices=catalog.LOSSES,
        group="Training",
    )
    label_smoothing: float | None = option(
        None,
        "Label smoothing of crossentropy, in stages trained by gradient descent; 0.1 for one label an image, 0 for several, unless given.",
        low=0,
        high=0.9,
        group="Training",
    )
    balance: str = option(
        "none",
        "Classes of unequal size: weights (images weigh inversely to the size of their class), sample (classes are drawn equally often), "
        "logit-adjust (the log prior is part of the loss), post-hoc (the same, its strength by cross-validation), smote, gaussian or gan "
        "(features of rare classes are drawn, for a solved head alone), auto (of none, weights and both adjustments the best for a "
        "cross-validated linear head), or none.",
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
        "auto",
        "How far a view may go: light (crop, flip), medium (colour), strong (RandAugment, erasing); auto goes by how many images a class has.",
        choices=catalog.AUGMENTATIONS,
        group="Training",
    )
    mix: str = option(
        "auto",
        "Mix training rows, in stages trained by gradient descent: mixup, or cutmix where they have places; auto goes with --augment, from medium up.",
        choices=catalog.MIXES,
        group="Training",
    )
    flip: bool = option(True, "Allow horizontal flips in augmentation; wrong for digits and text.", group="Training")
    patience: int | None = option(
        None,
        "Epochs without improvement on validation before a stage stops and its best epoch is kept; unless given a stage runs to "
        "the end of its schedule, and its last epoch is kept.",
        low=1,
        group="Training",
    )

    def check(self) -> None:
        """Stages in order, each once; per-stage lists as long as the stages."""
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
        """What is given has something to act on."""
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
        """A number of devices, or all of them; statistics of a batch are not those of one device."""
        if self.devices not in (None, "all") and not (self.devices.isdecimal() and int(self.devices)):
            raise TlkitError(
                f"--devices {self.devices}: expected how many, 1 or more, or all.", "--devices 2, or --devices all."
            )
        if self.devices not in (None, "1") and self.batchnorm == "train":
            raise TlkitError(
                f"--devices {self.devices} and --batchnorm train: a batch is filled up with copies until it divides, "
                "and these would count in its statistics.",
                "use --batchnorm frozen, or --devices 1.",
            )

    @property
    def in_stages(self) -> tuple[str, ...]:
        """The stages that were asked for, else those of the default."""
        return self.stages or STAGES

    @property
    def third(self) -> str:
        """Which third was asked to train in the top stage, else the last."""
        return self.unfreeze or "last"

    def of_preset(self) -> dict[str, Any]:
        """What the preset says, whatever the images, of options that were not given."""
        row = catalog.PRESETS[self.preset or "default"]
        said = {"stages": row.stages, "views": row.views}
        return {name: value for name, value in said.items() if value is not None and getattr(self, name) is None}

    def _check_preset(self) -> None:
        """What is given beside a preset has to go with it."""
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
        """Label smoothing: as asked for, else that of cross-entropy where the task `smooths`, else none."""
        planned = SMOOTHING if self.loss in (None, "crossentropy") and smooths else 0.0
        return planned if self.label_smoothing is None else self.label_smoothing

    def _check_minutes(self, stages: tuple[str, ...]) -> None:
        """Minutes plan the epochs of one stage after the head."""
        if self.epochs is not None:
            raise TlkitError(
                f"--minutes {self.minutes:g} and --epochs {','.join(map(str, self.epochs))} both say how long to train.",
                "keep one of the two.",
            )
        if len(stages) > 2:
            raise TlkitError(
                f"--minutes {self.minutes:g} plans one stage after the head, and --stages {','.join(stages)} has two.",
                "use --stages head,top or head,all.",
            )

    def _check_unfreeze(self, stages: tuple[str, ...]) -> None:
        """A third is one of the top stage, and takes the place of a number of last blocks."""
        if "top" not in stages:
            raise TlkitError(
                f"--unfreeze {self.unfreeze} has no effect without a top stage: --stages {','.join(stages)}.",
                "use --stages head,top, or drop it.",
            )
        if self.blocks is not None:
            raise TlkitError(
                f"--unfreeze {self.unfreeze} and --blocks {self.blocks} both say which blocks learn.",
                "--blocks counts the last ones and goes with --unfreeze last; keep one of the two.",
            )


# -- The head, of which the last layer always learns -------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HeadOptions(Options):
    """The head on the backbone."""

    head: str = option("linear", "The head's kind.", choices=catalog.HEADS, group="Head")
    pooling: str = option(
        "avg",
        "How linear and mlp heads pool the grid; flatten, for mlp alone, pools nothing: dense layers on every number of the "
        "grid, as in VGG's own head; cls and cls+avg read the class token of a vision transformer.",
        choices=catalog.POOLINGS,
        group="Head",
    )
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

    def check(self) -> None:
        """A grid is flattened for dense layers between it and the answer; a class token is no grid."""
        super().check()
        if self.pooling in catalog.CLASS_POOLINGS and catalog.head_reads(self.head, self.pooling) == "grid":
            raise TlkitError(
                f"--pooling {self.pooling} is for heads that read pooled features, and --head {self.head} reads the grid.",
                "use --head linear or mlp, or another --pooling.",
            )
        if self.pooling == "flatten" and self.head != "mlp":
            raise TlkitError(
                f"--pooling flatten is for --head mlp, and the head is {self.head}.",
                "use --head mlp, or another --pooling.",
            )

    def refuse_idle(self, time: str | None) -> None:
        """Raise where layers between features and answer are spoken of, and the head has none.

        Args:
            time: what reads the frames of clips in the place of the head; None for single images.

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
