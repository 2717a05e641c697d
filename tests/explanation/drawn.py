"""Scenes where the right place is known: one object somewhere on a background that is independent of its class.

Scenes without an object are a class of their own. Otherwise a classifier may recognise one of the objects by
the absence of the others, and a correct map would have no evidence at the object's place.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("cross", "disc", "triangle", "nothing")
REACH = 0.14  # half the object's width, as a part of the side


def scenes(count, side, seed):
    """`count` scenes, classes in turn.

    Returns:
        images uint8 (count, side, side, 3), labels int (count,), masks bool (count, side, side): the object; empty where there is none.
    """
    drawn = [_scene(number % len(CLASSES), side, np.random.default_rng([seed, number])) for number in range(count)]
    images, masks = (np.stack(parts) for parts in zip(*drawn, strict=True))
    return images, np.arange(count) % len(CLASSES), masks


def energy(heat, masks):
    """Share of the heat inside the masks, relative to the same area at random: float (B,).

    A mask moved at random, wrapping around the edges, holds on average a share of the heat equal to its
    share of the image. An empty map counts 0.
    """
    inside = (heat * masks).sum(axis=(1, 2)) / np.maximum(heat.sum(axis=(1, 2)), 1e-12)
    return inside / masks.mean(axis=(1, 2))


def _scene(label, side, random):
    ground = sum(_noise(random, cells, side) * 60 / octave for octave, cells in enumerate((4, 16, 56), start=1))
    pixels = random.uniform(60, 190, 3) * 0.3 + 90 + ground
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    reach = REACH * side
    y, x = random.uniform(reach, side - reach, 2)
    ink = tuple(int(part) for part in random.permutation([random.uniform(0, 70), *random.uniform(170, 255, 2)]))
    _draw(ImageDraw.Draw(image), CLASSES[label], x, y, reach, ink)
    mask = Image.new("1", image.size)
    _draw(ImageDraw.Draw(mask), CLASSES[label], x, y, reach, 1)
    return np.asarray(image), np.asarray(mask)


def _draw(draw, name, x, y, reach, ink):
    if name == "nothing":
        return
    if name == "disc":
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=ink)
    elif name == "cross":
        draw.rectangle((x - reach, y - reach / 3, x + reach, y + reach / 3), fill=ink)
        draw.rectangle((x - reach / 3, y - reach, x + reach / 3, y + reach), fill=ink)
    else:
        corners = [math.radians(angle) for angle in (270, 30, 150)]
        draw.polygon([(x + reach * math.cos(a), y + reach * math.sin(a)) for a in corners], fill=ink)


def _noise(random, cells, side):
    """float (side, side, 3) of deviation 1 or less, in blobs of side / cells pixels."""
    small = random.normal(0, 1, (3, cells, cells)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC)) for plane in small]
    return np.stack(planes, axis=-1)
