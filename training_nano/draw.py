"""Drawn images: textures, fractals, dead leaves and shaded objects, from random numbers alone.

Sources: fractals from iterated function systems (Kataoka et al. 2020, "Pre-training without Natural Images"); coloured
noise and dead leaves (Baradad et al. 2021, "Learning to See by Looking at Noise"); shader-like programs (Baradad et
al. 2022, "Procedural Image Programs for Representation Learning"); colour ramps of cosines (Quilez 1999).

Every image is `(SIDE, SIDE, 3)` float32, 0..1, and a function of the generator it is given.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 128
Y, X = np.mgrid[0:SIDE, 0:SIDE].astype("float32") / SIDE * 2 - 1
FREQUENCY = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]).astype("float32")
FREQUENCY[0, 0] = FREQUENCY[0, 1]
WALKERS, STEPS, WARM_UP = 300, 90, 12


def draw(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """One image of a random kind; `textures` are images that shapes may be filled with."""
    kind = rng.choice(["noise", "shader", "fractal", "leaves", "objects"], p=[0.1, 0.15, 0.15, 0.25, 0.35])
    if kind == "noise":
        return coloured_noise(rng)
    if kind == "shader":
        return shader(rng)
    return {"fractal": fractal, "leaves": dead_leaves, "objects": objects}[kind](rng, textures)


def coloured_noise(rng: np.random.Generator) -> np.ndarray:
    """Noise with a spectrum of 1/f^a, sometimes stretched along a direction, its channels mixed at random."""
    spectrum = FREQUENCY ** -rng.uniform(0.5, 2.2)
    if rng.random() < 0.4:
        angle, sharpness = rng.uniform(0, np.pi), rng.uniform(1, 8)
        direction = np.arctan2(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None] + 1e-6)
        spectrum = spectrum * np.exp(sharpness * (np.cos(2 * (direction - angle)) - 1))
    white = np.fft.rfft2(rng.standard_normal((3, SIDE, SIDE), dtype="float32"))
    channels = np.fft.irfft2(white * spectrum, (SIDE, SIDE)).astype("float32")
    channels /= channels.std((1, 2), keepdims=True) + 1e-6
    mixing = np.eye(3) * rng.uniform(0, 1) + rng.normal(0, 0.6, (3, 1)) @ np.ones((1, 3)) / 1.7
    image = np.tensordot(channels, mixing.astype("float32"), (0, 1))
    return np.clip(rng.uniform(0.2, 0.8, 3) + rng.uniform(0.08, 0.3) * image, 0, 1).astype("float32")


def shader(rng: np.random.Generator) -> np.ndarray:
    """A short random program over coordinates: affine maps and waves in turn, coloured by a cosine ramp."""
    field = np.stack([X, Y]) * rng.uniform(0.5, 4)
    if rng.random() < 0.3:
        field = np.stack([np.hypot(*field) * rng.uniform(1, 3), np.arctan2(*field) * rng.integers(1, 6)])
    for _ in range(rng.integers(1, 4)):
        moved = np.tensordot(rng.normal(0, 1, (2, 2)), field, (1, 0)) + rng.uniform(-2, 2, (2, 1, 1))
        wave = rng.choice([np.sin, np.cos, np.abs, np.tanh])
        field = moved + rng.uniform(0.3, 1.5) * wave(moved[::-1] * rng.uniform(1, 3))
    value = field[0] * rng.uniform(0.1, 0.8)
    if rng.random() < 0.3:
        value = np.round(value * rng.integers(2, 5)) / 3
    return cosine_ramp(rng, value + 0.15 * rng.random() * coloured_noise(rng)[..., 0])


def cosine_ramp(rng: np.random.Generator, value: np.ndarray) -> np.ndarray:
    """Colour a field: each channel a cosine of the value, with its own middle, height and phase."""
    middle, height = rng.uniform(0.25, 0.75, 3), rng.uniform(0.1, 0.5, 3)
    phase = rng.uniform(0, 1) + rng.uniform(-0.35, 0.35, 3)
    waves = np.cos(2 * np.pi * (value[..., None] * rng.uniform(0.6, 1.4) + phase))
    return np.clip(middle + height * waves, 0, 1).astype("float32")


def fractal(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """An iterated function system played by many walkers, coloured by density over a texture."""
    maps = _contractions(rng, count=rng.integers(2, 7))
    points = rng.uniform(-1, 1, (WALKERS, 2))
    visited = []
    for step in range(STEPS):
        chosen = maps[rng.integers(len(maps), size=WALKERS)]
        points = np.einsum("nij,nj->ni", chosen[:, :, :2], points) + chosen[:, :, 2]
        if step >= WARM_UP:
            visited.append(points)
    density = _histogram(np.concatenate(visited))
    glow = np.clip(density / (np.quantile(density[density > 0], 0.9) + 1e-6), 0, 1) ** 0.5
    paint = cosine_ramp(rng, glow * rng.uniform(0.3, 1.2)) if rng.random() < 0.7 else fill(rng, textures)
    background = (
        fill(rng, textures) if rng.random() < 0.7 else np.full((SIDE, SIDE, 3), colour(rng, textures), "float32")
    )
    opacity = np.clip(glow * rng.uniform(1, 3), 0, 1)[..., None]
    return background * (1 - opacity) + paint * opacity


def _contractions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Affine maps `(count, 2, 3)` whose singular values keep the attractor from bursting or vanishing."""
    maps = np.empty((count, 2, 3))
    for row in maps:
        first, second = rng.uniform(0, 2 * np.pi, 2)
        singular = np.diag(np.sort(rng.uniform(0.25, 0.85, 2)))
        row[:, :2] = _rotation(first) @ singular @ _rotation(second)
        row[:, 2] = rng.uniform(-1, 1, 2)
    return maps


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _histogram(points: np.ndarray) -> np.ndarray:
    """How often each pixel was visited, the attractor scaled to fill the image, softened a little."""
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    pixels = ((points - low) / (high - low + 1e-6) * (SIDE - 1)).astype("int64")
    pixels = pixels[((pixels >= 0) & (pixels < SIDE)).all(1)]
    counts = np.bincount(pixels[:, 0] * SIDE + pixels[:, 1], minlength=SIDE * SIDE).reshape(SIDE, SIDE)
    counts = counts.astype("float32")
    return counts + 0.3 * (
        np.roll(counts, 1, 0) + np.roll(counts, -1, 0) + np.roll(counts, 1, 1) + np.roll(counts, -1, 1)
    )


def dead_leaves(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """Shapes of many sizes, each hiding those below it, as things do in the world."""
    image = fill(rng, textures).copy()
    plain = rng.uniform(0, 0.8)
    for _ in range(rng.integers(10, 60)):
        radius = min(0.9, 0.1 * rng.random() ** -0.6)
        outline = shape(rng) * radius + rng.uniform(-1.1, 1.1, 2)
        paint = colour(rng, textures) if rng.random() < plain else fill(rng, textures)
        paste(image, outline, paint)
    return image


def objects(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """One to four large shaded things with parts, before a background; light comes from one side."""
    image = fill(rng, textures).copy()
    if rng.random() < 0.4:
        image = image * rng.uniform(0.1, 0.6) + colour(rng, textures) * rng.uniform(0.2, 0.4)
    light = rng.normal(0, 0.35, 2)
    for _ in range(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1])):
        centre, size = rng.uniform(-0.5, 0.5, 2), rng.uniform(0.35, 1.0)
        shading = np.clip(1 + light[0] * (X - centre[0]) / size + light[1] * (Y - centre[1]) / size, 0.2, 1.8)
        shaded = _paint(rng, textures) * shading[..., None]
        for part in _parts(rng):
            if rng.random() < 0.2:
                shaded = _paint(rng, textures) * shading[..., None]
            if rng.random() < 0.2:
                paste(image, part * size + centre + 0.05, image * 0.5)
            paste(image, part * size + centre, np.clip(shaded * rng.uniform(0.75, 1.25), 0, 1))
    return np.clip(image, 0, 1).astype("float32")


def _paint(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """What a thing is covered with: a texture, or a plain colour a little uneven."""
    if rng.random() < 0.5:
        return fill(rng, textures)
    return colour(rng, textures) + rng.uniform(0, 0.4) * (fill(rng, textures) - 0.5)


def _parts(rng: np.random.Generator) -> list[np.ndarray]:
    """Outlines that make up a thing: a shape, a ring of petals, a body with limbs, or a chain."""
    kind = rng.choice(["shape", "petals", "limbs", "chain"])
    if kind == "shape":
        return [shape(rng)] + [shape(rng) * rng.uniform(0.1, 0.4) + rng.uniform(-0.5, 0.5, 2) for _ in range(2)]
    if kind == "chain":
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.3, 4).cumsum()
        centres = np.stack([np.cos(heading), np.sin(heading)], 1).cumsum(0) * 0.4
        return [shape(rng) * rng.uniform(0.2, 0.4) + centre for centre in centres - centres.mean(0)]
    count, length = rng.integers(3, 13), rng.uniform(0.5, 1)
    width = rng.uniform(0.05, 0.12) if kind == "limbs" else rng.uniform(0.12, 0.35)
    angles = rng.uniform(0, 2 * np.pi) + np.arange(count) * rng.uniform(0.3, 1) * 2 * np.pi / count
    petal = shape(rng, corners=24) * (length / 2, width) + (length / 2, 0)
    return [petal * rng.uniform(0.8, 1.1) @ _rotation(angle) for angle in angles] + [
        shape(rng) * rng.uniform(0.15, 0.45)
    ]


def shape(rng: np.random.Generator, corners: int | None = None) -> np.ndarray:
    """A closed outline `(corners, 2)` about the origin, of radius one or so: polygon, ellipse or wobbling blob."""
    corners = corners or rng.choice([3, 4, 5, 6, 24, 32])
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.ones(corners)
    if corners > 6:
        for harmonic in range(2, rng.integers(2, 7)):
            radius += rng.normal(0, 0.5 / harmonic) * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * np.clip(radius, 0.15, 2)[:, None]
    return outline * (1, rng.uniform(0.3, 1)) @ _rotation(rng.uniform(0, 2 * np.pi))


def fill(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """A texture, flipped, rolled, recoloured."""
    texture = textures[rng.integers(len(textures))]
    if rng.random() < 0.5:
        texture = texture[:, ::-1]
    if rng.random() < 0.5:
        texture = texture.transpose(1, 0, 2)
    if rng.random() < 0.3:
        texture = texture[..., rng.permutation(3)]
    return np.clip(texture * rng.uniform(0.6, 1.3, 3).astype("float32"), 0, 1)


def colour(rng: np.random.Generator, textures: Sequence[np.ndarray]) -> np.ndarray:
    """A colour `(3,)`: most often one that a texture holds, for colours drawn evenly are gaudier than the world's."""
    if rng.random() < 0.3:
        return rng.random(3)
    texture = textures[rng.integers(len(textures))]
    return texture[rng.integers(SIDE), rng.integers(SIDE)] * rng.uniform(0.7, 1.3)


def paste(image: np.ndarray, outline: np.ndarray, paint: np.ndarray) -> None:
    """Cover what lies within the outline (coordinates -1..1) by a colour `(3,)` or an image, in place."""
    stencil = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(stencil).polygon([tuple(point) for point in (outline + 1) * SIDE / 2], fill=255)
    if box := stencil.getbbox():
        window = np.s_[box[1] : box[3], box[0] : box[2]]
        covered = np.asarray(stencil)[window] > 0
        image[window][covered] = paint if paint.ndim == 1 else paint[window][covered]
