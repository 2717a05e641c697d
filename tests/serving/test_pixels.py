import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.serving.conftest import png
from tlkit.data.dataset import InputContract
from tlkit.data.decode import decode
from tlkit.serving.pixels import JPEG_SCANS, Limits, pillow_refuses, pixels
from tlkit.serving.problems import RequestProblem

CONTRACT = InputContract(height=16, width=16)
LIMITS = Limits(image_bytes=3_000_000, request_bytes=4_000_000, images=1, pixels=2_000_000, requests=1, seconds=1)


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def bounded():
    with pillow_refuses(LIMITS.pixels):
        yield


def kind_of(content):
    """The kind of problem, "" for pixels."""
    try:
        found = pixels(content, CONTRACT, LIMITS)
    except RequestProblem as problem:
        assert 400 <= problem.status < 500 and problem.__cause__ is None
        return problem.kind
    assert found.shape == (16, 16, 3) and found.dtype == np.uint8
    return ""


def test_the_pixels_are_those_of_training():
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    content = saved(Image.fromarray(noise), "JPEG")
    assert np.array_equal(pixels(content, CONTRACT, LIMITS), decode(content, CONTRACT))


def test_an_image_inside_an_image_is_bounded_too():
    inside = png(7, (1500, 1400))  # 2.1 million, in an icon that says 16 x 16
    icon = (
        b"\0\0\1\0\1\0"
        + bytes([16, 16, 0, 0, 1, 0, 32, 0])
        + len(inside).to_bytes(4, "little")
        + (22).to_bytes(4, "little")
    )
    assert kind_of(icon + inside) == "too-many-pixels"
    assert kind_of(png(7, (1500, 1400))) == "too-many-pixels" and kind_of(png(7, (1400, 1400))) == ""


def test_a_photograph_of_endless_scans_is_refused():
    photo = saved(Image.new("RGB", (64, 64), "grey"), "JPEG", progressive=True)
    assert kind_of(photo) == ""
    scan = photo[photo.rindex(b"\xff\xda") : -2]
    assert kind_of(photo[:-2] + scan * JPEG_SCANS + photo[-2:]) == "too-many-pixels"


def test_every_odd_image_is_read_or_refused(shared_file):
    kinds = [kind_of(path.read_bytes()) for path in sorted(shared_file("data/odd-images").iterdir())]
    assert len(kinds) > 200 and kinds.count("") > 100 and kinds.count("not-an-image") > 20
    assert "too-many-pixels" in kinds


def seeds():
    """One image of every format that can be written here."""
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    forms = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "ICO", "PPM", "TGA", "AVIF", "DDS", "SGI")
    return [saved(image, form) for form in forms]


SEEDS = seeds()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=8),
    st.none() | st.integers(0, 1 << 12),
)
def test_damaged_images_are_read_or_refused(seed, changes, cut):
    content = bytearray(seed)
    for place, gone, put in changes:
        content[place % len(content) : place % len(content) + gone] = put
    kind_of(bytes(content[:cut]))
