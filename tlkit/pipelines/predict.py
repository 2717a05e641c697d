"""`tlkit predict`: images in; class and probability out.

tlkit predict run photo.jpg holiday/ '*.png' --top 3
find . -name '*.jpg' | tlkit predict run -
"""

import glob
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tlkit.base import cells
from tlkit.base.errors import TlkitError
from tlkit.base.files import replacing
from tlkit.base.story import Silence, Story
from tlkit.classifier.answers import decide
from tlkit.classifier.answers import probabilities as chances_of
from tlkit.classifier.model import Facts, load
from tlkit.data.dataset import Problem
from tlkit.data.labels import written
from tlkit.data.scan import scan
from tlkit.evaluation import tta
from tlkit.extraction.engine import infer
from tlkit.extraction.watch import watching
from tlkit.options.commands import PredictConfig
from tlkit.runs.folder import RunDir, refuse_occupied

FORMATS = {".csv": "csv", ".json": "json"}
JUDGED = ("abstain", "unfamiliar", "unfamiliarity")


def run(config: PredictConfig, story: Story | None = None) -> dict[str, Any]:
    """Predict every image; a file that cannot be read is set aside, never guessed.

    Returns:
        `images`, `set_aside`, `out` (None for stdout) and `predictions`: for each image `path`,
        `class`, `probability`, `abstain` where the classifier has a threshold, `unfamiliar` and `unfamiliarity`
        where it knows what it was trained on, and `top`, the most probable classes with their probabilities. Where an
        image may have several labels, `labels` are those it is given, most probable first, and `class` is the most
        probable one all the same.

    Raises:
        TlkitError: nothing found, unreadable files with `on_bad=fail`, unknown output format.
    """
    story = story or Silence()
    out = Path(config.out) if config.out else None
    if out:
        if out.suffix.lower() not in FORMATS:
            raise TlkitError(f"--out {config.out!r} is neither .csv nor .json.", "end it in .csv or .json.")
        refuse_occupied(out, overwrite=config.overwrite)
    files, problems = find(config.paths, sys.stdin)
    run_path = Path(config.run)
    classifier = load(run_path if run_path.suffix == ".keras" else RunDir(run_path).intact(RunDir(run_path).model))
    views = tta.views_of(config.tta, classifier.facts)
    for sentence in tta.told(config.tta, classifier.facts):
        story.say(sentence)
    good, outputs, bad = infer(
        watching(classifier, files, config, story, views, config.tta),
        files,
        classifier.facts.contract,
        batch_size=config.batch_size,
        description="predicting",
        story=story,
    )
    problems += [Problem(str(files[i]), reason) for i, reason in bad]
    if problems and config.on_bad == "fail":
        raise TlkitError(f"{problems[0].path!r}: {problems[0].reason}", "mend or remove it, or use --on-bad skip.")
    for problem in problems:
        story.say(f"set aside: {problem.path}: {problem.reason}")
    rows = predictions([str(files[i]) for i in good], outputs, classifier.facts, config.top)
    for sentence in _warnings(rows):
        story.say(sentence)
    if out:
        with (
            replacing(out) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            write(file, rows, FORMATS[out.suffix.lower()])
        story.say(f"{out}: {len(rows)} predictions")
    return {
        "images": len(rows),
        "set_aside": [problem.as_json() for problem in problems],
        "out": config.out,
        "predictions": rows,
    }


def find(paths: Iterable[str], stdin: TextIO) -> tuple[list[Path], list[Problem]]:
    """The image files that paths, folders, patterns and a list on stdin name, in that order.

    Raises:
        TlkitError: for a path that does not exist or a pattern that matches nothing.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        if path == "-":
            files += [Path(line) for line in stdin.read().splitlines() if line]
        elif Path(path).is_dir():
            found = scan(path, labelled=False)
            files += [found.file(i) for i in range(len(found))]
            problems += found.set_aside
        elif Path(path).exists():
            files.append(Path(path))
        elif matched := sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 - absolute patterns too
            files += [Path(name) for name in matched if Path(name).is_file()]
        else:
            raise TlkitError(f"{path!r} is no file, folder or pattern that matches one.", "check the spelling.")
    if not files and not problems:
        raise TlkitError("no images were given.", "give files, folders, patterns, or - for a list on stdin.")
    return files, problems


def predictions(paths: list[str], outputs: np.ndarray, facts: Facts, top: int) -> list[dict[str, Any]]:
    """One row for each image, its `top` most probable classes first to last.

    Args:
        paths: n of them.
        outputs: float32 (n, K + 1), logits and unfamiliarity, see `watching`.
        facts: of the classifier.
        top: classes to list.
    """
    if not len(paths):
        return []
    probabilities = chances_of(outputs[:, :-1], facts.temperature, multi=facts.multi)
    given = decide(outputs[:, :-1]).sum(axis=1).tolist()
    order = np.argsort(-outputs[:, :-1], axis=1, kind="stable")
    rows = []
    for path, row, far, best, count in zip(paths, probabilities, outputs[:, -1].tolist(), order, given, strict=True):
        ranked = [{"class": facts.classes[k], "probability": round(float(row[k]), 6)} for k in best[:top]]
        said = {"labels": [facts.classes[k] for k in best[:count]]} if facts.multi else {}
        judged: dict[str, Any] = {}
        if facts.threshold is not None:
            judged["abstain"] = not row[best[0]] >= facts.threshold
        if not np.isnan(far):
            judged |= {"unfamiliar": far > 1, "unfamiliarity": round(far, 4)}
        rows.append({"path": path, **said, **ranked[0], **judged, "top": ranked})
    return rows


def _warnings(rows: list[dict[str, Any]]) -> list[str]:
    """How many images the classifier would rather not answer, and those unlike anything in training."""
    held = sum(row.get("abstain", False) for row in rows)
    strange = sorted((row for row in rows if row.get("unfamiliar")), key=lambda row: -row["unfamiliarity"])
    told = [f"abstains from {held} of {len(rows)} images: not sure enough"] if held else []
    if strange:
        shown = ", ".join(f"{row['path']} ({row['unfamiliarity']:.2f})" for row in strange[:3])
        told.append(f"unlike anything in training: {len(strange)} of {len(rows)} images, the farthest first: {shown}")
    return told


def write(file: TextIO, rows: list[dict[str, Any]], form: str) -> None:
    """Write rows as CSV (path, labels if there may be several, class, probability, JUDGED if known, class_2, ...) or JSON."""
    if form == "json":
        json.dump(rows, file, indent=2, ensure_ascii=False)
        file.write("\n")
        return
    depth = max((len(row["top"]) for row in rows), default=1)
    judged = [name for name in JUDGED if any(name in row for row in rows)]
    several = any("labels" in row for row in rows)
    header = ["path", *["labels"] * several, "class", "probability", *judged]
    header += [f"{name}_{rank}" for rank in range(2, depth + 1) for name in ("class", "probability")]
    writer = cells.Writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        ranked = [value for entry in row["top"] for value in (entry["class"], entry["probability"])]
        first = [row["path"], *[written(row.get("labels", ()))] * several]
        writer.writerow([*first, *ranked[:2], *(_as_text(row.get(name)) for name in judged), *ranked[2:]])


def _as_text(value: Any) -> Any:
    """As JSON writes it: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else value


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV text."""
    buffer = io.StringIO()
    write(buffer, rows, "csv")
    return buffer.getvalue()
