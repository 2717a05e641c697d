"""`tlkit predict`: images in; class and probability out.

tlkit predict run photo.jpg holiday/ '*.png' --top 3
find . -name '*.jpg' | tlkit predict run -
"""

import glob
import heapq
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, Texts, replacing, taken
from tlkit.base.story import Phase, Silence, Story
from tlkit.classifier.answers import AnswerRows, Answers, number_columns
from tlkit.classifier.facts import ClipFacts, Facts, read_facts, refuse_clips
from tlkit.data.clips import Sampling, is_container, scan_clips
from tlkit.data.dataset import Files, Problem
from tlkit.data.scan import scan
from tlkit.evaluation import tta
from tlkit.extraction.engine import Engine, infer
from tlkit.extraction.extract import Extraction, shard_result
from tlkit.extraction.source import FeatureSource
from tlkit.extraction.watch import answered, watching
from tlkit.options.commands import PredictConfig
from tlkit.runs.folder import RunDir, refuse_occupied
from tlkit.tasks.labels import written

PHASES = (Phase("opening the classifier", 1.0), Phase("predicting", 0.1, 0.02))
STORED_PHASES = (Phase("reading files", 0.2, 1e-3), Phase("extracting", 1.0, 0.02))
FORMATS = {".csv": "csv", ".json": "json"}
JUDGED = ("abstain", "unfamiliar", "unfamiliarity")
TOGETHER = 256  # rows per chunk of JSON


def run(config: PredictConfig, story: Story | None = None) -> dict[str, Any]:
    """Predict every image; unreadable files are set aside.

    Returns:
        `images`, `set_aside`, `out` (None for stdout) and `predictions`, a lazy sequence of rows. A row has
        `path`, `class`, `probability` (for numbers `numbers`: name, value, low, high), `abstain` if the classifier has
        a threshold, `unfamiliar` and `unfamiliarity` if it describes its training data, and `top`, the most probable
        classes with their probabilities. For several labels, `labels` are the predicted ones, most probable first, and
        `class` is still the most probable one; for grades `class` is the median of the distribution and `expected` its
        mean. For a shard see `shard_result`.

    Raises:
        TlkitError: for no images, unreadable files with `on_bad=fail`, an unknown output format.
    """
    story = story or Silence()
    out = Path(config.out) if config.out and config.shard is None else None
    if out:
        refuse_occupied(out, overwrite=config.overwrite)
    run_path = Path(config.run)
    model = run_path if run_path.suffix == ".keras" else RunDir(run_path).intact(RunDir(run_path).model)
    facts = read_facts(model)
    if facts.clip is not None:
        return _given(config, *_of_clips(config, model, facts, facts.clip, story), story)
    files, problems = find(config.paths, sys.stdin)
    found, good, outputs, bad = _answers(config, files, model, facts, story)
    if found and config.shard is not None:
        return shard_result(config, len(files), [found], story)
    problems += [Problem(files.names[i], reason) for i, reason in bad]
    answers = Answers(*outputs) if len(good) else _none(facts)
    return _given(config, answers.rows(taken(files.names, good.data), facts, config.top), problems, story)


def _none(facts: Facts) -> Answers:
    """Empty predictions."""
    return Answers(np.empty((0, len(facts.classes)), np.float32))


def _given(config: PredictConfig, rows: AnswerRows, problems: list[Problem], story: Story) -> dict[str, Any]:
    """Report and write the predictions; return the result."""
    out = Path(config.out) if config.out else None
    if problems and config.on_bad == "fail":
        raise TlkitError(f"{problems[0].path!r}: {problems[0].reason}", "repair or remove it, or use --on-bad skip.")
    for problem in problems:
        story.say(f"set aside: {problem.path}: {problem.reason}")
    for sentence in _warnings(rows):
        story.say(sentence)
    if out:
        with (
            replacing(out) as temporary,
            temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
        ):
            write(file, rows, FORMATS[out.suffix.lower()])
        story.say(f"{out}: {len(rows)} predictions")
    return {
        "images": len(rows),
        "set_aside": [problem.as_json() for problem in problems],
        "out": config.out,
        "predictions": rows,
    }


def _of_clips(
    config: PredictConfig, model: Path, facts: Facts, clip: ClipFacts, story: Story
) -> tuple[AnswerRows, list[Problem]]:
    """One row per clip: films, and all folders of frames at or below the given paths."""
    for flag, given in (
        (f"--tta {config.tta}", config.tta > 1),
        (f"--shard {config.shard}", config.shard is not None),
        (f"--executor {config.executor}", config.executor != "here"),
    ):
        if given:
            refuse_clips(facts, flag, "leave it out.")
    from tlkit.evaluation.judgement import reader_of

    answers: list[Answers] = []
    names: list[str] = []
    problems: list[Problem] = []
    reader = reader_of(model, facts, config, config.batch_size, story)
    for path in (
        line for given in config.paths for line in (sys.stdin.read().splitlines() if given == "-" else [given])
    ):
        if not Path(path).is_dir() and not is_container(Path(path)):
            raise TlkitError(
                f"{path!r} is neither a folder nor a film, and this classifier takes clips.",
                "give a film, a folder with the frames of a clip, or a folder of such folders or films.",
            )
        dataset = scan_clips(path, Sampling(clip.frames, clip.stride), labelled=False, story=story)
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        problems += [Problem(str(folder / one.path), one.reason) for one in dataset.set_aside]
        answers.append(reader.answers(reader.read(dataset, story)))
        names += [str(folder / name) for name in dataset.paths]
    return (Answers.joined(answers) if answers else _none(facts)).rows(names, facts, config.top), problems


def _answers(
    config: PredictConfig, files: Files, model: Path, facts: Facts, story: Story
) -> tuple[Extraction | None, np.ndarray, tuple[np.ndarray, ...], list[tuple[int, str]]]:
    """The predictions, through the store (then with its statistics) if a shard is, or was, computed."""
    views = tta.views_of(config.tta, facts)
    for sentence in tta.describe_views(config.tta, facts):
        story.say(sentence)

    def engine() -> Engine:
        found = watching(model, facts, files, config, story, views, config.tta)
        story.say(f"engine {found.name} in {found.precision}: {found.reason}")
        return found

    source = FeatureSource.of_answers(model, config, engine)
    if config.shard is not None or config.executor != "here" or source.begun:
        story.expect(*STORED_PHASES)
        found = answered(source, files, story)
        story.say(found[0].sentence("answers"))
        return found
    story.expect(*PHASES)  # a single image is predicted without opening the store
    story.begin("opening the classifier")
    size = config.batch_size
    return None, *infer(engine(), files, facts.contract, batch_size=size, description="predicting", story=story)


def find(paths: Iterable[str], stdin: TextIO) -> tuple[Files, list[Problem]]:
    """The image files named by paths, folders, patterns and a list on stdin, in that order.

    Raises:
        TlkitError: for a path that does not exist or a pattern that matches nothing.
    """
    problems: list[Problem] = []
    files = Files(Texts.of(_found(paths, stdin, problems)))
    if not files and not problems:
        raise TlkitError("no images were given.", "give files, folders, patterns, or - for a list on stdin.")
    return files, problems


def _found(paths: Iterable[str], stdin: TextIO, problems: list[Problem]) -> Iterator[str]:
    """Yield the files one by one; files that a scan sets aside are added to `problems`."""
    for path in paths:
        if path == "-":
            yield from (str(Path(line)) for line in map(_without_end, stdin) if line)
        elif Path(path).is_dir():
            found = scan(path, labelled=False)
            problems += found.set_aside
            yield from map(str, found.files)
        elif Path(path).exists():
            yield str(Path(path))
        elif matched := sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute patterns
            yield from (str(Path(name)) for name in matched if Path(name).is_file())
        else:
            raise TlkitError(
                f"{path!r} is not a file, a folder, or a pattern that matches any file.", "check the spelling."
            )


def _without_end(line: str) -> str:
    return line.removesuffix("\n")


def _warnings(rows: AnswerRows) -> list[str]:
    """Warnings on the number of abstentions, and on images unlike anything in training."""
    held, far = int(rows.abstained.sum()), rows.answers.unfamiliarity
    samples = "images" if rows.facts.clip is None else "clips"
    warnings = (
        [f"abstains from {held} of {len(rows)} {samples}: their confidence is below the threshold"] if held else []
    )
    strange = np.flatnonzero(far > 1).tolist() if far is not None else []
    if far is not None and strange:
        farthest = heapq.nlargest(3, ((round(float(far[row]), 4), -row) for row in strange))
        shown = ", ".join(f"{rows.paths[-row]} ({how:.2f})" for how, row in farthest)
        warnings.append(
            f"unlike anything in training: {len(strange)} of {len(rows)} {samples}, the farthest first: {shown}"
        )
    return warnings


# -- Rows of one classifier have the same keys, so the first determines the columns ---


def write(file: TextIO, rows: Sequence[dict[str, Any]], form: str) -> None:
    """Write rows as CSV (see `as_csv`) or JSON, in chunks."""
    if form == "csv":
        file.writelines(as_csv(rows))
        return
    left, before = iter(rows), "[\n"
    while some := list(islice(left, TOGETHER)):
        file.write(before + json.dumps(some, indent=2, ensure_ascii=False)[2:-2])  # without the brackets
        before = ",\n"
    file.write("\n]\n" if len(rows) else "[]\n")


def as_csv(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows as lines of CSV: path, labels in multi-label tasks, class, probability, `JUDGED` if known, class_2, ...

    For grades: `expected` after probability. For numbers: path, and for each number NAME, and NAME_low and NAME_high if it
    has an interval; then `JUDGED`.
    """
    first = next(iter(rows), {})
    judged = [name for name in JUDGED if name in first]
    buffer = io.StringIO()
    writer = CellWriter(buffer, lineterminator="\n")
    for cells in (_of_numbers if "numbers" in first else _of_classes)(rows, first, judged):
        writer.writerow(cells)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _of_classes(rows: Sequence[dict[str, Any]], first: dict[str, Any], judged: list[str]) -> Iterator[list[Any]]:
    """The header, and the cells of every row."""
    several, more = "labels" in first, [name for name in ("expected",) if name in first]
    header = ["path", *["labels"] * several, "class", "probability", *more, *judged]
    yield header + [
        f"{name}_{rank}" for rank in range(2, len(first.get("top", ())) + 1) for name in ("class", "probability")
    ]
    for row in rows:
        ranked = [value for entry in row["top"][1:] for value in (entry["class"], entry["probability"])]
        known = [row["path"], *[written(row.get("labels", ()))] * several, row["class"], row["probability"]]
        yield [*known, *(_as_text(row[name]) for name in (*more, *judged)), *ranked]


def _of_numbers(rows: Sequence[dict[str, Any]], first: dict[str, Any], judged: list[str]) -> Iterator[list[Any]]:
    """The same for numbers."""
    yield ["path", *number_columns(first["numbers"]), *judged]
    for row in rows:
        yield [row["path"], *number_columns(row["numbers"]).values(), *(_as_text(row[name]) for name in judged)]


def _as_text(value: Any) -> Any:
    """A cell as in JSON: booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else value
