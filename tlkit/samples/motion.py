"""The motion sample: drawn clips whose classes differ only in the direction of a change.

In every clip a pointed shape moves across, rotates and changes its size. Two of the three go back and forth, from a
random start, and the third goes one way: which one, and which way, is the class. Over the frames of a clip each of
the three takes the same values in every class, so that shuffled frames carry no information on the class.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tlkit.base.story import Story
from tlkit.options.obtain import SampleConfig

MOTION_SIDE, MOTION_COUNT, MOTION_FRAMES = 96, 240, 12
OVERSAMPLING = 2  # drawn larger and shrunk: antialiased edges
MOTION_CARD = {"title": "Drawn shapes in motion", "licence": "CC0-1.0", "homepage": "", "citation": ""}


class Direction(NamedTuple):
    """The change that goes one way in a class: `across`, `turn` or `size`; from 0 to 1, or from 1 to 0."""

    what: str
    rises: bool


DIRECTIONS = {
    "clockwise": Direction("turn", True),
    "counter-clockwise": Direction("turn", False),
    "growing": Direction("size", True),
    "left": Direction("across", False),
    "right": Direction("across", True),
    "shrinking": Direction("size", False),
}
ACROSS, SIZE, TURN = (0.28, 0.72), (0.12, 0.28), 150.0  # fractions of the side, and degrees around upright


def write_motion(folder: Path, config: SampleConfig, story: Story) -> None:
    """Write `folder/CLASS/CLIP/frame_NN.jpg`; `config.count` clips, cycling through the classes."""
    names, count = list(DIRECTIONS), config.count or MOTION_COUNT
    for number in story.track(range(count), "drawing clips", count):
        name = names[number % len(names)]
        clip = folder / name / f"{number:05d}"
        clip.mkdir(parents=True)
        for time, frame in enumerate(draw_clip(name, config.seed, number)):
            frame.save(clip / f"frame_{time:02d}.jpg", "JPEG", quality=90)


def draw_clip(name: str, seed: int, number: int) -> list[Image.Image]:
    """Draw the frames of one clip, 96x96 each; seed and number determine everything but its class."""
    random = np.random.default_rng([seed, number, 2])
    grounds, ink = random.integers(30, 226, 3), random.integers(0, 256, 3)
    ink = np.where(np.abs(ink - grounds.mean()) < 70, (ink + 128) % 256, ink)
    height, start = random.uniform(0.35, 0.65), random.uniform(-10, 10) - TURN / 2
    ways = {what: _course(DIRECTIONS[name], what, random) for what in ("across", "turn", "size")}
    noise = [random.normal(0, 4, (MOTION_SIDE, MOTION_SIDE, 1)) for _ in range(MOTION_FRAMES)]
    return [
        _frame(
            (_between(ACROSS, ways["across"][time]), height),
            start + TURN * ways["turn"][time],
            _between(SIZE, ways["size"][time]),
            (tuple(ink.tolist()), int(grounds.mean())),
            noise[time],
        )
        for time in range(MOTION_FRAMES)
    ]


def _course(way: Direction, what: str, random: np.random.Generator) -> np.ndarray:
    """Float (T,) in 0..1: evenly one way, or back and forth over the same values from a random start."""
    steps = np.linspace(0, 1, MOTION_FRAMES)
    if what == way.what:
        return steps if way.rises else 1 - steps
    swing = np.concatenate([steps[::2], steps[1::2][::-1]])
    return np.roll(swing, int(random.integers(MOTION_FRAMES)))


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _frame(
    centre: tuple[float, float],
    turn: float,
    size: float,
    colours: tuple[tuple[int, ...], int],
    noise: np.ndarray,
) -> Image.Image:
    """Draw a dart on a background that is striped on the left and plain on the right, which shows its position."""
    side = MOTION_SIDE * OVERSAMPLING
    ink, ground = colours
    large = Image.new("RGB", (side, side), (ground,) * 3)
    pen = ImageDraw.Draw(large)
    for stripe in range(0, side // 2, 16):
        pen.rectangle((stripe, 0, stripe + 7, side), fill=((ground + 45) % 256,) * 3)
    corners = [
        (
            side * (centre[0] + size * reach * math.sin(math.radians(turn + angle))),
            side * (centre[1] - size * reach * math.cos(math.radians(turn + angle))),
        )
        for angle, reach in ((0, 1.5), (150, 0.6), (180, 0.8), (210, 0.6))
    ]
    pen.polygon(corners, fill=ink)
    small = np.asarray(large.resize((MOTION_SIDE, MOTION_SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    return Image.fromarray(np.clip(small + noise, 0, 255).astype(np.uint8))
