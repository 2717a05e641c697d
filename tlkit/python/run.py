"""A run as an object: its measurements as tables and figures, and its classifier to predict, evaluate and export.

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

_TEXT = ("path", "sha256", "split", "label", "predicted", "group", "in_training")  # always text, never missing
_STYLE = "font-family:sans-serif;border-left:4px solid #0072B2;padding:.3em 1em;max-width:46em"


class Evaluated(dict[str, Any]):
    """The result of an evaluation: the mapping that `--json` prints, and its tables.

    Args:
        result: its `out` is the folder of metrics.json, evaluation.json and predictions.csv.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__(result)

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self["out"])

    @property
    def metrics(self) -> "pandas.DataFrame":
        """One row per metric and split: columns split, metric, value, low, high, n (and groups)."""
        import pandas

        rows = [
            {"split": split, "metric": metric, **found}
            for split, metrics in self["metrics"].items()
            for metric, found in metrics.items()
        ]
        return pandas.DataFrame(rows, columns=["split", "metric", "value", "low", "high", "n"])

    @property
    def predictions(self) -> "pandas.DataFrame":
        """predictions.csv: one row per image with its label, the predicted class and `p:CLASS` of each class.

        With more than 1,000 classes only the ten most probable: `predicted`, then `class_2`, `probability_2` and so on.
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
        """A publication figure, see `tlkit.report.figures`; `columns` is 1 (89 mm wide) or 2 (183 mm).

        Raises:
            TlkitError: for an unknown figure, or if nothing was measured that it could show.
        """
        from tlkit.report import figures

        return figures(self.path, (name,), columns=columns)[name]

    def __repr__(self) -> str:
        return f"<tlkit {type(self).__name__} {str(self.path)!r}: {self._headline()}>"

    def _repr_html_(self) -> str:
        """The headline of the report as HTML, for notebooks; names are escaped."""
        report = Path(self["report"])
        link = f'<a href="{html.escape(report.as_posix(), quote=True)}">{html.escape(str(report))}</a>'
        images = f"{self['images']} images"
        return (
            f'<div style="{_STYLE}"><strong>{html.escape(self._headline())}</strong><br>'
            f"{html.escape(self._beside())}<br><small>{images} · report: {link}</small></div>"
        )

    def _found(self) -> Headline | Several | Quantity | None:
        """The headline of the report."""
        return opening(main_split(read_evaluation(self.path / "evaluation.json")))

    def _headline(self) -> str:
        """The report's headline number, in one line."""
        found = self._found()
        return found.line if found else "nothing was measured"

    def _beside(self) -> str:
        """The baseline that the headline is compared with."""
        found = self._found()
        return found.beside if found else ""


class Run(Evaluated):
    """A finished run: the mapping that `tlkit finetune --json` prints, with methods to use its classifier."""

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.path

    @property
    def history(self) -> "pandas.DataFrame":
        """One row per epoch: stage, epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""
        import pandas

        file = RunDir(self.path).history
        _refuse_gone(file)
        return pandas.read_csv(file)

    def predict(self, images: Any, **options: Any) -> "pandas.DataFrame":
        """Predict the class and probability of images, in their order.

        Args:
            images: a path, folder or pattern, a PIL image, an array uint8 (H, W), (H, W, 3), (H, W, 4) or (n, H, W, 3),
                RGB 0..255; or a list of any of these. Images in memory are decoded like files, with their number as
                `path`.
                For a run on clips: a folder of frames or a folder of such folders, an array (T, H, W, 3), a list of
                frames; or a list of any of these.
            options: those of `tlkit.predict`, such as `top` and `tta`.

        Returns:
            Columns path, class, probability (for numbers one column each, with _low and _high) and, if available,
            labels, abstain, unfamiliar, unfamiliarity, top.

        Raises:
            TlkitError: for anything that is not an image, or a file that cannot be read.
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
        """Evaluate on other labelled images, or again on the run's own; takes the arguments of `tlkit.evaluate`."""
        return function("evaluate")(self.path, images, **options)

    def export(self, *formats: str, **options: Any) -> dict[str, Any]:
        """Export to formats such as `"onnx"`, by default into the run's folder `exported`; see `tlkit.export`."""
        given = {"format": formats} if formats else {}
        return function("export")(self.path, **{"out": self.path / "exported"} | given | options)


def load(run: str | os.PathLike[str]) -> Run:
    """Load the run in a folder that `tlkit finetune` wrote; reads a few small files and does not import Keras.

    Raises:
        TlkitError: if it is not a run folder, or the run is not finished.
    """
    run_dir = RunDir(Path(run))
    finished_model(str(run_dir.path))
    return Run(run_dir.result())


def _refuse_gone(file: Path) -> None:
    if not file.is_file():
        raise TlkitError(f"{str(file)!r} is gone.", f"write it again: tlkit evaluate {file.parent}")


# -- Images in memory are written to files, so that all take the same decoder ---------------------------------


def _as_files(images: Any, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Paths of the images, and the names (numbers) of those in memory, which are written losslessly."""
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
    """The same for clips, each written as a folder of frames."""
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
    """Iterate over clips: each a path, an array (T, H, W, 3) or a list of frames."""
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
    """Write an image losslessly into a folder, named by its number; copy it if it is a file."""
    if isinstance(image, (str, os.PathLike)):
        file = folder / f"{number:06d}{Path(image).suffix}"
        with reading(Path(image), "give paths of existing frames."):
            shutil.copyfile(image, file)
        return file
    picture = _picture(image, number)
    file = folder / f"{number:06d}.{'tif' if picture.mode in ('CMYK', 'F', 'LAB', 'YCbCr', 'HSV') else 'png'}"
    picture.save(file, exif=picture.getexif())  # keeps the EXIF orientation
    return file


def _picture(image: Any, number: int) -> "Image.Image":
    """Convert the input to a PIL image.

    Raises:
        TlkitError: if it is not an image, or an array of another type or shape.
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
            f"image {number} is {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W) or (H, W, 3), RGB "
            "0..255.",
            "floats of 0..1: (255 * image).round().astype('uint8').",
        )
    return Image.fromarray(pixels)
