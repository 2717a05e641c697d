"""`tlkit explain`: images in; heat maps of the evidence for a class, and the nearest training images, out.

tlkit explain run photo.jpg --out explained
tlkit explain run holiday/ --class-name bees --method integrated
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from tlkit.backbones import runtime
from tlkit.base.errors import TlkitError, UnreadableImage, unknown_name
from tlkit.base.files import read_json, reading, remove, replacing, replacing_all, write_json
from tlkit.base.story import Phase, Silence, Story, counted
from tlkit.classifier.facts import Facts, refuse_clips
from tlkit.classifier.familiarity import nearest
from tlkit.classifier.model import Classifier, load
from tlkit.data.dataset import Problem
from tlkit.data.decode import Batch, batches, thumbnail
from tlkit.data.folders import refuse_inside
from tlkit.explanation.heat_maps import BATCH, DOUBT, EvidenceMap, Witness, agreement, in_words
from tlkit.explanation.neighbours import TrainingImages, training_images
from tlkit.explanation.pictures import MOST, heat_on, overlay, panel, shaded, sheet
from tlkit.options.commands import ExplainConfig
from tlkit.pipelines.predict import find
from tlkit.runs.folder import finished_model, refuse_occupied

FORMAT = 1
THUMBNAIL = 120  # pixels of a neighbour's height
TITLES = {
    "integrated": "integrated gradients",
    "gradcam": "Grad-CAM",
    "occlusion": "occlusion",
    "rollout": "attention rollout",
}


def run(config: ExplainConfig, story: Story | None = None) -> dict[str, Any]:
    """Explain every image: write one picture each, and explain.json.

    Returns:
        `out`, `images`, `set_aside` and `explained`, the rows of explain.json (docs/formats.md).

    Raises:
        TlkitError: if it is not a run, for an unknown class, no images, an occupied `out`, unreadable files with
            `on_bad=fail`.
    """
    story, out = story or Silence(), Path(config.out)
    _refuse_strangers(out, overwrite=config.overwrite)
    for source in config.paths:
        refuse_inside(out, source)
    files, problems = find(config.paths, sys.stdin)
    story.expect(*_phases(len(files)))
    story.begin("opening the classifier")
    classifier = load(finished_model(config.run))
    refuse_clips(classifier.facts, "tlkit explain", "tlkit predict and tlkit evaluate answer clips.")
    classes = classifier.facts.classes
    if config.class_name is not None and config.class_name not in classes:
        raise unknown_name(f"a class of {config.run}", config.class_name, classes)
    witness = Witness(classifier)
    witness.refuse(config.method)
    story.begin("looking at the training images")
    familiar = training_images(config.run, classifier, story) if config.neighbours else None
    work = _Work(config, classifier.facts, witness, familiar, len(files))
    with _folder(out) as folder:
        rows = []
        for batch in story.track(batches(files, classifier.facts.contract, BATCH), "explaining", len(files)):
            problems += _set_aside([Problem(str(files[i]), reason) for i, reason in batch.problems], config, story)
            rows += work.explain(batch, files, folder) if len(batch.indices) else []
        write_json(folder / "explain.json", _document(config, classifier, rows, problems))
    story.say(_summary(rows, out))
    return {
        "out": str(out),
        "images": len(rows),
        "set_aside": [problem.as_json() for problem in problems],
        "explained": rows,
    }


def _phases(images: int) -> tuple[Phase, ...]:
    """The phases with seconds of a small network on two cores; the number of training images is not known yet."""
    return (
        Phase("opening the classifier", 5.0),
        Phase("looking at the training images", 2.0, 2e-3, by="extracting"),
        Phase("explaining", 3.0 + 0.5 * images),
    )


class _Work:
    """Turns batches of images into pictures and rows of explain.json."""

    def __init__(
        self, config: ExplainConfig, facts: Facts, witness: Witness, familiar: TrainingImages | None, total: int
    ) -> None:
        self.config, self.facts, self.witness, self.familiar = config, facts, witness, familiar
        self.digits = max(3, len(str(total)))

    def explain(self, batch: Batch, files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
        """Draw a picture of every image of a batch; return their rows of explain.json."""
        grids = self.witness.grids(batch.images)
        logits = self.witness.logits(grids)
        probabilities = self.facts.task.probabilities(logits, self.facts.temperature)
        predicted = self.facts.task.predicted(logits, self.facts.temperature)
        chosen = self.config.class_name
        codes = predicted if chosen is None else np.full(len(predicted), self.facts.classes.index(chosen))
        found = {name: self.witness.evidence(name, batch.images, grids, codes) for name in self.config.method}
        agreed = agreement(*list(found.values())[:2]).round(4).tolist() if len(found) > 1 else [None] * len(codes)
        alike = self._alike(self.witness.features(grids))
        rows = []
        for i, index in enumerate(batch.indices.tolist()):
            row = {
                "path": str(files[index]),
                "class": self.facts.classes[codes[i]],
                self.facts.task.amount_name: round(float(probabilities[i, codes[i]]), 6),
                "predicted": self._called(logits[i]),
                "picture": "",
                "agreement": agreed[i],
                "against": [name for name, evidence in found.items() if not evidence.heat[i].any()],
                "neighbours": alike[i],
            }
            row["picture"] = _file_name(index + 1, self.digits, row, self._amount(row, 0).rstrip("%"))
            picture = self._picture(row, {name: (part.heat[i], part) for name, part in found.items()})
            with replacing(folder / row["picture"]) as temporary:
                picture.save(temporary, "PNG")
            rows.append(row)
        return rows

    def _called(self, logits: np.ndarray) -> str:
        """The prediction of logits (K,): a class, or several as `cat|dog` in multi-label tasks."""
        return self.facts.task.called(logits, self.facts.classes, self.facts.temperature)

    def _amount(self, row: dict[str, Any], digits: int) -> str:
        """The probability of the class, or the number, as text."""
        task = self.facts.task
        return task.amount(row[task.amount_name], digits)

    def _alike(self, features: np.ndarray) -> list[list[dict[str, Any]]]:
        """The nearest training images of each image."""
        if self.familiar is None:
            return [[] for _ in features]
        known = self.familiar.dataset
        indices, cosines = nearest(features, self.familiar.features, self.config.neighbours)
        return [
            [
                {"path": str(known.file(j)), "class": known.label_name(j), "cosine": round(float(cosine), 4)}
                for j, cosine in zip(row.tolist(), near, strict=True)
            ]
            for row, near in zip(indices, cosines, strict=True)
        ]

    def _picture(self, row: dict[str, Any], maps: dict[str, tuple[np.ndarray, EvidenceMap]]) -> Image.Image:
        """The image, each method's map over it, and below them the nearest training images."""
        contract = self.facts.contract
        photograph = panel(thumbnail(Path(row["path"]), MOST))
        below = shaded(photograph, contract)
        top = [(photograph, "photograph")]
        for name, (heat, evidence) in maps.items():
            nothing = ": no evidence for this class" if name in row["against"] else ""
            heat = heat_on(photograph.size, heat, evidence.lattice, contract)
            top.append((overlay(below, heat), TITLES[name] + nothing))
        rows = [top, [_captioned(neighbour) for neighbour in row["neighbours"]]]
        return sheet([part for part in rows if part], _captions(row, self._amount(row, 1)))


def _captioned(neighbour: dict[str, Any]) -> tuple[Image.Image, str]:
    """A training image with its class and cosine similarity; a grey square if the file is gone."""
    try:
        image = thumbnail(Path(neighbour["path"]), 3 * THUMBNAIL)
    except UnreadableImage:
        image = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "lightgrey")
    scale = min(THUMBNAIL / image.height, 2 * THUMBNAIL / image.width)
    small = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    same = "the same image: " if neighbour["cosine"] == 1 else ""  # to four digits
    return small, f"training: {same}{neighbour['class']}, cosine {neighbour['cosine']:.2f}"


def _captions(row: dict[str, Any], amount: str) -> list[str]:
    """The captions: class, probability, predicted class if different, agreement; and the file."""
    parts = [f"{row['class']} {amount}"]
    if row["predicted"] != row["class"] and "probability" in row:
        parts.append(f"predicted: {row['predicted']}")
    if row["agreement"] is not None:
        parts.append(in_words(row["agreement"]))
    return ["  ·  ".join(parts), row["path"]]


def _file_name(number: int, digits: int, row: dict[str, Any], amount: str) -> str:
    """`001-photo-bees-97.png`: index, name, class and percent (or the predicted number), safe for any file system."""
    words = (Path(row["path"]).stem, row["class"])
    stem, name = (re.sub(r"[^\w.-]+", "_", word).strip("._-")[:60] or "_" for word in words)
    return f"{number:0{digits}d}-{stem}-{name}-{amount}.png"


def _set_aside(problems: list[Problem], config: ExplainConfig, story: Story) -> list[Problem]:
    """Report the files that are set aside, or raise with `on_bad=fail`."""
    if problems and config.on_bad == "fail":
        raise TlkitError(f"{problems[0].path!r}: {problems[0].reason}", "repair or remove it, or use --on-bad skip.")
    for problem in problems:
        story.say(f"set aside: {problem.path}: {problem.reason}")
    return problems


def _refuse_strangers(out: Path, *, overwrite: bool) -> None:
    """Raise if `out` is occupied, or would be replaced but does not hold explanations."""
    refuse_occupied(out, overwrite=overwrite)
    if out.exists() and not (out / "explain.json").is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise TlkitError(
            f"{str(out)!r} holds no explanations.", "--overwrite replaces explanations only; choose another --out."
        )


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder whose files move into `out` when all are written; pictures that `out` had before are removed then."""
    before = _pictures(out)
    with replacing_all(out) as folder:
        yield folder
        before -= {path.name for path in folder.iterdir()}
    for name in before:
        remove(out / name)


def _pictures(out: Path) -> set[str]:
    """Names of the pictures that explain.json in `out` lists; none where there is no such file."""
    path = out / "explain.json"
    if not path.is_file():
        return set()
    with reading(path, "remove the folder, or choose another --out."):
        names = {row["picture"] for row in read_json(path)["explained"]}
    return {name for name in names if name == Path(name).name}


def _document(
    config: ExplainConfig, classifier: Classifier, rows: list[dict[str, Any]], problems: list[Problem]
) -> dict[str, Any]:
    """The content of explain.json."""
    return {
        "format": FORMAT,
        "run": config.run,
        "backbone": classifier.facts.backbone,
        "methods": list(config.method),
        "set_aside": [problem.as_json() for problem in problems],
        "explained": rows,
        "versions": runtime.versions(),
    }


def _summary(rows: list[dict[str, Any]], out: Path) -> str:
    """A summary in a few lines."""
    lines = [f"{out}: {counted(len(rows), 'picture')} and explain.json"]
    agreed = [row["agreement"] for row in rows if row["agreement"] is not None]
    if agreed:
        doubtful = [row for row in rows if row["agreement"] is not None and row["agreement"] < DOUBT]
        lines.append(f"  agreement of the two methods: median {median(agreed):.2f}; below {DOUBT} in {len(doubtful)}")
        lines += [
            f"    {row['agreement']:5.2f}  {row['path']}" for row in sorted(doubtful, key=itemgetter("agreement"))[:5]
        ]
    blank = [row for row in rows if row["against"]]
    if blank:
        lines.append(f"  in {len(blank)} no evidence for the class was found, first {blank[0]['path']}")
    return "\n".join(lines)
