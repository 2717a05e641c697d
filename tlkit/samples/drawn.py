"""Samples made without a network: drawn shapes with faults to order, sheets of several shapes, and real digits.

Every file depends only on the seed and its number, so the same options give the same bytes.
"""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tlkit.base.files import replacing
from tlkit.base.story import Story
from tlkit.options.obtain import SampleConfig
from tlkit.samples.motion import MOTION_CARD, write_motion
from tlkit.samples.recipes import TABLE
from tlkit.tasks.labels import written

TRUTH = "truth.csv"
CLASSES = ("circle", "square", "star", "triangle")
SHAPES_SIDE = 96
SHAPES_COUNT = 400
OVERSAMPLING = 3  # drawn larger and reduced, for antialiased edges
ORIENTATION_TAG = 0x0112
SHAPES_CARD = {"title": "Drawn shapes with faults to order", "licence": "CC0-1.0", "homepage": "", "citation": ""}

# EXIF orientation -> the transform applied to the upright image, which the tag undoes.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Drawing:
    """One file to write, one row of truth.csv.

    Args:
        number: number of the file; with the seed it determines the drawing.
        truth: true class.
        label: class folder of the file.
        fault: a name from `SampleConfig.faults`, or "".
        detail: the file it copies, the orientation, or the kind of corruption.
    """

    number: int
    truth: str
    label: str
    fault: str = ""
    detail: str = ""

    @property
    def path(self) -> str:
        """Path relative to the sample's folder; the name reveals neither class nor fault."""
        return f"{self.label}/{self.number:05d}.jpg"


def write_shapes(folder: Path, config: SampleConfig, story: Story) -> None:
    """Write `folder/CLASS/NUMBER.jpg` and `folder/truth.csv` (path, label, truth, fault, detail)."""
    drawings = plan(config)
    by_path = {drawing.path: drawing for drawing in drawings}
    for name in CLASSES:
        (folder / name).mkdir()
    for drawing in story.track(drawings, "drawing shapes", len(drawings)):
        (folder / drawing.path).write_bytes(_content(drawing, by_path, config.seed))
    with replacing(folder / TRUTH) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "truth", "fault", "detail"])
        writer.writerows([row.path, row.label, row.truth, row.fault, row.detail] for row in drawings)


def plan(config: SampleConfig) -> list[Drawing]:
    """Plan each file; faults fall on different files, and copied files are themselves without fault."""
    random = np.random.default_rng(config.seed)
    sizes = _class_sizes(config.count or SHAPES_COUNT, config.imbalance)
    truths = [name for name, size in zip(CLASSES, sizes, strict=True) for _ in range(size)]
    drawings = [Drawing(number, truth, truth) for number, truth in enumerate(truths)]
    order = random.permutation(len(drawings)).tolist()
    hits = {fault: [order.pop() for _ in range(round(part * len(drawings)))] for fault, part in config.faults.items()}
    clean = {name: [drawings[i] for i in order if drawings[i].truth == name] for name in CLASSES}
    for fault, numbers in hits.items():
        for turn, number in enumerate(numbers):
            drawings[number] = _with_fault(drawings[number], fault, turn, clean[drawings[number].truth], random)
    return drawings


def _class_sizes(count: int, imbalance: float) -> list[int]:
    """Size of each class: `1 - imbalance` times the previous one, at least two, `count` in total if possible."""
    weights = np.array([(1 - imbalance) ** place for place in range(len(CLASSES))])
    ends = np.round(np.cumsum(weights) / weights.sum() * count).astype(int)
    return [max(2, int(size)) for size in np.diff(ends, prepend=0)]


def _with_fault(drawing: Drawing, fault: str, turn: int, clean: list[Drawing], random: np.random.Generator) -> Drawing:
    if fault == "mislabelled":
        wrong = [name for name in CLASSES if name != drawing.truth]
        return replace(drawing, fault=fault, label=wrong[int(random.integers(len(wrong)))])
    if fault == "rotated":
        return replace(drawing, fault=fault, detail=str(list(STORED_AS)[turn % len(STORED_AS)]))
    if fault == "corrupt":
        return replace(drawing, fault=fault, detail=("empty", "cut short", "text")[turn % 3])
    if not clean:  # nothing left of this class to copy
        return drawing
    return replace(drawing, fault=fault, detail=clean[int(random.integers(len(clean)))].path)


def _content(drawing: Drawing, by_path: dict[str, Drawing], seed: int) -> bytes:
    """The bytes of one file."""
    if drawing.fault in ("duplicate", "near_duplicate"):
        source = by_path[drawing.detail]
        image = draw(source.truth, seed, source.number)
        if drawing.fault == "duplicate":
            return _jpeg(image)
        closer = image.crop((3, 3, SHAPES_SIDE - 2, SHAPES_SIDE - 2)).resize(
            (SHAPES_SIDE, SHAPES_SIDE), Image.Resampling.BICUBIC
        )
        return _jpeg(closer, quality=80)
    image = draw(drawing.truth, seed, drawing.number)
    if drawing.fault == "rotated":
        return _jpeg(image.transpose(STORED_AS[int(drawing.detail)]), orientation=int(drawing.detail))
    whole = _jpeg(image)
    broken = {"empty": b"", "cut short": whole[: len(whole) // 2], "text": b"<html>404 Not Found</html>\n"}
    return broken[drawing.detail] if drawing.fault == "corrupt" else whole


def _jpeg(image: Image.Image, *, quality: int = 90, orientation: int | None = None) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION_TAG] = orientation
    image.save(buffer, "JPEG", quality=quality, exif=exif if orientation else b"")
    return buffer.getvalue()


def draw(name: str, seed: int, number: int) -> Image.Image:
    """Draw one upright shape, 96×96, with random colours, position, size and slight tilt, on a noisy grey slope."""
    random = np.random.default_rng([seed, number])
    side = SHAPES_SIDE * OVERSAMPLING
    ground = int(random.integers(40, 216))
    # far enough from the background to be visible, whichever channel differs
    ink = tuple((ground + int(random.integers(80, 176))) % 256 for _ in range(3))
    large = Image.new("RGB", (side, side), (ground, ground, ground))
    radius = side * random.uniform(0.2, 0.38)
    centre = [random.uniform(radius, side - radius) for _ in range(2)]
    corners = [
        (centre[0] + radius * reach * math.sin(angle), centre[1] - radius * reach * math.cos(angle))
        for angle, reach in _outline(name, math.radians(random.uniform(-15, 15)))
    ]
    ImageDraw.Draw(large).polygon(corners, fill=ink)
    small = np.asarray(large.resize((SHAPES_SIDE, SHAPES_SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    slope = np.linspace(-15, 15, SHAPES_SIDE)[:, None, None] * random.choice([-1, 1])
    noise = random.normal(0, 6, (SHAPES_SIDE, SHAPES_SIDE, 1))
    return Image.fromarray(np.clip(small + slope + noise, 0, 255).astype(np.uint8))


def _outline(name: str, tilt: float) -> list[tuple[float, float]]:
    """Corners as (angle clockwise from the top, distance as a fraction of the radius)."""
    corners, inner = {"circle": (64, 1.0), "square": (4, 1.0), "star": (10, 0.45), "triangle": (3, 1.0)}[name]
    start = tilt + (math.pi / 4 if name == "square" else 0)
    return [(start + 2 * math.pi * i / corners, inner if i % 2 else 1.0) for i in range(corners)]


# -- The sheets sample: up to four drawn shapes per sheet, and a table of them: images with several labels ---
#
# Every file depends only on the seed and its number, so the same options give the same bytes.

SHEETS_COUNT = 400
FILLED = 0.4  # fraction of places with a shape: one sheet in eight has none
SHEETS_CARD = {
    "title": "Sheets of drawn shapes, with several labels",
    "licence": "CC0-1.0",
    "homepage": "",
    "citation": "",
}


def write_sheets(folder: Path, config: SampleConfig, story: Story) -> None:
    """Write `folder/sheets/NUMBER.jpg` and `folder/images.csv` (path, label, labels joined by `|`)."""
    (folder / "sheets").mkdir()
    rows = []
    for number in story.track(range(config.count or SHEETS_COUNT), "drawing sheets", config.count or SHEETS_COUNT):
        sheet, names = draw_sheet(config.seed, number)
        path = f"sheets/{number:05d}.jpg"
        sheet.save(folder / path, "JPEG", quality=90)
        rows.append([path, written(names)])
    with replacing(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *rows])


def draw_sheet(seed: int, number: int) -> tuple[Image.Image, list[str]]:
    """Draw a sheet, 192×192, of two by two places, each with a shape or empty; also return the shapes' sorted names."""
    random = np.random.default_rng([seed, number, 1])
    sheet = Image.fromarray(
        random.normal(random.integers(40, 216), 6, (2 * SHAPES_SIDE, 2 * SHAPES_SIDE, 3)).clip(0, 255).astype("u1")
    )
    shown = set()
    for place in range(4):
        name = CLASSES[int(random.integers(len(CLASSES)))]
        if random.random() < FILLED:
            shown.add(name)
            sheet.paste(draw(name, seed, 4 * number + place), (SHAPES_SIDE * (place % 2), SHAPES_SIDE * (place // 2)))
    return sheet, sorted(shown)


# -- The digits sample: 1,797 real handwritten digits that ship inside scikit-learn, as PNG files in class folders ---

DIGITS_SIDE = 32
DIGITS_CARD = {
    "title": "Optical recognition of handwritten digits, as shipped in scikit-learn",
    "licence": "CC BY 4.0",
    "homepage": "https://archive.ics.uci.edu/dataset/80",
    "citation": "Alpaydin, E. and Kaynak, C. (1998). Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49",
}


def write_digits(folder: Path, config: SampleConfig, story: Story) -> None:
    """Write `folder/DIGIT/NUMBER.png`, 8×8 grey values enlarged to 32×32, black on white as they were written.

    `config.count` is the maximum number, evenly over the ten digits; None for all.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target
    chosen = _evenly(labels, config.count)
    for label in np.unique(labels):
        (folder / str(label)).mkdir()
    for index in story.track(chosen, "writing digits", len(chosen)):
        grey = np.round(255 - digits.images[index] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(grey).resize((DIGITS_SIDE, DIGITS_SIDE), Image.Resampling.BICUBIC)
        image.save(folder / str(labels[index]) / f"{index:04d}.png")


def _evenly(labels: np.ndarray, count: int | None) -> list[int]:
    """Ascending indices of the first examples of each class, `count` in total, as evenly as possible."""
    if count is None:
        return list(range(len(labels)))
    rank = np.zeros(len(labels), dtype=np.int64)  # of each example within its class
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        rank[of_class] = np.arange(len(of_class))
    by_rank = np.lexsort((labels, rank))
    return sorted(by_rank[:count].tolist())


class Made(NamedTuple):
    """One sample that needs no network: its card, the function that writes it, whether it is of clips."""

    card: dict[str, str]
    write: Callable[[Path, SampleConfig, Story], None]
    clips: bool = False


MADE = {
    "digits": Made(DIGITS_CARD, write_digits),
    "shapes": Made(SHAPES_CARD, write_shapes),
    "sheets": Made(SHEETS_CARD, write_sheets),
    "motion": Made(MOTION_CARD, write_motion, clips=True),
}
