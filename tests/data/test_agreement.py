"""Differences between JPEGs decoded at a fraction of their size and in full; writes the table of docs/decoding.md.

TLKIT_WRITE_DOCS=1 pytest tests/data/test_agreement.py
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.pixels.decoding import resize, resize_plainly
from tlkit.pixels.jpeg import read_head, read_jpeg

DOCS = Path(__file__).parents[2] / "docs" / "decoding.md"
BEGIN, END = "<!-- agreement: tests/data/test_agreement.py writes it -->", "<!-- end of agreement -->"
SIDE = 224
# scale -> sides that are a multiple of it and sides that are not, each the smallest for which the scale is used
SIDES = {
    8: ((336, 336), (341, 477)),
    4: ((672, 896), (675, 901)),
    2: ((1344, 1792), (1347, 1799)),
    1: ((2688, 3584), (2689, 3585)),
}
MEAN, MOST = 0.7, 13  # grey levels: what docs/decoding.md states


def picture(size):
    """Edges, gradients and grain of a fixed seed: what a photograph has, at any size."""
    width, height = size
    random = np.random.default_rng(7)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    y, x = np.mgrid[0:height, 0:width]
    stripes = 25 * np.sign(np.sin(x * 97 / width) + np.sin(y * 61 / height))
    grain = random.normal(0, 4, (height, width))
    pixels = np.asarray(coarse, np.float32) * 0.7 + 38 + (stripes + grain)[..., None]
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def whole(source, side=SIDE):
    """Everything decoded, by Pillow, and resized by its antialiased bilinear filter."""
    with Image.open(io.BytesIO(source)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)).astype(int)


@pytest.fixture(scope="module")
def measured():
    """(scale, whether its sides are multiples) -> mean and largest difference."""
    found = {}
    for eighths, kinds in SIDES.items():
        for multiple, size in zip((True, False), kinds, strict=True):
            source = picture(size)
            head, inner = read_head(source), (int(SIDE * 1.5), int(SIDE * 1.5))
            width = read_jpeg(source, head, lambda _, inner=inner: inner).pixels.shape[1]
            assert width == -(-size[0] * eighths // 8), "the scale that was meant is the one that is used"
            apart = np.abs(decode(source, InputContract(height=SIDE, width=SIDE)) - whole(source))
            found[eighths, multiple] = float(apart.mean()), int(apart.max())
    return found


def test_every_scale_agrees_with_the_whole_image(measured):
    for scale, (mean, most) in measured.items():
        assert mean <= MEAN and most <= MOST, (scale, mean, most)


def test_sides_that_are_no_multiple_cost_nothing(measured):
    for eighths in SIDES:
        assert measured[eighths, False][0] < measured[eighths, True][0] + 0.2


def test_the_table_in_the_docs_is_the_one_measured(measured):
    lines = ["| decoded at | sides | mean | largest |", "|---|---|---|---|"]
    for (eighths, multiple), (mean, most) in measured.items():
        sides = "x".join(map(str, SIDES[eighths][not multiple]))
        lines.append(f"| {eighths}/8 | {sides}{'' if multiple else ', no multiple'} | {mean:.2f} | {most} |")
    table = "\n".join(lines)
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    if os.environ.get("TLKIT_WRITE_DOCS"):
        DOCS.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
    assert table in DOCS.read_text(encoding="utf-8")


def test_a_smooth_picture_of_odd_sides_is_not_stretched():
    y, x = np.mgrid[0:2689, 0:3585]
    waves = np.stack([128 + 100 * np.sin(x / 40), 128 + 100 * np.cos(y / 40), 128 + 100 * np.sin((x + y) / 60)], -1)
    stream = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(stream, "JPEG", quality=97, subsampling=0)
    apart = np.abs(decode(stream.getvalue(), InputContract(height=SIDE, width=SIDE)) - whole(stream.getvalue()))
    assert apart.mean() < 0.5 and apart[:, 196:].mean() < 0.5


@pytest.mark.parametrize("size", [(30, 20), (224, 224), (7, 300), (1, 1)])
@pytest.mark.parametrize("shape", [(37, 45), (128, 128), (3, 500), (1, 1)])
def test_the_resize_of_numpy_is_the_one_of_the_library_to_the_byte(shape, size):
    pytest.importorskip("cykooz_resizer", reason="there is no build for this machine")
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes = [(0.0, 0.0, float(shape[1]), float(shape[0])), (0.25 * shape[1], 0.0, 0.75 * shape[1], float(shape[0]))]
    for box in boxes:
        assert np.array_equal(resize(pixels, size, box), resize_plainly(pixels, size, box)), box


@pytest.mark.parametrize("cut", [1, 2])
def test_a_missing_end_mark_alone_is_forgiven(cut, shared_data):
    for file in sorted(shared_data("hymenoptera").glob("train/*/*.jpg"))[:30]:
        content = file.read_bytes()
        contract = InputContract(height=64, width=64)
        assert np.array_equal(decode(content[:-cut], contract), decode(content, contract)), file.name


def test_damage_in_the_middle_is_noticed_in_most_photographs_and_nothing_sound_is_refused(shared_data):
    from tlkit.base.errors import UnreadableImage

    contract, random, noticed = InputContract(height=32, width=32), np.random.default_rng(0), 0
    files = sorted(shared_data("hymenoptera").glob("train/*/*.jpg"))[:40]
    for file in files:
        content = bytearray(file.read_bytes())
        decode(bytes(content), contract)
        middle = len(content) // 2
        content[middle : middle + 40] = random.integers(0, 256, 40, dtype=np.uint8).tobytes()
        try:
            decode(bytes(content), contract)
        except UnreadableImage as error:
            noticed += "damaged" in error.message or "cut short" in error.message
    assert noticed >= 30


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_pixels_is_cut_short(progressive):
    from tlkit.base.errors import UnreadableImage

    stream = io.BytesIO()
    Image.open(io.BytesIO(picture((336, 336)))).save(stream, "JPEG", quality=90, progressive=progressive)
    content = stream.getvalue()
    passes = [at for at in range(len(content) - 1) if content[at : at + 2] == b"\xff\xda"]
    lacking = (passes[2], passes[-1]) if progressive else ()
    for end in (len(content) // 2, len(content) - 100, *lacking):
        with pytest.raises(UnreadableImage, match="cut short"):
            decode(content[:end], InputContract(height=32, width=32))
    decode(content[:-2], InputContract(height=32, width=32))
