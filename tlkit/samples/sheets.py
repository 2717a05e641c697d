"""The sheets sample: drawn shapes, up to four on a sheet, and a table of which: images of several labels.

Every file is a function of the seed and its number, so the same options give the same bytes.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.core.atomic import replacing
from tlkit.core.labels import written
from tlkit.core.sample_config import SampleConfig
from tlkit.core.story import Story
from tlkit.samples.folder import TABLE
from tlkit.samples.shapes import CLASSES, SIDE, draw

DEFAULT_COUNT = 400
FILLED = 0.4  # of the places hold a shape: one sheet in eight holds none
CARD = {"title": "Sheets of drawn shapes, with several labels", "licence": "CC0-1.0", "homepage": "", "citation": ""}


def write_sheets(folder: Path, config: SampleConfig, story: Story) -> None:
    """Write `folder/sheets/NUMBER.jpg` and `folder/images.csv` (path, label, labels joined by `|`)."""
    (folder / "sheets").mkdir()
    rows = []
    for number in story.track(range(config.count or DEFAULT_COUNT), "drawing sheets", config.count or DEFAULT_COUNT):
        sheet, names = draw_sheet(config.seed, number)
        path = f"sheets/{number:05d}.jpg"
        sheet.save(folder / path, "JPEG", quality=90)
        rows.append([path, written(names)])
    with replacing(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *rows])


def draw_sheet(seed: int, number: int) -> tuple[Image.Image, list[str]]:
    """A sheet, 192×192, of two by two places, each with a shape or empty; and the names of its shapes, sorted."""
    random = np.random.default_rng([seed, number, 1])
    sheet = Image.fromarray(
        random.normal(random.integers(40, 216), 6, (2 * SIDE, 2 * SIDE, 3)).clip(0, 255).astype("u1")
    )
    shown = set()
    for place in range(4):
        name = CLASSES[int(random.integers(len(CLASSES)))]
        if random.random() < FILLED:
            shown.add(name)
            sheet.paste(draw(name, seed, 4 * number + place), (SIDE * (place % 2), SIDE * (place // 2)))
    return sheet, sorted(shown)
