"""`tlkit compare`: two or more runs in; their paired differences, with intervals and tests, out.

tlkit compare run-a run-b
tlkit compare baseline b c --out comparison.html
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import reading, write_json, write_text
from tlkit.base.machine import versions
from tlkit.base.story import Phase, Silence, Story
from tlkit.classifier.answers import IN_TRAINING, Predictions
from tlkit.data.dataset import SPLITS, UNASSIGNED
from tlkit.evaluation.compare import compare
from tlkit.evaluation.results import Comparison, plain
from tlkit.options.commands import CompareConfig
from tlkit.report.comparison import render
from tlkit.runs.folder import RunDir, refuse_occupied

ORDER = ("test", "images", "val")  # images to compare on, best first
CODES = {name: code for code, name in enumerate(SPLITS)} | {"images": UNASSIGNED}
LISTED = 5  # images named in the text
PHASES = Phase("reading predictions", 0.2), Phase("comparing", 1.0)


def run(config: CompareConfig, story: Story | None = None) -> dict[str, Any]:
    """Match the runs' images by content and compare every other run with the first.

    Returns:
        `split`, `images`, `runs`, `comparisons` (see `Comparison`), `out`, `text`.

    Raises:
        TlkitError: for missing predictions, different classes, no common images, an occupied `out`.
    """
    story, out = story or Silence(), Path(config.out) if config.out else None
    if out:
        refuse_occupied(out, overwrite=config.overwrite)
    story.expect(*PHASES)
    story.begin("reading predictions")
    runs = {_name(path, config.runs): _read(Path(path)) for path in config.runs}
    _refuse_other_classes(runs)
    split = config.split or _common_split(runs, story)
    matched = match(runs, split, story)
    story.begin("comparing")
    comparisons = compare(matched)
    text = "\n\n".join(comparison_text(comparison) for comparison in comparisons)
    found = {
        "split": split,
        "images": comparisons[0].n,
        "runs": list(matched),
        "comparisons": plain(comparisons),
        "out": config.out,
    }
    if out:
        if out.suffix == ".json":
            write_json(out, {"format": 1, **found, "versions": versions()})
        else:
            command = shlex.join(["tlkit", "compare", *config.runs])
            write_text(out, render(comparisons, split, command, datetime.now(UTC).isoformat(timespec="seconds")))
        story.say(f"{out}: {len(comparisons)} comparisons")
    return found | {"text": text}


def match(runs: Mapping[str, Predictions], split: str, story: Story) -> dict[str, Predictions]:
    """The labelled images of a split that every run predicted and none was trained on, in one order.

    Images are matched by their bytes; of several copies in a run the first counts.

    Raises:
        TlkitError: if there are none.
    """
    places = {name: _places(rows, split) for name, rows in runs.items()}
    for name, found in places.items():
        if not found:
            raise TlkitError(
                f"{name!r} has no labelled images of {split!r}.",
                "choose others with --split, or evaluate both on the same images: tlkit evaluate RUN IMAGES.",
            )
    common = sorted(set.intersection(*(set(found) for found in places.values())))
    if not common:
        counts = ", ".join(f"{name!r} {len(found)}" for name, found in places.items())
        raise TlkitError(
            f"the runs have no image of {split!r} in common ({counts}).",
            "train both with the same images, --test and --seed, or evaluate both on the same images: "
            "tlkit evaluate RUN IMAGES.",
        )
    matched = {name: runs[name].select(np.array([places[name][key] for key in common])) for name in runs}
    matched = _same_classes(matched)
    truths = np.stack([rows.truth.reshape(len(rows), -1) for rows in matched.values()])
    agreed = np.flatnonzero((truths == truths[0]).all(axis=(0, 2)))
    if len(agreed) < len(common):
        story.say(f"{len(common) - len(agreed)} images are labelled differently in the runs and are left out")
    for name, found in places.items():
        if len(found) > len(common):
            story.say(f"{name}: {len(found) - len(common)} of its {len(found)} images are not in all runs; left out")
    if not len(agreed):
        raise TlkitError("the runs label all of their common images differently.", "check the labels of both.")
    groups = next((rows.groups for rows in matched.values() if rows.groups is not None), None)
    return {name: replace(rows, groups=groups).select(agreed) for name, rows in matched.items()}


def _places(rows: Predictions, split: str) -> dict[str, int]:
    """The row of the first labelled image of the split, not trained on, by sha256."""
    inside = (rows.splits == CODES[split]) & rows.labelled
    if rows.in_training is not None:
        inside &= rows.in_training != IN_TRAINING.index("exact")
    found: dict[str, int] = {}
    for row in np.flatnonzero(inside).tolist():
        found.setdefault(rows.sha256[row], row)
    return found


def _same_classes(runs: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """The runs with labels and logits in the class order of the first."""
    classes = next(iter(runs.values())).classes
    made = {}
    for name, rows in runs.items():
        places = {known: place for place, known in enumerate(rows.classes)}
        order = [places[known] for known in classes]
        labels, targets = rows.task.renamed(rows.labels, rows.targets, rows.classes, classes)
        made[name] = replace(rows, classes=classes, logits=rows.logits[:, order], labels=labels, targets=targets)
    return made


def _refuse_other_classes(runs: Mapping[str, Predictions]) -> None:
    first, *others = runs
    for other in others:
        if runs[first].task != runs[other].task:
            raise TlkitError(
                f"{first!r} {runs[first].task.gives}, {other!r} {runs[other].task.gives}.",
                "compare runs that were trained on the same kind of labels.",
            )
        for have, lack in ((first, other), (other, first)):
            lacking = sorted(set(runs[have].classes) - set(runs[lack].classes))
            if lacking:
                raise TlkitError(
                    f"{have!r} and {other if have == first else first!r} have different classes: "
                    f"{lack!r} has no {', '.join(map(repr, lacking[:5]))}.",
                    "compare runs that were trained on the same classes.",
                )


def _common_split(runs: Mapping[str, Predictions], story: Story) -> str:
    """The first kind of images in `ORDER` that every run has."""
    for split in ORDER:
        if all(((rows.splits == CODES[split]) & rows.labelled).any() for rows in runs.values()):
            caveat = "; training chose the final weights on them" if split == "val" else ""
            story.say(
                f"on the images of {split!r}: the first of {', '.join(map(repr, ORDER))} that all runs have{caveat}"
            )
            return split
    raise TlkitError(
        "the runs have no kind of held-out images in common.",
        "evaluate both on the same images: tlkit evaluate RUN IMAGES.",
    )


def _read(path: Path) -> Predictions:
    """The predictions of a run or an evaluation."""
    file = RunDir(path).predictions
    if not file.is_file():
        raise TlkitError(
            f"{str(path)!r} holds no predictions.csv.", "give a finished run, or a folder that tlkit evaluate wrote."
        )
    with reading(file, "write it again: tlkit evaluate RUN."):
        return Predictions.read_csv(RunDir(path).intact(file))


def _name(path: str, paths: tuple[str, ...]) -> str:
    """The last part of the path, or all of it if that is not unique."""
    names = [Path(other).name for other in paths]
    if paths.count(path) > 1:
        raise TlkitError(f"{path!r} is given twice.", "give each run once.")
    return Path(path).name if names.count(Path(path).name) == 1 and Path(path).name else path


def comparison_text(found: Comparison) -> str:
    """A comparison as text."""
    lines = [found.sentence]
    if "samples_f1" in found.differences:
        lines.append("  an image may have several labels: accuracy is the share of images with every label correct")
    for name, accuracy in zip((found.first, found.second), found.accuracy, strict=True):
        interval = f" [{accuracy.low:.4g}, {accuracy.high:.4g}]" if accuracy.low is not None else ""
        if found.measure == "accuracy":
            interval = f" [{accuracy.low:.3f}, {accuracy.high:.3f}]"
        lines.append(f"  {name}: {found.measure} {accuracy.value:.4f}{interval}")
    if found.measure != "accuracy":
        return "\n".join(lines)
    for name, paths in ((found.first, found.only_first), (found.second, found.only_second)):
        shown = ": " + ", ".join(paths[:LISTED]) + (" ..." if len(paths) > LISTED else "") if paths else ""
        lines.append(f"  {name} alone is correct on {len(paths)}{shown}")
    return "\n".join(lines)
