"""From logits to the written results: predictions, metrics, the report. Shared by finetune and evaluate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlkit.base.errors import TlkitError, UnreadableImage
from tlkit.base.files import BYTES_AS_TEXT, CellWriter, Texts, replacing, replacing_all, sha256_file, write_json
from tlkit.base.story import percent
from tlkit.classifier.answers import Answers, Predictions
from tlkit.classifier.facts import Facts
from tlkit.data.clips import Sampling
from tlkit.data.dataset import SPLITS, Dataset, Splits
from tlkit.data.decode import jpeg, thumbnail
from tlkit.data.look import Looks
from tlkit.evaluation.results import ClassResult, EvaluationResult
from tlkit.report.build import Data, Page, write_report

THUMBNAIL_SIDE = 160
THUMBNAIL_QUALITY = 80
STRIP = 4  # frames of a clip that are shown side by side
PER_CLASS = (
    *("split", "class", "support", "predicted", "precision", "recall", "f1", "roc_auc", "average_precision"),
    *("precision_low", "precision_high", "recall_low", "recall_high"),
)


def build_predictions(
    dataset: Dataset,
    splits: Splits,
    answers: Answers,
    facts: Facts,
    *,
    in_training: np.ndarray | None = None,
) -> Predictions:
    """Key the answers for N images of a manifest by path, with what else is known about each (see `Predictions`)."""
    return Predictions(
        paths=dataset.paths,
        sha256=Texts.of(row.tobytes().hex() for row in dataset.sha256),
        labels=dataset.labels,
        targets=dataset.targets,
        splits=splits.codes,
        logits=answers.logits,
        classes=facts.classes,
        temperature=facts.temperature,
        threshold=facts.threshold,
        margins=facts.margins,
        groups=dataset.groups,
        unfamiliarity=answers.unfamiliarity,
        in_training=in_training,
    )


def judged_by(predictions: Predictions, facts: Facts) -> Predictions:
    """The predictions with the temperature and the threshold of these facts."""
    return replace(predictions, temperature=facts.temperature, threshold=facts.threshold)


def slice_columns(
    dataset: Dataset, slice_by: Sequence[str] | None, rows: np.ndarray, looks: Looks
) -> dict[str, Sequence[str] | np.ndarray]:
    """What to slice by: the columns asked for, image size (side of a square of as many pixels), brightness (0..255).

    Args:
        dataset: N images.
        slice_by: columns of the manifest.
        rows: int (n,), the images that `looks` is about.
        looks: facts of their files.

    Raises:
        TlkitError: for a column that the manifest does not have.
    """
    refuse_unknown_columns(dataset, slice_by)
    columns: dict[str, Sequence[str] | np.ndarray] = {name: dataset.extra[name] for name in slice_by or ()}
    side = np.sqrt(looks.width.astype(np.float64) * looks.height)
    for name, values in (("image size", side), ("brightness", looks.brightness.astype(np.float64))):
        column = np.full(len(dataset), np.nan)
        column[rows] = np.where(looks.width > 0, values, np.nan)
        columns[name] = column
    return columns


def refuse_unknown_columns(dataset: Dataset, slice_by: Sequence[str] | None) -> None:
    """Raise for a column to slice by that the manifest does not have.

    Raises:
        TlkitError: naming those it has.
    """
    for name in slice_by or ():
        if name not in dataset.extra:
            raise TlkitError(
                f"--slice-by {name!r}: the images have no such column.",
                f"columns: {', '.join(map(repr, dataset.extra))}."
                if dataset.extra
                else "give the images as a table (CSV or Parquet) with further columns, see docs/formats.md.",
            )


def data_section(dataset: Dataset, splits: Splits, notes: tuple[str, ...] = ()) -> Data:
    """The report's section on the images."""
    counts = {
        name: dataset.class_counts(splits.codes == code).tolist()
        for code, name in enumerate(SPLITS)
        if (splits.codes == code).any()
    }
    return Data(
        classes=dataset.classes,
        counts=counts or {"images": dataset.class_counts().tolist()},
        images=_images_by_split(dataset, splits),
        rule=splits.rule,
        set_aside=dataset.set_aside,
        ignored=dataset.ignored,
        notes=notes,
        fixes=dataset.fixed,
    )


def _images_by_split(dataset: Dataset, splits: Splits) -> dict[str, int]:
    """Labelled images of each split, where the sum over classes would count some of them twice."""
    found = {name: int((dataset.labelled & (splits.codes == code)).sum()) for code, name in enumerate(SPLITS)}
    return {name: count for name, count in found.items() if count} or {"images": int(dataset.labelled.sum())}


def thumbnails(dataset: Dataset) -> Callable[[str], bytes | None]:
    """Small JPEGs for the report, by path as in the manifest, a strip of frames for a clip; None for a file that is gone."""
    row_of = {path: row for row, path in enumerate(dataset.paths if dataset.clips else ())}

    def make(path: str) -> bytes | None:
        try:
            image = _strip(dataset, row_of[path]) if path in row_of else thumbnail(dataset.root / path, THUMBNAIL_SIDE)
        except UnreadableImage:
            return None
        return jpeg(image, THUMBNAIL_QUALITY)

    return make


def _strip(dataset: Dataset, row: int) -> Image.Image:
    """The image of a row; for a clip, evenly spaced frames side by side, in order."""
    if dataset.clips is None:
        return thumbnail(dataset.file(row), THUMBNAIL_SIDE)
    frames = dataset.clips.of(row)
    shown = [frames[place] for place in Sampling(STRIP).choose(len(frames)).tolist()]
    parts = [thumbnail(dataset.members.file(frame), THUMBNAIL_SIDE // 2) for frame in shown]
    strip = Image.new("RGB", (sum(part.width + 2 for part in parts) - 2, max(part.height for part in parts)), "white")
    left = 0
    for part in parts:
        strip.paste(part, (left, 0))
        left += part.width + 2
    return strip


def write_outcome(
    folder: Path,
    predictions: Predictions,
    evaluation: EvaluationResult,
    page: Page,
    expect: Callable[[Mapping[str, str]], None] | None = None,
) -> dict[str, Any]:
    """Write predictions.csv, metrics.json, evaluation.json, per_class.csv and the report, all of them or none.

    Args:
        folder: to write to.
        predictions: of the images.
        evaluation: of the predictions.
        page: of the report.
        expect: called with the sha256 of every file, by name, before any is moved into place; or None.

    Returns:
        The content of metrics.json.
    """
    metrics = evaluation.metrics_json()
    for split, gained in ((page.choice and page.choice.gained) or {}).items():
        if split in metrics:
            metrics[split]["accuracy_over_probe"] = gained.as_json()
    with replacing_all(folder) as made:
        predictions.write_csv(made / "predictions.csv")
        write_json(made / "metrics.json", metrics)
        write_json(made / "evaluation.json", {"format": 1, **evaluation.as_json()})
        _write_per_class(made / "per_class.csv", evaluation)
        write_report(made / "report.html", page)
        if expect:
            expect({path.name: sha256_file(path) for path in made.iterdir()})
    return metrics


def _write_per_class(path: Path, evaluation: EvaluationResult) -> None:
    """One row for each class of each split; a cell is empty where its value is not defined."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors=BYTES_AS_TEXT, newline="") as file,
    ):
        writer = CellWriter(file)
        writer.writerow(PER_CLASS)
        for split, result in evaluation.splits.items():
            writer.writerows(_class_row(split, row) for row in result.classes)


def _class_row(split: str, row: ClassResult) -> list[Any]:
    """A row of per_class.csv, in the order of `PER_CLASS`."""
    plain = [
        row.name,
        row.support,
        row.predicted,
        row.precision,
        row.recall,
        row.f1,
        row.roc_auc,
        row.average_precision,
    ]
    ends = [*(row.precision_interval or (None, None)), *(row.recall_interval or (None, None))]
    return [split, *plain, *ends]


def _line_of_labels(split: str, found: Mapping[str, Mapping[str, float | None]]) -> str:
    """One line: mean average precision over labels, F1, and the share of images with every label correct."""

    def shown(name: str) -> str:
        value, low, high = (found[name][key] for key in ("value", "low", "high"))
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None else ""
        return "not defined" if value is None else f"{value:.4f}{interval}"

    exact = found["subset_accuracy"]
    groups = f" in {exact['groups']} groups" if "groups" in exact else ""
    return (
        f"  {split:<6} mean average precision {shown('mean_average_precision')}, micro F1 {shown('micro_f1')}, "
        f"every label correct {percent(exact['value'], 1)}, n = {exact['n']}{groups}"
    )


def _line_of_numbers(split: str, found: Mapping[str, Mapping[str, float | None]]) -> str:
    """One line: mean absolute error of each number and of always predicting its mean, R2, and the coverage of intervals."""
    told = []
    for key, error in found.items():
        kind, colon, name = key.partition(":")
        if kind == "mean_absolute_error" and error["value"] is not None:
            own = {short: found.get(f"{short}{colon}{name}", {}) for short in ("r2", "interval_coverage")}
            interval = f" [{error['low']:.4g}, {error['high']:.4g}]" if error["low"] is not None else ""
            mean = found[f"mean_absolute_error_of_mean{colon}{name}"]["value"] or 0.0
            text = (
                f"{name + ' ' * bool(name)}mean absolute error {error['value']:.4g}{interval} (of the mean {mean:.4g})"
            )
            text += f", R2 {own['r2']['value']:.3f}" if own["r2"].get("value") is not None else ""
            held = own["interval_coverage"].get("value")
            told.append(text + (f", intervals hold {percent(held, 1)}" if held is not None else ""))
    count = next(iter(found.values()))["n"]
    return f"  {split:<6} {'; '.join(told) or 'numbers that are not finite'}, n = {count}"


def describe_metrics(metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Accuracy and macro F1 of each split, a line for each; for several labels, mean average precision and F1."""
    lines = []
    for split, found in metrics.items():
        if "subset_accuracy" in found:
            lines.append(_line_of_labels(split, found))
            continue
        if "accuracy" not in found:
            lines.append(_line_of_numbers(split, found))
            continue
        accuracy, f1 = found["accuracy"], found.get("macro_f1", {"value": None})
        interval = f" [{accuracy['low']:.3f}, {accuracy['high']:.3f}]" if accuracy["low"] is not None else ""
        value = f"{accuracy['value']:.4f}" if accuracy["value"] is not None else "not defined"
        macro = f", macro F1 {f1['value']:.4f}" if f1["value"] is not None else ""
        held = found.get("selective_precision")
        answered = (
            f"; answers {percent(found['coverage']['value'], 1)}, {percent(held['value'], 1)} of them correctly"
            if held and held["value"] is not None
            else ""
        )
        groups = f" in {accuracy['groups']} groups" if "groups" in accuracy else ""
        apart = found.get("mean_absolute_error")
        grades = f", off by {apart['value']:.3f} grades" if apart and apart["value"] is not None else ""
        lines.append(f"  {split:<6} accuracy {value}{interval}{macro}{grades}, n = {accuracy['n']}{groups}{answered}")
    return "\n".join(lines)
