"""A run as an object: what was measured as tables, figures, and the classifier to ask, evaluate and export.

run = tlkit.load("run")
run.metrics; run.predictions; run.history      # pandas
run.figure("confusion")                        # matplotlib
run.predict(["new.jpg"])                       # paths, PIL images or arrays
"""

import html
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.base.errors import TlkitError
from tlkit.base.files import read_cell, reading, restored
from tlkit.base.process import scratch
from tlkit.classifier.answers import MOST_PROBABLE, TRUE_CLASS, number_columns
from tlkit.classifier.facts import read_facts
from tlkit.evaluation.stored import read_evaluation
from tlkit.python.functions import function
from tlkit.report.headline import Headline, Quantity, Several, main_split, opening
from tlkit.runs.folder import RunDir, finished_model

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from PIL import Image

_TEXT = ("path", "sha256", "split", "label", "predicted", "group", "in_training")  # never numbers, never missing
_STYLE = "font-family:sans-serif;border-left:4px solid #0072B2;padding:.3em 1em;max-width:46em"


class Evaluated(dict[str, Any]):
    """What an evaluation returned, a mapping as `--json` prints it, and the tables beside it.

    Args:
        result: with `out`, the folder of metrics.json, evaluation.json and predictions.csv.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__(result)

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self["out"])

    @property
    def metrics(self) -> "pandas.DataFrame":
        """A row for each metric of each split: columns split, metric, value, low, high, n (and groups)."""
        import pandas

        rows = [
            {"split": split, "metric": metric, **found}
            for split, metrics in self["metrics"].items()
            for metric, found in metrics.items()
        ]
        return pandas.DataFrame(rows, columns=["split", "metric", "value", "low", "high", "n"])

    @property
    def predictions(self) -> "pandas.DataFrame":
        """predictions.csv: a row for each image, its label, what was predicted, and `p:CLASS` of each class.

        Of more than 1,000 classes the ten most probable ones instead: `predicted`, then `class_2`, `probability_2` and on.
        """
        import pandas

        file = self.path / "predictions.csv"
        _refuse_gone(file)
        listed = [f"class_{place}" for place in range(2, MOST_PROBABLE + 1)]
        table = pandas.read_csv(
            file,
            dtype=dict.fromkeys((*_TEXT, *listed), str),
            keep_default_na=False,
            na_values={"unfamiliarity": [""], TRUE_CLASS: [""]},
            encoding_errors="surrogateescape",
        )
        names = [name for name in (*_TEXT, *listed) if name in table]
        return table.assign(**{name: table[name].map(lambda cell: restored(read_cell(cell))) for name in names})

    def figure(self, name: str = "confusion", columns: int = 1) -> "Figure":
        """One figure for a paper, see `tlkit.report.figures`; `columns` is 1 (89 mm wide) or 2 (183 mm).

        Raises:
            TlkitError: no such figure, or nothing was measured that it could show.
        """
        from tlkit.report import figures

        return figures(self.path, (name,), columns=columns)[name]

    def __repr__(self) -> str:
        return f"<tlkit {type(self).__name__} {str(self.path)!r}: {self._headline()}>"

    def _repr_html_(self) -> str:
        """The headline of the report, for notebooks; names are escaped."""
        report = Path(self["report"])
        link = f'<a href="{html.escape(report.as_posix(), quote=True)}">{html.escape(str(report))}</a>'
        images = f"{self['images']} images"
        return (
            f'<div style="{_STYLE}"><strong>{html.escape(self._headline())}</strong><br>'
            f"{html.escape(self._beside())}<br><small>{images} · report: {link}</small></div>"
        )

    def _found(self) -> Headline | Several | Quantity | None:
        """What the report begins with."""
        return opening(main_split(read_evaluation(self.path / "evaluation.json")))

    def _headline(self) -> str:
        """The number that the report begins with, in one line."""
        found = self._found()
        return found.line if found else "nothing was measured"

    def _beside(self) -> str:
        """What to hold it against."""
        found = self._found()
        return found.beside if found else ""


class Run(Evaluated):
    """A finished run: a mapping as `tlkit finetune --json` prints it, and what can be done with it."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.path

    @property
    def history(self) -> "pandas.DataFrame":
        """A row for each epoch: stage, epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""
        import pandas

        file = RunDir(self.path).history
        _refuse_gone(file)
        return pandas.read_csv(file)

    def predict(self, images: Any, **options: Any) -> "pandas.DataFrame":
        """Class and probability of images, in their order.

        Args:
            images: a path, folder or pattern, a PIL image, an array uint8 (H, W), (H, W, 3), (H, W, 4) or (n, H, W, 3),
                RGB 0..255; or a list of any of these. Images in memory are decoded as files are, and `path` is their number.
                Of a run on clips a folder of frames, or of such folders; an array (T, H, W, 3) or a list of frames is a clip;
                or a list of any of these.
            options: those of `tlkit.predict`, such as `top` and `tta`.

        Returns:
            Columns path, class, probability (of numbers each, with _low and _high), and as known: labels, abstain, unfamiliar, unfamiliarity, top.

        Raises:
            TlkitError: something that is no image, or a file that cannot be read.
        """
        import pandas

        with scratch() as folder:
            clips = read_facts(RunDir(self.path).model).clip is not None
            paths, names = (_as_folders if clips else _as_files)(images, folder)
            found = function("predict")(self.path, paths, **{"on_bad": "fail", "verbose": False} | options)
        rows = [row | {"path": names.get(row["path"], row["path"])} for row in found["predictions"]]
        for row in rows:
            row |= number_columns(row.pop("numbers", ()))
        table = pandas.DataFrame(rows, columns=list(rows[0]) if rows else ["path", "class", "probability"])
        return table if int(options.get("top") or 1) > 1 else table.drop(columns="top", errors="ignore")

    def evaluate(self, images: Any = None, **options: Any) -> "Evaluated":
        """Measure on other labelled images, or again on the run's own; arguments of `tlkit.evaluate`."""
        return function("evaluate")(self.path, images, **options)

    def export(self, *formats: str, **options: Any) -> dict[str, Any]:
        """Write artifacts such as `"onnx"` into the run's folder `exported` unless `out` is given; see `tlkit.export`."""
        given = {"format": formats} if formats else {}
        return function("export")(self.path, **{"out": self.path / "exported"} | given | options)


def load(run: str | os.PathLike[str]) -> Run:
    """The run in a folder that `tlkit finetune` wrote; reads a few small files and loads no Keras.

    Raises:
        TlkitError: no run folder, or a run that is not finished.
    """
    run_dir = RunDir(Path(run))
    finished_model(str(run_dir.path))
    return Run(run_dir.result())


def _refuse_gone(file: Path) -> None:
    if not file.is_file():
        raise TlkitError(f"{str(file)!r} is gone.", f"write it again: tlkit evaluate {file.parent}")


# -- Images in memory as files, so that one decode serves them all ---------------------------------


def _as_files(images: Any, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Paths of the images, written losslessly where they are none; and what those are called: their numbers."""
    paths: list[str] = []
    names: dict[str, str] = {}
    for number, image in enumerate(_each(images)):
        if isinstance(image, (str, os.PathLike)):
            paths.append(os.fspath(image))
            continue
        file = _written(image, folder, number)
        paths.append(str(file))
        names[str(file)] = str(number)
    return paths, names


def _as_folders(clips: Any, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The same of clips, each a folder of its frames."""
    paths: list[str] = []
    names: dict[str, str] = {}
    for number, clip in enumerate(_each_clip(clips)):
        if isinstance(clip, (str, os.PathLike)):
            paths.append(os.fspath(clip))
            continue
        own = folder / f"{number:06d}"
        own.mkdir()
        for place, frame in enumerate(clip):
            _written(frame, own, place)
        paths.append(str(own))
        names[str(own)] = str(number)
    return paths, names


def _each_clip(clips: Any) -> Iterable[Any]:
    """Clips one by one: a path, an array (T, H, W, 3), or a list of frames."""
    if isinstance(clips, (str, os.PathLike)) or getattr(clips, "ndim", 0) == 4:
        return [clips]
    listed = list(_each(clips))
    frames = [hasattr(one, "getexif") or getattr(one, "ndim", 0) in (2, 3) for one in listed]
    return [listed] if frames and all(frames) else listed


def _each(images: Any) -> Iterable[Any]:
    if isinstance(images, (str, os.PathLike)) or hasattr(images, "getexif"):
        return [images]
    if isinstance(images, np.ndarray) and images.dtype != object:
        return [images] if images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4)) else images
    if not isinstance(images, (Sequence, np.ndarray)) and not hasattr(images, "__iter__"):
        raise TlkitError(f"{images!r} is not an image.", "give paths, PIL images or arrays (H, W, 3) of uint8.")
    return images


def _written(image: Any, folder: Path, number: int) -> Path:
    """The file of an image in a folder, losslessly, by its number; of one that is a file already a copy."""
    if isinstance(image, (str, os.PathLike)):
        file = folder / f"{number:06d}{Path(image).suffix}"
        with reading(Path(image), "give paths of frames that are there."):
            shutil.copyfile(image, file)
        return file
    picture = _picture(image, number)
    file = folder / f"{number:06d}.{'tif' if picture.mode in ('CMYK', 'F', 'LAB', 'YCbCr', 'HSV') else 'png'}"
    picture.save(file, exif=picture.getexif())  # a turn that the image asks for is kept
    return file


def _picture(image: Any, number: int) -> "Image.Image":
    """A PIL image of what was given.

    Raises:
        TlkitError: it is none, or an array of another type or shape.
    """
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    pixels = image if isinstance(image, np.ndarray) else None
    if pixels is None:
        raise TlkitError(
            f"image {number} is a {type(image).__name__}, expected a path, a PIL image or an array.",
            "convert it first.",
        )
    flat = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not flat or not pixels.size:
        raise TlkitError(
            f"image {number} is {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W) or (H, W, 3), RGB 0..255.",
            "floats of 0..1: (255 * image).round().astype('uint8').",
        )
    return Image.fromarray(pixels)
