"""The network of a run: backbone, head, the two composed; what of it is computed once and stored, and for which images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlkit.backbones.build import Backbone, build_backbone
from tlkit.backbones.user_model import is_path
from tlkit.base.errors import TlkitError
from tlkit.base.story import Story
from tlkit.classifier.heads.build import Head, build_head
from tlkit.classifier.model import Classifier, compose
from tlkit.data.dataset import Dataset, InputContract, Splits
from tlkit.data.levels import contract_for
from tlkit.data.views import CENTRE, Augmentation
from tlkit.extraction.extract import Extraction
from tlkit.extraction.source import FeatureSource, Tap
from tlkit.options.commands import FinetuneConfig
from tlkit.training.plan import Plan
from tlkit.training.stages import Material, groups_of_all


@dataclass(frozen=True)
class Parts:
    """The network and how images meet it."""

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

    def stored(self, plan: Plan) -> dict[str, Tap]:
        """What the plan keeps on disk, `features` and `cut`, and where in the network it comes from."""
        names = {"features": lambda stage: self.feature, "cut": lambda stage: Tap(stage.cut)}
        return {stage.source: names[stage.source](stage) for stage in plan.stages if stage.source in names}

    def frozen(self, plan: Plan, config: FinetuneConfig) -> FeatureSource | None:
        """What is computed once: the input of the head and, for the top stage, the output at the cut; in one pass."""
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
        dataset: what it learns to tell apart.
        story: hears of a download.
        contract: how images become pixels, of a run that is gone on with; settled on the images unless given.
        structure_only: with random weights in the place of pretrained ones of the catalogue, which need not be at hand.
    """
    weights = (
        "none" if structure_only and config.weights == "imagenet" and not is_path(config.backbone) else config.weights
    )
    backbone = build_backbone(
        config.backbone, weights=weights, image_size=config.image_size, seed=config.seed, story=story
    )
    contract = contract or contract_for(config, backbone.image_size, dataset, story)
    head = build_head(config, backbone.grid_shape, len(dataset.classes), seed=config.seed)
    return Parts(backbone, head, compose(backbone, head, dataset.classes, contract, dataset.task), contract)


def gather(
    config: FinetuneConfig, parts: Parts, plan: Plan, dataset: Dataset, splits: Splits, story: Story
) -> Material:
    """Everything the stages read: rows of every image, and of as many views of training images as planned.

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
        story.say(f"a view of each of {len(dataset)} images{more}: {found.sentence()}")
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
    """Every file was looked at before; one that cannot be read now has changed since."""
    if found.problems:
        lost = found.problems[0]
        raise TlkitError(
            f"{lost.path!r} could be read a moment ago and cannot be now: {lost.reason}.", "restore it, then resume."
        )
