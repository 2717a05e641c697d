"""Every automatic choice of a run, settled in one list before anything is computed.

A run does what its plan says. What can only be decided once features are computed (how classes are balanced, in which
precision to compute, what ships) is in the list with how it will be decided.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tlkit.backbones.blocks import set_trainable
from tlkit.backbones.build import Backbone
from tlkit.backbones.runtime import jit
from tlkit.base.errors import TlkitError
from tlkit.base.machine import budget as disk_budget
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.decode import batches
from tlkit.evaluation.judgement import refuse_target
from tlkit.extraction.engine import choose_engine
from tlkit.extraction.room import list_spaces
from tlkit.extraction.store import store_dir
from tlkit.options.catalog import PRESETS
from tlkit.options.commands import FinetuneConfig
from tlkit.options.training import STAGES
from tlkit.training import balance, crossing
from tlkit.training.costs import HEAD_EPOCHS
from tlkit.training.minutes import Budget, fit_into
from tlkit.training.plan import THIRDS, Decision, Plan, Sizes, planned_epochs, span
from tlkit.training.planner import build_plan, clip_plan, refuse_for_clips
from tlkit.training.probe import FALLBACK, fit_probe
from tlkit.training.stages import Parts

TIMED = 32  # images that are decoded to see how long that takes


def settle(
    config: FinetuneConfig,
    parts: Parts,
    dataset: Dataset,
    splits: Splits,
    *,
    budget: Budget | None = None,
    measure: bool = True,
    why_blocks: str = "asked for",
) -> Plan:
    """The plan: what was asked for is kept, what was left open is chosen, and every choice has its reason.

    Args:
        config: the options.
        parts: the network; its weights matter for `--unfreeze auto` alone.
        dataset: the images, every one of them readable.
        splits: of them.
        budget: of `--minutes`.
        measure: whether the network may be timed and looked at; without, what would be measured is estimated.
        why_blocks: why as many blocks as `config` says.

    Raises:
        TlkitError: options that these images, this network or this time cannot do.
    """
    clips, config = dataset.clips, _possible(config, dataset, splits)
    asked, (config, decided) = config, preset(config, len(splits.indices("train")))
    if config.third == "auto":
        config, decision = _third(config, parts, dataset, splits, measure=measure)
        decided.append(decision)
    counts = (len(splits.indices("train")), len(splits.indices("val")), len(splits.codes))
    sizes = Sizes(*counts, *disk_budget(store_dir(), sum(space.bytes for space in list_spaces())))
    network, pace = (parts.backbone, parts.classifier, parts.head.reads), None
    if budget:
        why_blocks = "asked for" if config.blocks else "as many as there is time for"
        decode = _decoding(dataset, parts.contract) if measure else None
        fitted = fit_into(budget, config, *network, sizes, decode)
        _refuse_other_stages(asked, fitted.options, fitted.decision.reason)
        config, pace = fitted.options, fitted.pace
        decided.append(fitted.decision)

    def build(options: FinetuneConfig) -> Plan:
        if clips is not None:
            return clip_plan(options, parts.backbone, parts.classifier, sizes, len(clips.frames))
        return build_plan(options, *network, sizes, pace=pace, measure=measure, why_blocks=why_blocks)

    plan = build(config)
    why = crossing.unchecked(plan, asked, dataset, splits)
    if why:
        _refuse_other_stages(asked, config := _head_alone(config), why)
        plan = build(config).deciding(Decision("stages", "head", why))
    if asked.stages is None and config.stages is None and clips is None:
        why = "fine-tuning begins where the solved head ends, and ships only where it is better"
        decided.append(Decision("stages", ",".join(STAGES), why))
    plan = replace(plan, decisions=(*decided, *plan.decisions), unfreeze=config.third)
    return plan.deciding(crossing.validation(plan, asked, dataset, splits), *_later(asked, parts, dataset, splits))


def _possible(config: FinetuneConfig, dataset: Dataset, splits: Splits) -> FinetuneConfig:
    """The options, with what goes without saying for clips; raises for those that these samples cannot follow."""
    refuse_several_labels(config, dataset)
    if config.search and not len(splits.indices("val")):
        raise TlkitError(
            f"--search {config.search}: there are no validation images to tell trials apart.",
            "hold some out with --val.",
        )
    if dataset.clips is None:
        return config
    refuse_for_clips(config)
    return replace(config, preset=None, augment="none", mix="none")


def preset(config: FinetuneConfig, train: int) -> tuple[FinetuneConfig, list[Decision]]:
    """The options with what their preset says of those that were not given, and the decision that says so.

    Args:
        config: as asked for.
        train: training images.
    """
    if config.preset is None:
        return config, []
    row, said = PRESETS[config.preset], config.of_preset()
    stages = said.get("stages") or config.in_stages
    if row.longer > 1 and config.epochs is None and len(stages) > 1:
        planned = row.longer * planned_epochs(train, config.batch_size * config.accumulate)
        said["epochs"] = tuple(HEAD_EPOCHS if stage == "head" else planned for stage in stages)
    open_depth = config.blocks is None and config.unfreeze is None and "top" in stages
    afresh = config.views is None and config.augment != "none"
    if row.every_from is not None and train >= row.every_from and open_depth and afresh:
        said["unfreeze"] = "all"
    mine = {"stages": row.stages, "views": row.views, "epochs": row.longer > 1 or None}
    given = [f"--{name}" for name, value in mine.items() if value is not None and getattr(config, name) is not None]
    after_head = said | ({"epochs": said["epochs"][-1]} if "epochs" in said else {})
    shown = ", ".join(f"{name} {_listed(value)}" for name, value in after_head.items()) or "nothing else than planned"
    why = row.words + f"; {', '.join(given)} as given" * bool(given)
    return replace(config, preset=None, **said), [Decision("preset", f"{row.name} ({shown})", why)]


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def reopened(content: dict[str, Any], config: FinetuneConfig, dataset: Dataset, splits: Splits) -> Plan:
    """The plan that a run was begun with; one from before plans said how they are checked is completed."""
    plan = Plan.from_json(content)
    if plan.decision("validate"):
        return plan
    why = crossing.unchecked(plan, config, dataset, splits)
    if why:
        plan = replace(plan, stages=plan.stages[:1]).deciding(Decision("stages", "head", why))
    return plan.deciding(crossing.validation(plan, config, dataset, splits))


def refuse_several_labels(config: FinetuneConfig, dataset: Dataset) -> None:
    """Raise for options that the task of the images cannot follow.

    Raises:
        TlkitError: saying what to use instead.
    """
    refuse_target(config.target_precision, dataset.task)
    if config.balance not in ("none", "auto"):
        dataset.task.refuse("balance", f"--balance {config.balance}")
    if config.third == "auto":
        dataset.task.refuse("unfreeze", "--unfreeze auto")
    losses = dataset.task.trained_by
    if config.loss is not None and config.loss not in losses:
        raise TlkitError(
            f"--loss {config.loss} is of another kind of target; these images are of --task {dataset.task.name}.",
            f"use one of {', '.join(losses)}.",
        )
    if config.label_smoothing and "crossentropy" not in losses:
        raise TlkitError(
            f"--label-smoothing {config.label_smoothing} is for classes, and these are numbers.", "drop it."
        )


def _refuse_other_stages(asked: FinetuneConfig, planned: FinetuneConfig, why: str) -> None:
    """Stages other than the default ones were asked for, and are trained or refused."""
    if asked.stages is not None and planned.stages != asked.stages:
        raise TlkitError(
            f"--stages {','.join(asked.stages)} cannot be done here. {why}",
            "--stages head trains the head alone, and so does the plan without --stages.",
        )


def _head_alone(config: FinetuneConfig) -> FinetuneConfig:
    """The options of a run whose backbone stays as it is."""
    first = {name: getattr(config, name) and getattr(config, name)[:1] for name in ("epochs", "learning_rate")}
    return replace(config, stages=("head",), blocks=None, unfreeze="last", lora=None, **first)


def _third(
    config: FinetuneConfig, parts: Parts, dataset: Dataset, splits: Splits, *, measure: bool
) -> tuple[FinetuneConfig, Decision]:
    """Which third of the network learns, where that is left open."""
    if not measure:
        how = "the largest gradients against the weights, measured before training; planned here as if it were the last"
        return replace(config, unfreeze="last"), Decision("unfreeze", "a third, by measurement", how)
    rows = splits.indices("train")
    rows = rows[sample(dataset.labels[rows], np.random.default_rng((config.seed, 3)))]
    images = np.zeros((len(rows), parts.contract.height, parts.contract.width, 3), np.uint8)
    for batch in batches([dataset.file(row) for row in rows], parts.contract, 32):
        images[batch.indices] = batch.images
    found = relative_gradients(parts.backbone, images, dataset.labels[rows])
    best = max(found, key=lambda third: found[third])
    numbers = ", ".join(f"{third} {value:.2g}" for third, value in found.items())
    why = f"its gradients are the largest against its weights, on {len(rows)} images ({numbers})"
    return replace(config, unfreeze=best), Decision("unfreeze", best, why)


def _decoding(dataset: Dataset, contract: InputContract) -> float:
    """Seconds for each image, from the file to pixels, on some of them."""
    rows = np.linspace(0, len(dataset) - 1, min(TIMED, len(dataset))).astype(int)
    files = [dataset.file(row) for row in rows]
    started = time.perf_counter()
    for _ in batches(files, contract, 32):
        pass
    return (time.perf_counter() - started) / len(files)


def _later(config: FinetuneConfig, parts: Parts, dataset: Dataset, splits: Splits) -> Iterator[Decision]:
    """What is computed in, and what waits for features."""
    if config.engine == "auto":
        yield Decision("engine", *choose_engine(parts.backbone.model))
    if config.precision == "auto":
        how = "bfloat16 where the store holds most rows in it, or where a trial on up to 64 images finds it faster and as good"
        yield Decision("precision", "by trial", how)
    if config.balance == "auto":
        yield balance.foreseen(dataset, splits)
    if config.search:
        how = "rate, decay, smoothing and, unless asked for, depth and augmentation of the last stage, by validation"
        yield Decision("search", f"the best of {config.search} trials", how)


# -- Which third of a network has most to learn: gradients held against the weights they would move ---
#
# Surgical fine-tuning (Lee et al. 2023) lets one part of a network learn: early blocks where the images look different
# from those it was pretrained on, late ones where they mean something else. Its Auto-RGN reads off the relative gradient
# norm which part that is.

IMAGES = 256  # at most: half of them solve a head, the others make gradients
BATCH = 32


def sample(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Int (n,), n <= `IMAGES`: positions of images drawn at random, in any order, with at least two of every class.

    Args:
        labels: int (N,).
        random: of the draw.
    """
    order = random.permutation(len(labels))
    rank = np.empty(len(labels), int)  # of an image among those of its class
    for label in np.unique(labels):
        rank[order[labels[order] == label]] = np.arange((labels == label).sum())
    first = order[np.argsort(rank[order] >= 2, kind="stable")]
    return first[: max(IMAGES, 2 * len(np.unique(labels)))]


def relative_gradients(backbone: Backbone, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Norm of the gradient over that of the weights, the mean over kernels and batches, for each third of the blocks.

    A linear head is solved on every other image of each class; the gradients are those of its cross-entropy on the
    rest, which it has not seen. The network is copied, and the copy takes steps of plain gradient descent from the same
    weights: what a step changes is the gradient, on every backend.

    Args:
        backbone: left as it is.
        images: uint8 (n, H, W, 3).
        labels: int (n,), two images of a class at least.
    """
    _, dense = np.unique(labels, return_inverse=True)
    classes = int(dense.max()) + 1
    rank = np.array([(dense[:place] == label).sum() for place, label in enumerate(dense)])
    seen = rank % 2 == 0
    network = _with_linear_head(backbone, classes)
    features = keras.Model(network.input, network.layers[-2].output).predict(images, BATCH, verbose=0)
    probe = fit_probe([features[seen]], dense[seen], units=np.arange(seen.sum()), strength=FALLBACK)
    network.layers[-1].set_weights([probe.kernel, probe.bias])
    set_trainable(network, "all", blocks=backbone.blocks)
    network.compile(
        optimizer=keras.optimizers.SGD(1.0),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=jit(),
    )
    kernels = _kernels(backbone, network)
    norms = _norms(network, images[~seen], np.eye(classes, dtype=np.float32)[dense[~seen]], kernels)
    return {
        third: float(np.mean([norms[number] for number in members])) for third, members in _members(kernels).items()
    }


def _with_linear_head(backbone: Backbone, classes: int) -> keras.Model:
    """A copy of the backbone, pooled, under a linear head."""
    copy = keras.models.clone_model(backbone.model)
    copy.set_weights(backbone.model.get_weights())
    pooled = keras.layers.GlobalAveragePooling2D(name="relative_pool", dtype="float32")(copy.output)
    return keras.Model(copy.input, keras.layers.Dense(classes, name="relative_head", dtype="float32")(pooled))


def _kernels(backbone: Backbone, network: keras.Model) -> list[tuple[str, keras.Variable]]:
    """(third, kernel) of every layer of the blocks that learns and has one."""
    found = []
    for third in THIRDS:
        start, end = span(third, len(backbone.blocks), backbone.name)
        names = (name for block in backbone.blocks[start:end] for name in block.layers)
        found += [
            (third, weight)
            for name in names
            for weight in network.get_layer(name).trainable_weights
            if len(weight.shape) > 1
        ]
    return found


def _members(kernels: Sequence[tuple[str, keras.Variable]]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for number, (third, _) in enumerate(kernels):
        members.setdefault(third, []).append(number)
    return members


def _norms(
    network: keras.Model, images: np.ndarray, one_hot: np.ndarray, kernels: Sequence[tuple[str, keras.Variable]]
) -> np.ndarray:
    """Relative gradient norm float (kernels,), the mean over batches of one size."""
    size = min(BATCH, len(images))
    start = network.get_weights()
    before = [np.array(weight) for _, weight in kernels]
    totals = np.zeros(len(kernels))
    count = len(images) // size
    for number in range(count):
        rows = slice(number * size, (number + 1) * size)
        network.train_on_batch(images[rows], one_hot[rows])
        for place, (old, (_, weight)) in enumerate(zip(before, kernels, strict=True)):
            totals[place] += np.linalg.norm(old - np.array(weight)) / (np.linalg.norm(old) + 1e-12)
        network.set_weights(start)
    return totals / count
