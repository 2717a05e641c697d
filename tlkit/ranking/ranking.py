"""The result of a ranking: candidates with accuracy and cost, and the learning curve."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlkit.backbones.applications import check_size, parse_variants
from tlkit.backbones.weight_files import ALPHAS, imagenet_file, is_path, models_folder, weight_file, weights_at_hand
from tlkit.base.errors import TlkitError
from tlkit.evaluation.results import Metric
from tlkit.options.catalog import BACKBONES, BackboneRow, backbone_row, family_of
from tlkit.options.obtain import Wanted


@dataclass(frozen=True, kw_only=True)
class RankedBackbone:
    """A backbone on these images, before any training.

    Args:
        name: as typed: name, variants, size, weights.
        flags: options of `tlkit finetune` to train it, as one text.
        image_size: (H, W).
        parameters: without a classifier.
        megabytes: of its weights in float32, 10^6 bytes.
        features: C, numbers per image.
        milliseconds: per image through the network here, median; without decoding.
        milliseconds_spread: least and greatest of the repeats.
        logme: log evidence per image and class; higher is better, its zero is arbitrary.
        explained: share of the labels that its features explain by that evidence; comparable between sets.
        accuracy: of a ridge classifier on its features, cross-validated, 0..1.
        behind: the best one's accuracy minus its own on the same folds, with its interval; 0 for the best.
        error: corrected standard error of `behind`.
        within_noise: whether `behind` is within `error`.
        predicted: accuracy expected after fine-tuning, 0..1, on a set that the prediction was not fitted to; None where
            images do not have a single class.
        frontier: whether nothing faster is as accurate.
        computed: images that went through the network now; the rest were in the store.
        seconds: of extraction and scoring.
    """

    name: str
    flags: str
    image_size: tuple[int, int]
    parameters: int
    megabytes: float
    features: int
    milliseconds: float
    milliseconds_spread: tuple[float, float]
    logme: float
    explained: float
    accuracy: Metric
    behind: Metric
    error: float
    within_noise: bool
    predicted: Metric | None
    frontier: bool
    computed: int
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """A candidate that was left out."""

    name: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Forecast:
    """Expected accuracy of the linear head with so many training images.

    Args:
        times: multiple of the present number of images.
        images: their number.
        accuracy: 0..1, with its 95 % interval.
    """

    times: float
    images: int
    accuracy: Metric


@dataclass(frozen=True)
class ClassGain:
    """The gain of a class from more images.

    Args:
        name: of the class.
        images: of it now.
        recall: with the largest number of images on the curve, 0..1.
        gain: of recall for each doubling of the images.
        error: corrected standard error of `gain`.
    """

    name: str
    images: int
    recall: float
    gain: float
    error: float


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Accuracy of a linear head against its number of training images.

    Args:
        candidate: whose features.
        points: measured: images, and accuracy with its interval.
        forecasts: of the fitted curve; none where there is `trouble`.
        reducible, rate, floor: error(n) = floor + reducible * (n / n_last)^-rate, n_last at the last point; else None.
        trouble: why there is no forecast, "" where there is one.
        classes: the gain of each, the one to photograph first on top.
        first: that class, or None where the curves do not show one.
        advice: in a sentence.
    """

    candidate: str
    points: tuple[tuple[int, Metric], ...]
    forecasts: tuple[Forecast, ...] = ()
    reducible: float | None = None
    rate: float | None = None
    floor: float | None = None
    trouble: str = ""
    classes: tuple[ClassGain, ...] = ()
    first: str | None = None
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Candidates, the most accurate first.

    Args:
        images: number used.
        available: number that could have been used, without the test split.
        classes: their names.
        rule: which images, and how accuracy was measured.
        measure: meaning of `accuracy`, here and in `curve`: "accuracy", or "F1 of each image's labels" where it may have several.
        candidates: those compared.
        skipped: those left out.
        recommended, best: names of candidates: the recommended one, and the best on features alone.
        reason: why the one is recommended.
        command: that trains it.
        curve: the expected gain from more images, if asked for.
    """

    images: int
    available: int
    classes: tuple[str, ...]
    rule: str
    candidates: tuple[RankedBackbone, ...]
    skipped: tuple[Skipped, ...]
    recommended: str
    best: str
    reason: str
    command: str
    measure: str = "accuracy"
    curve: LearningCurve | None = field(default=None)


# -- The candidates: those whose weights are at hand, and those that are skipped, with the remedy ---


def at_hand(asked: Sequence[Wanted]) -> tuple[list[Wanted], list[Skipped]]:
    """The candidates that can be built offline, and the others.

    Raises:
        TlkitError: a variant that the network does not have, or that has no ImageNet weights anywhere; a size below its
            smallest; a missing file.
    """
    for one in asked:
        for file in (one.backbone if is_path(one.backbone) else "", one.weights):
            if file not in ("", "imagenet", "none") and not Path(file).is_file():
                raise TlkitError(f"{file!r} of candidate {one.name!r} does not exist.", "correct its path.")
    missing = {one: _missing(one) for one in asked}
    return [one for one in asked if missing[one] is None], [found for found in missing.values() if found]


def everyone(image_size: int | None) -> tuple[list[Wanted], list[Skipped]]:
    """`nano` and every width of every catalogue network whose weights are at hand; a row for each of the others.

    Args:
        image_size: side of all of them, or None for the native ones.
    """
    found: list[Wanted] = []
    skipped: list[Skipped] = []
    for row in BACKBONES.values():
        if image_size is not None and image_size < row.minimum:
            reason = f"it needs {row.minimum} pixels per side, but --image-size is {image_size}"
            skipped.append(Skipped(row.name, reason, f"give --image-size {row.minimum} or more, or none."))
            continue
        widths = [Wanted(f"{row.name}:alpha={alpha}", image_size) for alpha in ALPHAS.get(row.name, ()) if alpha != 1.0]
        present, lacking = at_hand([Wanted(row.name, image_size), *widths])
        found += present
        skipped += [] if present else lacking[:1]
    return found, skipped


def _missing(one: Wanted) -> Skipped | None:
    """Why a candidate is skipped; None where its weights are at hand."""
    if is_path(one.backbone):
        return None
    if family_of(one.backbone):
        return _missing_preset(one)
    row = backbone_row(one.backbone)
    check_size(row, _size(one, row))
    variants: dict[str, Any] = parse_variants(row, one.backbone)
    if one.weights != "imagenet" or not row.attribute or weights_at_hand(row, variants, _size(one, row)) is not None:
        return None
    file = imagenet_file(row, variants, _size(one, row))
    return Skipped(
        one.name,
        f"its ImageNet weights ({file}) are not in {models_folder()}",
        f"with a network: `tlkit weights fetch {shlex.quote(weight_file(row, variants, _size(one, row)).spec)}`; without: "
        "`tlkit weights import FILE`; or give a weight file with weights=FILE.",
    )


def _size(one: Wanted, row: BackboneRow) -> tuple[int, int]:
    side = one.image_size or row.image_size
    return side, side


def _missing_preset(one: Wanted) -> Skipped | None:
    """Why a preset of KerasHub is skipped; None where it is at hand."""
    from tlkit.backbones.hub import preset_at_hand  # loads Keras and KerasHub

    if one.weights == "none" or preset_at_hand(one.backbone) is not None:
        return None
    remedy = f"with a network: `tlkit weights fetch {one.backbone}`; without: copy its folder here, hub:FOLDER."
    return Skipped(one.name, "its preset is not on this machine", remedy)
