"""`tlkit next`: images in; a table of those to label next and a page to label them on out.

tlkit next images --classes ants,bees --count 50
tlkit next images --labelled labels.csv --out round-2
"""

import contextlib
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, replacing, replacing_all, restored
from tlkit.base.story import Phase, Silence, Story
from tlkit.classifier.facts import read_facts, refuse_clips
from tlkit.data.dataset import Dataset, Problem
from tlkit.data.decode import contract_for, jpeg, set_aside, thumbnail
from tlkit.data.scan import scan
from tlkit.extraction.recall import expecting, feature_source
from tlkit.extraction.source import FEATURES, LOGITS, FeatureSource
from tlkit.labelling.guess import guess
from tlkit.labelling.suggest import Suggestions, suggest
from tlkit.options.commands import FeaturesConfig, NextConfig
from tlkit.options.option import as_word
from tlkit.report.label_page import QUALITY, SIDE, LabelPage, Unlabelled, write_label_page
from tlkit.runs import record
from tlkit.runs.folder import RunDir, finished_model, refuse_occupied

PHASES = (Phase("reading files", 0.2, 1e-3), Phase("extracting", 4.0, 0.02), Phase("choosing", 1.0, 1e-3))


def run(config: NextConfig, story: Story | None = None) -> dict[str, Any]:
    """Choose the images to label next from their features; write next.csv and next.html.

    Returns:
        `out`, `page`, `table`, `way` (`spread` or `uncertain`), `reason`, `labelled` (images that have a label), `unlabelled`,
        `near_copies` (images passed over), `classes`, `set_aside` and `images`: for each its `path`, `guess`, `probability`,
        `margin` and `typicality`.

    Raises:
        TlkitError: if no image is unlabelled, for a run of several labels or numbers, an occupied `out`.
    """
    story, out = story or Silence(), Path(config.out)
    refuse_occupied(out, overwrite=config.overwrite)
    story.expect(*PHASES)
    with contextlib.nullcontext() if config.run else expecting(_features(config)):
        parts = [scan(config.labelled, labelled=True, story=story)] if config.labelled else []
        parts.append(scan(config.images, labelled=_labelled(config), classes=config.classes, story=story))
        _refuse_others(config, parts)
    seen = _by_run(config, parts, story) if config.run else _by_backbone(config, parts, story)
    if seen.labelled.all():
        raise TlkitError(f"every image of {config.images} has a label already.", "give images without one.")

    story.begin("choosing")
    found = suggest(seen.features, seen.labelled, count=config.count, chances=seen.chances, seed=config.seed)
    rows = _rows(seen, found)
    story.say(f"{len(rows)} images ({found.way}): {found.reason}")
    if found.passed_over:
        story.say(f"{found.passed_over} images are near copies of a labelled or chosen image and were passed over")
    with replacing_all(out) as made:
        _write_table(made / "next.csv", rows)
        write_label_page(made / "next.html", _page(config, seen, found, rows))
    story.say(f"{out / 'next.html'}: label the images there by keyboard")
    return {
        "out": str(out),
        "page": str(out / "next.html"),
        "table": str(out / "next.csv"),
        "way": found.way,
        "reason": found.reason,
        "labelled": int(seen.labelled.sum()),
        "unlabelled": int((~seen.labelled).sum()),
        "near_copies": found.passed_over,
        "classes": list(seen.classes),
        "set_aside": [problem.as_json() for problem in seen.problems],
        "images": rows,
    }


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """All images with their labels, features and guesses.

    Args:
        files: absolute paths.
        labels: int (N,), index into `classes`, -1 without a label.
        classes: their names.
        features: float32 (N, C).
        says: float32 (N, ...), the first output of the source.
        problems: files that could not be read.
        chances: float (N, K), class probabilities; None without guesses.
    """

    files: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    features: np.ndarray
    says: np.ndarray
    problems: Sequence[Problem]
    chances: np.ndarray | None = None

    @property
    def labelled(self) -> np.ndarray:
        """Whether each image has a label, bool (N,)."""
        return self.labels >= 0


# -- the images and their features ---------------------------------------------------------


def _labelled(config: NextConfig) -> bool | None:
    """Whether to read labels: a folder's subfolders are not taken as classes here, a table may have labels."""
    return False if Path(config.images).is_dir() else None


def _features(config: NextConfig) -> FeaturesConfig:
    """The options as for `tlkit features`, so that both share stored features."""
    shared = {spec.name for spec in fields(config)} & {spec.name for spec in fields(FeaturesConfig)} - {"out"}
    return FeaturesConfig(**{name: getattr(config, name) for name in shared})


def _refuse_others(config: NextConfig, parts: Sequence[Dataset]) -> None:
    """Raise if labels are not one class per image; they would count as missing."""
    for place, dataset in zip((config.images, config.labelled), reversed(parts), strict=False):
        if not dataset.task.can("next"):
            raise TlkitError(
                f"{place} gives no single class to each image.", f"tlkit next {dataset.task.lacks('next')}."
            )


def _by_backbone(config: NextConfig, parts: Sequence[Dataset], story: Story) -> _Seen:
    """Features of a pretrained network, and guesses of a linear head on them if there are labels."""
    story.begin("extracting")
    origin, source = feature_source(_features(config), story)
    source = replace(source, contract=contract_for(config, origin.image_size, parts[-1], story))
    seen = _together([_extracted(source, part, config, story) for part in parts], config.classes or ())
    found = guess(seen.features, seen.labels, len(seen.classes), config.seed)
    if found:
        story.say(f"guesses by {found.by}")
    return replace(seen, chances=found and found.chances)


def _by_run(config: NextConfig, parts: Sequence[Dataset], story: Story) -> _Seen:
    """Features of a run's network and guesses of its classifier."""
    import tlkit.backbones.runtime  # noqa: F401 - first, so that the backend starts quietly

    run_dir, model = RunDir(Path(str(config.run))), Path(finished_model(str(config.run)))
    facts = read_facts(model)
    refuse_clips(facts, "tlkit next", "it chooses single images; leave out --run for single frames.")
    if not facts.task.can("next"):
        raise TlkitError(
            f"the classifier of {config.run} {facts.task.gives}.", f"tlkit next {facts.task.lacks('next')}."
        )
    story.begin("extracting")
    source = FeatureSource.of_file(model, LOGITS, FEATURES).asked(config)
    known = record.read_images(run_dir) if run_dir.record.is_file() else None
    own = [known[0].select(known[1].indices("train"))] if known else []
    seen = _together([_extracted(source, part, config, story) for part in (*own, *parts)], facts.classes)
    chances = facts.task.probabilities(seen.says, facts.temperature)
    return replace(seen, chances=np.pad(chances, ((0, 0), (0, len(seen.classes) - chances.shape[1]))))


class _Part(NamedTuple):
    """Readable images, their features (n, C) and the first output of the source, which may be the same."""

    dataset: Dataset
    features: np.ndarray
    says: np.ndarray


def _extracted(source: FeatureSource, dataset: Dataset, config: NextConfig, story: Story) -> _Part:
    extraction = source.extract(dataset, story=story)
    story.say(extraction.sentence())
    outputs = list(extraction.features.values())
    good = np.flatnonzero(~outputs[0].lacking)
    return _Part(set_aside(dataset, extraction.problems, config.on_bad), outputs[-1].flat(good), outputs[0].flat(good))


def _together(parts: Sequence[_Part], first: Sequence[str]) -> _Seen:
    """All images once each; of exact copies one with a label, if any.

    Args:
        parts: the images.
        first: class names that come before others.
    """
    names = [*first, *sorted({name for part in parts for name in part.dataset.classes} - set(first))]
    labels = np.concatenate([_labels_in(part.dataset, names) for part in parts])
    content = np.concatenate([part.dataset.sha256 for part in parts])
    order = np.argsort(labels < 0, kind="stable")
    kept = np.sort(order[np.unique(content[order], axis=0, return_index=True)[1]])
    files = [str(part.dataset.file(i).resolve()) for part in parts for i in range(len(part.dataset))]
    return _Seen(
        files=[files[i] for i in kept.tolist()],
        labels=labels[kept],
        classes=tuple(names),
        features=np.concatenate([part.features for part in parts])[kept],
        says=np.concatenate([part.says for part in parts])[kept],
        problems=[problem for part in parts for problem in part.dataset.set_aside],
    )


def _labels_in(dataset: Dataset, names: Sequence[str]) -> np.ndarray:
    """Labels as indices into `names`, int (N,), -1 for none."""
    place = np.array([*(names.index(name) for name in dataset.classes), -1])
    return place[np.where(dataset.labels >= 0, dataset.labels, len(dataset.classes))]


# -- what is written ---------------------------------------------------------------------------------


def _rows(seen: _Seen, found: Suggestions) -> list[dict[str, Any]]:
    rows = []
    for place, row in enumerate(found.rows.tolist()):
        said: dict[str, Any] = {"guess": "", "probability": None, "margin": None}
        if seen.chances is not None:
            chances = seen.chances[row]
            best = int(chances.argmax())
            said = {"guess": seen.classes[best], "probability": round(float(chances[best]), 6)}
            said["margin"] = round(float(found.margins[place]), 6)
        rows.append({"path": seen.files[row], **said, "typicality": round(float(found.typicality[place]), 6)})
    return rows


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table of images, with an empty column `label` to fill in."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
    ):
        writer = CellWriter(file)
        writer.writerow(["path", "label", *list(rows[0])[1:]] if rows else ["path", "label"])
        writer.writerows([row["path"], "", *list(row.values())[1:]] for row in rows)


def _page(config: NextConfig, seen: _Seen, found: Suggestions, rows: Sequence[dict[str, Any]]) -> LabelPage:
    known = [(_text(seen.files[i]), seen.classes[seen.labels[i]]) for i in np.flatnonzero(seen.labelled).tolist()]
    digest = hashlib.sha256("\0".join(row["path"] for row in rows).encode("utf-8", "surrogateescape")).hexdigest()
    return LabelPage(
        title=Path(config.images).resolve().name,
        command=shlex.join(["tlkit", "next", config.images, *_flags(config), "--out", f"{config.out}-again"]),
        fingerprints={"images": digest},
        candidates=[Unlabelled(_text(row["path"]), row["guess"], row["probability"] or 0.0) for row in rows],
        classes=seen.classes,
        known=known,
        way=WAYS[found.way].format(reason=found.reason),
        picture=_picture,
    )


def _flags(config: NextConfig) -> list[str]:
    """The options of the next round: those given, plus the file the page saves."""
    changed = {
        spec.name: getattr(config, spec.name) for spec in fields(config) if getattr(config, spec.name) != spec.default
    }
    kept = {name: value for name, value in changed.items() if name not in ("images", "out", "overwrite", "labelled")}
    flags = {name: as_word(value) for name, value in kept.items()}
    flags["labelled"] = "labels.csv"
    return [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]


WAYS = {
    "spread": "Images whose labels say most about all others (transductive experimental design, Yu et al. 2006): {reason}.",
    "uncertain": "Images in doubt whose labels say most about the others in doubt (after BAIT, Ash et al. 2021): {reason}.",
}


def _text(path: str) -> str:
    """A path as in tlkit's tables, with undecodable bytes escaped reversibly."""
    return path.encode("utf-8", BYTES_AS_TEXT).decode("utf-8")


def _picture(path: str) -> bytes | None:
    try:
        return jpeg(thumbnail(Path(restored(path)), SIDE), QUALITY)
    except UnreadableImage:
        return None
